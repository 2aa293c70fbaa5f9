"""Functions of static buffers, captured once per size as a CUDA graph and replayed from then on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import torch

from crdkit.errors import ConfigError, first_line

WARM_UP = 2
"""Ordinary runs of each size before one is captured; they do real work, so the result is the same.

They create what a capture needs in place: the optimisers' state, cuDNN's choice of kernels, workspaces.
"""

T = TypeVar("T")
Run = Callable[[], T]


class Capture(Protocol):
    """Records what a function does on the device, without doing it, and returns a function that replays it."""

    def __call__(self, run: Run[T], /) -> Run[T]:
        """Return the replay of ``run``; it returns the same object at every call, overwritten by the next call."""


class Replays(Generic[T]):
    """Runs a function of static buffers directly at first, then replays its capture; one capture for each size.

    Args:
        capture: None to always run the function directly.
    """

    def __init__(self, capture: Capture | None) -> None:
        self._capture = capture
        self._replays: dict[int, Run[T]] = {}
        self._seen: Counter[int] = Counter()

    def __call__(self, size: int, run: Run[T]) -> T:
        """Return what ``run`` returns; for one ``size`` it must read and write the same buffers at every call.

        Raises:
            ConfigError: ``run`` cannot be captured.
        """
        if self._capture is None:
            return run()
        if size not in self._replays:
            self._seen[size] += 1
            if self._seen[size] <= WARM_UP:
                return run()
            self._replays[size] = self._capture(run)
        return self._replays[size]()


class CudaCapture:
    """Captures functions as CUDA graphs that share one memory pool.

    They may share it because nothing passes from one replay to the next through it: weights, statistics and the
    optimisers' state were allocated before, and results are read before the next replay.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()

    def __call__(self, run: Run[T], /) -> Run[T]:
        """Capture ``run`` on the current device.

        Raises:
            ConfigError: it does what a CUDA graph cannot hold, such as reading a value back to the host.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                result = run()
        except RuntimeError as error:
            first = error.__context__ or error  # ending a broken capture fails too, with a less useful message
            raise ConfigError(
                f"a step of this model cannot be captured as a CUDA graph: {first_line(first)}; use training.graph=off"
            ) from error

        def replay() -> T:
            graph.replay()
            return result

        return replay
