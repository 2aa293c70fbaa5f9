"""Atomic writes of files and folders, and tensors in safetensors files."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from crdkit._core.documents import parse_json
from crdkit.errors import CrdkitError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

PARTIAL = ".partial"
"""Suffix of the hidden name of a file or folder until it is complete; only a killed process leaves one behind."""
LOCK = ".lock"
"""Hidden file in a folder that a run is written to; see `crdkit._core.locks`."""
_HEADER = "crdkit"
_CHECKSUM = "sha256"


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` holds all of it, or what it held before.

    Raises:
        CrdkitError: the file cannot be written.
    """
    with new_file(path) as partial:
        partial.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, as `write_bytes` does.

    Raises:
        CrdkitError: the file cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a hidden sibling of ``path`` that replaces ``path`` at the end, or is deleted on any failure.

    Raises:
        CrdkitError: the file cannot be written.
    """
    partial = _partial(path)
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden sibling of ``path`` that becomes ``path`` at the end, or is deleted on any failure.

    Raises:
        CrdkitError: ``path`` exists and is not an empty folder, or cannot be written.
    """
    target = path.expanduser().resolve()
    partial = _partial(target)
    try:
        require_new_folder(path)
        partial.mkdir(parents=True)
        yield partial
        move_folder(partial, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def require_new_folder(path: Path) -> None:
    """Refuse a path that `new_folder` could not create, before any work is done.

    Raises:
        CrdkitError: ``path`` exists and is not an empty folder.
    """
    if not is_new_folder(path):
        raise CrdkitError(f"{path} exists and is not an empty folder; choose another one or delete it first")


def is_new_folder(path: Path) -> bool:
    """Return whether ``path`` does not exist or is an empty folder, see `is_empty`."""
    target = path.expanduser().resolve()
    return not target.exists() or is_empty(target)


def move_folder(folder: Path, path: Path) -> None:
    """Give a complete ``folder`` the name ``path``.

    Raises:
        CrdkitError: another process was quicker: it exists and is not an empty folder.
        OSError: it cannot be moved.
    """
    require_new_folder(path)
    target = path.expanduser().resolve()
    if target.exists():  # it is empty; some systems cannot rename onto an existing folder
        (target / LOCK).unlink(missing_ok=True)
        target.rmdir()
    folder.rename(target)


def is_empty(path: Path) -> bool:
    """Return whether ``path`` is a folder that holds nothing but the lock of a killed process, if that."""
    return path.is_dir() and all(entry.name == LOCK for entry in path.iterdir())


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], *, header: Mapping[str, Any] | None = None, checksum: bool = False
) -> None:
    """Write tensors, from whatever device they are on, and a header to a safetensors file, atomically by `new_file`.

    Args:
        path: of the file.
        tensors: by name.
        header: a JSON object beside them.
        checksum: add one of tensors and header to the header, for `require_checksum`.

    Raises:
        CrdkitError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    on_host = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if checksum:
        header = {**(header or {}), _CHECKSUM: _checksum(on_host, header or {})}
    metadata = None if header is None else {_HEADER: json.dumps(header)}
    with new_file(path) as partial:
        partial.touch()
        mode = partial.stat().st_mode  # as the umask has it, which safetensors does not heed
        try:
            save_file(on_host, partial, metadata=metadata)
        except SafetensorError as error:  # a full disk, for one
            reason = str(error).removeprefix("Error while serializing: ").removeprefix("I/O error: ")
            raise CrdkitError(f"{_final_name(path)}: cannot be written: {reason}") from error
        partial.chmod(mode)


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors of a file that `write_tensors` wrote, mapped from it, and its header, empty if it has none.

    Raises:
        OSError: the file is missing or cannot be opened.
        ValueError: it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is not a mapping
            header = parse_json((file.metadata() or {}).get(_HEADER, "{}"))
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if not isinstance(header, dict):
        raise ValueError(f"its header is {header!r:.80}, not a mapping")
    return tensors, header


def require_checksum(tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> None:
    """Refuse what `read_tensors` returned if it is not what `write_tensors` wrote with a checksum.

    Raises:
        ValueError: the checksum is missing or differs.
    """
    if _CHECKSUM not in header:
        raise ValueError("its checksum is missing")
    if header[_CHECKSUM] != _checksum(tensors, header):
        raise ValueError("its content is not what was written (the SHA-256 checksum differs)")


def _checksum(tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> str:
    """Return the SHA-256 checksum of contiguous tensors (names, dtypes, shapes, values) and the rest of the header."""
    import torch

    as_read = json.loads(json.dumps({key: value for key, value in header.items() if key != _CHECKSUM}))
    found = hashlib.sha256(json.dumps(as_read, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 checksum of a file in hexadecimal; it is read in pieces.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")


def _final_name(path: Path) -> Path:
    """Return the path that ``path`` has once every hidden folder on it is complete.

    Examples:
        >>> _final_name(Path("runs/.detector.0123abcd.partial/config.json")).as_posix()
        'runs/detector/config.json'
    """
    hidden = re.compile(rf"\.(.+)\.[0-9a-f]{{8}}{re.escape(PARTIAL)}")
    return Path(*(hidden.sub(r"\1", part) for part in path.parts))


def _cannot_write(path: Path, error: OSError) -> CrdkitError:
    return CrdkitError(f"{_final_name(path)}: cannot be written: {error.strerror or error}")


def below(prefix: str, named: Mapping[str, T]) -> dict[str, T]:
    """Return the entries whose name starts with ``prefix``, by the rest of that name.

    Examples:
        >>> below("a.", {"a.x": 1, "b.x": 2})
        {'x': 1}
    """
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
