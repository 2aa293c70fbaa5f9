"""Visible progress: a bar with ETA on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Switch every bar and message of this process off (``True``) or on."""
    global _quiet
    _quiet = quiet


def say(message: str) -> None:
    """Print one line of progress to standard error, unless quiet."""
    if not _quiet:
        print(message, file=sys.stderr, flush=True)


def track(items: Iterable[T], *, description: str, total: int, every_s: float = 10.0) -> Iterator[T]:
    """Yield ``items`` while showing how far they got.

    Args:
        items: what to iterate over.
        description: the words before the bar.
        total: how many items there are.
        every_s: seconds between two plain lines where standard error is no terminal.
    """
    if _quiet:
        yield from items
    elif sys.stderr.isatty():
        yield from _bar(items, description=description, total=total)
    else:
        yield from _lines(items, description=description, total=total, every_s=every_s)


def _bar(items: Iterable[T], *, description: str, total: int) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(items, total=total, description=description)


def _lines(items: Iterable[T], *, description: str, total: int, every_s: float) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= every_s and done < total:
            last = now
            eta = (now - start) / done * (total - done)
            say(f"{description}: {done}/{total}, {eta:.0f} s left")
    elapsed = time.monotonic() - start
    if elapsed >= 2.0:
        say(f"{description}: {total}/{total} in {elapsed:.1f} s")
