"""A lock that many threads may share, or one holds alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class SharedLock:
    """Many threads share it, or one holds it alone; who waits to be alone goes before those who come to share.

    Not reentrant. A copy, also in another process, is a new lock that nobody holds.

    Examples:
        >>> lock = SharedLock()
        >>> with lock.shared(), lock.shared():
        ...     pass
        >>> with lock.alone():
        ...     pass
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._taken = False
        self._waiting = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock beside others who share it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken and not self._waiting)
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock while nobody else does."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: not self._taken and not self._sharing)
                self._taken = True
            finally:  # an interrupt may end the waiting
                self._waiting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()
