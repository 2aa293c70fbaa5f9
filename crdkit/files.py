"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from crdkit.errors import CrdkitError

T = TypeVar("T")

PARTIAL = ".partial"
"""Ends the hidden name that a file or folder has until it is whole; only a killed process leaves one behind."""


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
    """Give a hidden sibling of ``path`` that replaces ``path`` at the end, or goes away on any failure.

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
    """Give a hidden sibling of ``path`` that becomes ``path`` at the end, or goes away on any failure.

    Raises:
        CrdkitError: ``path`` exists and is not an empty folder, or cannot be written.
    """
    target = path.expanduser().resolve()
    partial = _partial(target)
    try:
        require_new_folder(path)
        partial.mkdir(parents=True)
        yield partial
        if target.exists():
            target.rmdir()  # empty; where a rename replaces no folder it would stand in the way
        partial.rename(target)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def require_new_folder(path: Path) -> None:
    """Refuse what `new_folder` could not become, before any work is done.

    Raises:
        CrdkitError: ``path`` exists and is not an empty folder.
    """
    target = path.expanduser().resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CrdkitError(f"{path} exists and is not an empty folder; choose another one or delete it first")


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")


def _cannot_write(path: Path, error: OSError) -> CrdkitError:
    return CrdkitError(f"{path}: cannot be written: {error.strerror or error}")


def below(prefix: str, named: Mapping[str, T]) -> dict[str, T]:
    """Return what has a name in a file that starts with ``prefix``, by the rest of its name.

    Examples:
        >>> below("a.", {"a.x": 1, "b.x": 2})
        {'x': 1}
    """
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
