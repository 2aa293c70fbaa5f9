"""One writer per folder: a lock of the operating system, which goes away with its process, however that ends."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from crdkit._core.distributed import claim
from crdkit._core.files import LOCK
from crdkit.errors import CrdkitError


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Create ``folder`` if need be, and keep every other process that asks for it out until the block ends.

    The lock is on a hidden file in the folder, which is removed at the end. One that a killed process left behind is
    free, and does not count where a folder must be empty.

    Raises:
        CrdkitError: another process holds it, or the folder cannot be written.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as scratch, hold(Path(scratch)):
        ...     with hold(Path(scratch)):  # doctest: +ELLIPSIS
        ...         pass
        Traceback (most recent call last):
            ...
        crdkit.errors.CrdkitError: /...: is being written by another run (process ...); wait until it ends, or ...
    """
    file = folder / LOCK
    created = not folder.exists()
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if created:
                held.callback(_remove, folder.rmdir)  # if nothing was written
            # a file that its holder has just removed is no lock
            ours = held.enter_context(claim(file)) and file.exists()
            if ours:
                held.callback(_remove, file.unlink)  # while it is still held
                file.write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8")
        except OSError as error:
            raise CrdkitError(f"{folder}: cannot be written: {error.strerror or error}") from error
        if not ours:
            raise CrdkitError(
                f"{folder}: is being written by another run{_owner(file)}; wait until it ends, or choose another folder"
            )
        yield


def _remove(remove: Callable[[], None]) -> None:
    with suppress(OSError):
        remove()


def _owner(file: Path) -> str:
    try:
        found = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):  # on some systems a locked file cannot be read
        return ""
    return f" ({found})" if found else ""
