"""Paths that leave the data folder: by ``..`` in a manifest, or through a symbolic link."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path, PurePosixPath

from crdkit.data import Dataset, SampleRecord
from crdkit.errors import DataError


def refuse_links_outside(dataset: Dataset, records: Iterable[SampleRecord]) -> None:
    """Refuse samples of which a file lies in ``data.root`` by its path, but elsewhere once links are followed.

    ``data.root`` and the category's folder may be links themselves; with ``data.follow_links`` anything may be one.

    Raises:
        DataError: there is such a file; the message names it and where it leads.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from crdkit.data.adapters.folder import Folder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     secret, image = Path(folder, "secret.png"), Path(folder, "parts/rgb/0.png")
        ...     _ = secret.write_bytes(b"any"), image.parent.mkdir(parents=True), image.symlink_to(secret)
        ...     dataset = Folder(Folder.Config(root=Path(folder, "parts")))
        ...     try:
        ...         refuse_links_outside(dataset, dataset.records("test"))
        ...     except DataError as error:
        ...         print(str(error).partition(": ")[2])  # doctest: +ELLIPSIS
        leads out of the data folder, to ...secret.png; copy the file, or set data.follow_links=true
    """
    config = dataset.config
    if config.root is None or config.follow_links:
        return
    root, category = str(config.root.absolute()), config.category or ""
    homes = tuple(os.path.realpath(path) for path in (root, os.path.join(root, category)))
    real_folder = cache(os.path.realpath)  # thousands of files share a few folders
    for record in records:
        for path in map(str, dataset.files(record)):
            if not is_inside(path, root):
                continue  # an adapter of one's own may read from anywhere
            folder, name = os.path.split(path)
            target = os.path.realpath(path) if os.path.islink(path) else os.path.join(real_folder(folder), name)
            if not any(is_inside(target, home) for home in homes):
                raise DataError(
                    f"{path}: leads out of the data folder, to {target}; copy the file, or set data.follow_links=true"
                )


def path_inside(base: Path, text: str | PurePosixPath, *, folder: Path) -> Path | None:
    """Return the path without ``..`` of a file that a list names, or None if it leads out of ``folder``.

    Args:
        base: the folder that the list's paths are relative to.
        text: a path in the list.
        folder: the data folder, which no path may leave.

    Examples:
        >>> path_inside(Path("/data/gear"), "a/../0.png", folder=Path("/data/gear")).as_posix()
        '/data/gear/0.png'
        >>> path_inside(Path("/data/gear"), "../0.png", folder=Path("/data/gear"))
    """
    path = os.path.normpath(base / text)
    return Path(path) if is_inside(path, os.path.normpath(folder)) else None


def is_inside(path: str, folder: str) -> bool:
    """Return whether an absolute path without ``..`` lies in ``folder``, or is it.

    Examples:
        >>> is_inside("/data/gear/0.png", "/data/gear"), is_inside("/data/gears", "/data/gear")
        (True, False)
    """
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
