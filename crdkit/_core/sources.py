"""Which files of code have changed since this process loaded them: what they say now is not what runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

State = tuple[int, int, int]

ROOMS = ("data", "views")
"""The rooms of crdkit whose code decides what a view is."""
PACKAGE = Path(__file__).absolute().parents[1]

_BEGAN = time.time_ns()
"""When crdkit was imported; a file whose loading was not seen must be older."""


def state(path: Path | str) -> State:
    """Return size and times of the last change of content and of metadata, ns; zeros for a missing file."""
    try:
        found = Path(path).stat()
    except OSError:
        return 0, 0, 0
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


_loaded: dict[str, State | None] = {
    str(file): state(file) for room in ROOMS for file in (PACKAGE / room).rglob("*.py")
}  # before any of them is imported
"""The state of files whose loading was seen, right after it; None if they changed meanwhile."""


def module_file(module: ModuleType) -> Path | None:
    """Return the file that a module was loaded from, if it has one."""
    file = getattr(module, "__file__", None)
    return Path(file).absolute() if isinstance(file, str) else None


def note_loading(module: ModuleType, *, since: int | None = None) -> None:
    """Remember the file of a module that is being loaded, as it is now.

    Args:
        module: it.
        since: when loading began, ns; a file that changed after that may not be what was loaded.
    """
    file = module_file(module)
    if file is not None:
        now = state(file)
        _loaded[str(file)] = None if since is not None and max(now[1:]) > since else now


@contextmanager
def noting_imports() -> Iterator[None]:
    """Remember the file of every module that is imported inside."""
    began, before = time.time_ns(), set(sys.modules)
    try:
        yield
    finally:
        for name in set(sys.modules) - before:
            module = sys.modules.get(name)
            if module is not None:
                note_loading(module, since=began)


def has_changed(path: Path | str) -> bool:
    """Return whether a file may have changed, or be gone, since it was loaded.

    Examples:
        >>> has_changed(__file__)
        False
    """
    now = state(path)
    if str(path) in _loaded:
        return now != _loaded[str(path)]
    return now == (0, 0, 0) or max(now[1:]) > _BEGAN
