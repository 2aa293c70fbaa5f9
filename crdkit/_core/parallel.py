"""Runs work on items in threads, and yields the results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from functools import lru_cache
from itertools import islice
from typing import TypeVar

from crdkit._core.progress import track

S = TypeVar("S")
T = TypeVar("T")

MAX_WORKERS = 8


def map_in_order(
    work: Callable[[S], T], items: Sequence[S], *, workers: int | None, description: str
) -> Generator[T, None, None]:
    """Yield ``work(item)`` of each item in order, from threads at most a few items ahead, and show the progress.

    Closing it, by an exception too, cancels all that has not begun.

    Args:
        work: called from any thread.
        items: what to work on.
        workers: threads; None for one per core, 8 at most.
        description: the words before the progress bar.
    """
    with closing(in_order(work, items, workers=workers)) as outcomes:
        yield from track(outcomes, description=description, total=len(items))


def in_order(work: Callable[[S], T], items: Iterable[S], *, workers: int | None) -> Generator[T, None, None]:
    """Yield ``work(item)`` of each item in order, from threads; ``items`` are taken at most a few ahead of the caller.

    Closing it, by an exception too, cancels all that has not begun.

    Args:
        work: called from any thread.
        items: what to work on; iterated over in the caller's thread.
        workers: threads; None for one per core, 8 at most.
    """
    workers = workers or min(MAX_WORKERS, _cores())
    executor = ThreadPoolExecutor(workers, thread_name_prefix="crdkit-decode")
    waiting = iter(items)
    try:
        running: deque[Future[T]] = deque(executor.submit(work, item) for item in islice(waiting, 2 * workers))
        while running:
            result = running.popleft().result()
            running.extend(executor.submit(work, item) for item in islice(waiting, 1))
            yield result
    finally:
        executor.shutdown(cancel_futures=True)


def together(work: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """Return ``work(item)`` of each of a few items, all at the same time, the first of them in the caller's thread.

    Examples:
        >>> together(len, ["a", "bb"])
        [1, 2]
    """
    first, *others = items
    futures = [_pool().submit(work, item) for item in others]
    try:
        return [work(first), *(future.result() for future in futures)]
    finally:  # what the caller does next may need what they use
        wait(futures)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Return threads that are kept: a new one costs more than what it is given to do."""
    return ThreadPoolExecutor(MAX_WORKERS, "crdkit-view")


if hasattr(os, "register_at_fork"):  # a forked process inherits the pool, but none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _cores() -> int:
    # a container or taskset may allow fewer cores than the machine has
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
