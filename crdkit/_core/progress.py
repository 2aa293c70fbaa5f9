"""Visible progress: a bar with ETA on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from crdkit._core.printable import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress, TaskID

T = TypeVar("T")
Note = Callable[[], Sequence[str]]
"""Returns what is known so far, in lines."""

_quiet = False
_bars: Progress | None = None  # the terminal's only display, while an overall bar is shown


def set_quiet(quiet: bool) -> None:
    """Switch every bar and message of this process off (``True``) or on."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Return whether bars and messages are off."""
    return _quiet


def say(message: str) -> None:
    """Print one line of progress to standard error, unless quiet."""
    if not _quiet:
        print(printable(message), file=sys.stderr, flush=True)


def track(
    items: Iterable[T], *, description: str, total: int, every_s: float = 10.0, note: Note = tuple
) -> Iterator[T]:
    """Yield ``items`` while showing how far they got.

    Args:
        items: what to iterate over.
        description: the words before the bar.
        total: how many items there are.
        every_s: seconds between two plain lines if standard error is not a terminal.
        note: what to show below the bar, or behind the line; asked whenever it is shown.
    """
    if _quiet:
        yield from items
    elif sys.stderr.isatty():
        yield from _bar(items, description=description, total=total, note=note)
    else:
        yield from _lines(items, description=description, total=total, every_s=every_s, note=note)


class Overall:
    """Progress over long tasks that show their own; see `overall`."""

    def __init__(self, description: str, *, total: int, done: int, every_s: float) -> None:
        self._description, self._total, self._every = description, total, every_s
        self._first = self._done = done
        self._start = self._said = time.monotonic()
        self._task: TaskID | None = None
        if _bars is not None:
            self._task = _bars.add_task(description, total=total, completed=done, left="")
        elif done:
            say(f"{description}: {done}/{total} done before")

    def update(self, done: int) -> None:
        """Show that ``done`` of all tasks are done; the time left is estimated from those done since the start."""
        if done == self._done:
            return
        self._done, now = done, time.monotonic()
        elapsed = now - self._start
        left = elapsed / max(done - self._first, 1) * (self._total - done)
        if _bars is not None and self._task is not None:
            _bars.update(self._task, completed=done, left=f"{left:.0f} s")
        elif not left or now - self._said >= self._every:
            self._said = now
            say(
                f"{self._description}: {done}/{self._total}{f', {left:.0f} s left' if left else f' in {elapsed:.1f} s'}"
            )


@contextmanager
def overall(description: str, *, total: int, done: int = 0, every_s: float = 0.0) -> Iterator[Overall]:
    """Show progress over tasks that may each call `track`: both bars on a terminal, elsewhere a line per task.

    Args:
        description: the words before the bar.
        total: how many tasks there are.
        done: how many of them were done before.
        every_s: seconds between two plain lines if standard error is not a terminal.
    """
    global _bars
    if _quiet or not sys.stderr.isatty():
        yield Overall(description, total=total, done=done, every_s=every_s)
        return
    with _new_bars() as _bars:
        try:
            yield Overall(description, total=total, done=done, every_s=every_s)
        finally:
            _bars = None


def _bar(items: Iterable[T], *, description: str, total: int, note: Note) -> Iterator[T]:
    if _bars is None:
        with _new_bars() as progress:
            yield from progress.track(items, task_id=progress.add_task(description, total=total, note=note))
        return
    task = _bars.add_task(description, total=total, note=note)
    try:
        yield from _bars.track(items, task_id=task)
    finally:
        _bars.remove_task(task)


def _new_bars() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Left(TimeRemainingColumn):
        """The time left as a task reports it, else as rich estimates it."""

        def render(self, task: Task) -> Text:
            return Text(task.fields["left"]) if "left" in task.fields else super().render(task)

    class Bars(Progress):
        """Bars, and below them the notes of their tasks."""

        def get_renderables(self) -> Iterable[RenderableType]:
            yield from super().get_renderables()
            for task in self.tasks:
                for line in task.fields.get("note", tuple)():
                    yield Text(f"  {printable(line)}", style="dim")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        Left(),
    )
    # the current stream: what redirects it later must not capture the bars
    return Bars(*columns, console=Console(file=sys.stderr))


def _lines(items: Iterable[T], *, description: str, total: int, every_s: float, note: Note) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= every_s and done < total:
            last = now
            eta = (now - start) / done * (total - done)
            say("; ".join([f"{description}: {done}/{total}, {eta:.0f} s left", *note()]))
    elapsed = time.monotonic() - start
    if elapsed >= 2.0:
        say("; ".join([f"{description}: {total}/{total} in {elapsed:.1f} s", *note()]))
