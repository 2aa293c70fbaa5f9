"""Ctrl-C and SIGTERM: noted when they come, and acted upon once nothing is lost by it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """The signal that has come, if any, and what would have handled it."""

    def __init__(self) -> None:
        self._noted: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def pending(self) -> bool:
        """Whether a signal is waiting to be delivered."""
        return self._noted is not None

    def deliver(self) -> None:
        """Hand the waiting signal, if there is one, to what would have handled it: Python raises KeyboardInterrupt."""
        noted, self._noted = self._noted, None
        if noted is None:
            return
        self.ignore()
        signal.raise_signal(noted)
        self.watch()  # whoever handled it wants to go on

    def watch(self) -> None:
        """Note the signals from now on, but those that are ignored, and only where Python can: in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._before[number] = signal.signal(number, self._note)

    def ignore(self) -> None:
        """Leave the signals to whatever handled them before."""
        while self._before:
            signal.signal(*self._before.popitem())

    def _note(self, number: int, _frame: FrameType | None) -> None:
        again = self.pending
        self._noted = number
        if again:  # somebody does not want to wait
            self.deliver()


@contextmanager
def noted_signals(wanted: bool) -> Iterator[Interruption]:
    """Note Ctrl-C and SIGTERM for the block, if that is ``wanted``; a second one is delivered at once.

    One that is still waiting at the end is delivered there.
    """
    interruption = Interruption()
    if wanted:
        interruption.watch()
    try:
        yield interruption
    finally:
        interruption.ignore()
    interruption.deliver()
