"""Runs the branches of a model at the same time, each on its share of a CPU's threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from typing import Protocol, TypeVar

import torch

T = TypeVar("T")


class BranchMap(Protocol):
    """Calls a function with the name of each branch, like `map`; see `side_by_side`."""

    def __call__(self, function: Callable[[str], T], names: Iterable[str], /) -> Iterable[T]:
        """Return what ``function`` returned, in the order of ``names``."""


def by_branch(each: BranchMap, function: Callable[[str], T], names: Iterable[str]) -> dict[str, T]:
    """Return what ``function`` returned for each name, by name."""
    chosen = list(names)
    return dict(zip(chosen, each(function, chosen), strict=True))


def share_of_threads(branches: int, device: torch.device) -> int:
    """Return how many of a CPU's threads each branch gets when `side_by_side` runs them."""
    return torch.get_num_threads() // _workers(branches, device)


def _workers(branches: int, device: torch.device) -> int:
    return min(branches, torch.get_num_threads()) if device.type == "cpu" else 1


@contextmanager
def side_by_side(branches: int, device: torch.device) -> Iterator[BranchMap]:
    """Yield a `map` over branches that, on a CPU, runs them at the same time, each on its share of the threads.

    Small maps leave a second thread mostly idle: two branches on one thread each are faster than one after the other
    on two. What a branch computes depends on its number of threads only, not on the branches beside it. Every thread
    records gradients if the caller does.
    """
    threads = torch.get_num_threads()
    workers, share = _workers(branches, device), share_of_threads(branches, device)
    if workers == 1:
        yield map
        return
    pool = _pool(workers, share)

    def together(function: Callable[[str], T], names: Iterable[str], /) -> Iterable[T]:
        gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

        def run(name: str) -> T:
            with torch.inference_mode(inference), torch.set_grad_enabled(gradients):  # each thread has its own
                return function(name)

        futures = [pool.submit(run, name) for name in names]
        try:
            wait(futures)
        finally:  # after an interrupt, no branch may still be working on what the caller uses next
            wait(futures)
        return [future.result() for future in futures]

    torch.set_num_threads(share)  # this thread's own workers would compete with the branches for cores
    try:
        yield together
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=8)
def _pool(workers: int, threads: int) -> ThreadPoolExecutor:
    """Return the pool with that many workers; it is kept because a new thread starts with cold caches and memory."""
    return ThreadPoolExecutor(workers, "branch", initializer=torch.set_num_threads, initargs=(threads,))


if hasattr(os, "register_at_fork"):  # a forked process inherits the pools, but none of their threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
