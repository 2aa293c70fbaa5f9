"""Functions of static buffers, captured once per size as a CUDA graph and replayed from then on."""

from __future__ import annotations

import gc
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import nullcontext, suppress
from typing import Generic, Literal, Protocol, TypeVar

import torch

from crdkit._core.device import fastest_convolutions
from crdkit.errors import ConfigError, first_line

WARM_UP = 2
"""Ordinary runs of each size before one is captured; they do real work, so the result is the same.

They create what a capture needs in place: the optimisers' state, cuDNN's choice of kernels, workspaces.
"""

T = TypeVar("T")
Run = Callable[[], T]

_one_at_a_time = threading.Lock()  # PyTorch's rule for a process: to begin a capture breaks another that is under way
_END_ROUTING = ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool")  # the name until torch 2.6


class CaptureError(ConfigError):
    """A function does what a CUDA graph cannot hold, such as reading a value back to the host."""


class Capture(Protocol):
    """Records what a function does on the device, without doing it, and returns a function that replays it."""

    def warm_up(self, run: Run[T], /, *, last: bool) -> T:
        """Run a function as it will be captured; the ``last`` time before that."""

    def __call__(self, run: Run[T], /) -> Run[T]:
        """Return the replay of ``run``; it returns the same object at every call, overwritten by the next call."""


class Replays(Generic[T]):
    """Runs a function of static buffers directly at first, then replays its capture; one capture for each size.

    Args:
        capture: None to always run the function directly.
    """

    def __init__(self, capture: Capture | None) -> None:
        self._capture = capture
        self._replays: dict[Hashable, Run[T]] = {}
        self._seen: Counter[Hashable] = Counter()

    @property
    def active(self) -> bool:
        """Whether functions are captured."""
        return self._capture is not None

    def __call__(self, size: Hashable, run: Run[T]) -> T:
        """Return what ``run`` returns; for one ``size`` it must read and write the same buffers at every call.

        Raises:
            CaptureError: ``run`` cannot be captured; from then on every function is run directly.
        """
        if self._capture is None:
            return run()
        if size not in self._replays:
            self._seen[size] += 1
            if self._seen[size] <= WARM_UP:
                return self._capture.warm_up(run, last=self._seen[size] == WARM_UP)
            try:
                self._replays[size] = self._capture(run)
            except CaptureError:
                self._capture, self._replays = None, {}
                raise
        return self._replays[size]()


class CudaCapture:
    """Captures functions as CUDA graphs of one device, which share one memory pool.

    They may share it because nothing passes from one replay to the next through it: weights, statistics and the
    optimisers' state were allocated before, and results are read before the next replay.

    Args:
        device: that the functions work on; it need not be the current one.
        mode: which calls of this program break a capture: unsafe ones of any thread, or of the capturing thread only.
        undo: called after a failed capture; lets go of what the function has left in the capture's memory, such as
            gradients.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        mode: Literal["global", "thread_local"] = "global",
        undo: Callable[[], None] = lambda: None,
    ) -> None:
        self._device, self._mode, self._undo = device, mode, undo
        self._captured = 0
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()
            self._stream = torch.cuda.Stream(device)

    def warm_up(self, run: Run[T], /, *, last: bool) -> T:
        """Run a function on the capture's stream, which gives libraries their workspaces there; search kernels last."""
        with torch.cuda.device(self._device):
            around = torch.cuda.current_stream()
            self._stream.wait_stream(around)
            with torch.cuda.stream(self._stream), fastest_convolutions() if last else nullcontext():
                result = run()
            around.wait_stream(self._stream)
        return result

    def __call__(self, run: Run[T], /) -> Run[T]:
        """Capture ``run`` on the device. If that fails, everything is as it was before.

        Raises:
            CaptureError: it does what a CUDA graph cannot hold, or there is no memory for it.
        """
        with _one_at_a_time, torch.cuda.device(self._device):
            graph, around = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
            raised: list[BaseException] = []
            try:
                # the graph's own context leaves its stream current if it ends with an error
                with (
                    fastest_convolutions(),
                    torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode=self._mode),
                ):
                    result = self._noting(run, raised)
            except BaseException as error:
                torch.cuda.set_stream(around)
                first = raised[0] if raised else error  # ending a broken capture fails too, with a less useful message
                self._clean_up(graph, (first, error))
                if not isinstance(first, RuntimeError):
                    raise first from None
                raise CaptureError(
                    f"a step of this model cannot be captured as a CUDA graph: {first_line(first)}; "
                    "use training.graph=off"
                ) from first
            self._captured += 1

        def replay() -> T:
            with torch.cuda.device(self._device):
                graph.replay()
            return result

        return replay

    def _noting(self, run: Run[T], raised: list[BaseException]) -> T:
        try:
            return run()
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            torch.cuda.set_stream(self._stream)  # a capture must end on the stream that it began on

    def _clean_up(self, graph: torch.cuda.CUDAGraph, errors: tuple[BaseException, ...]) -> None:
        """Undo what a failed capture leaves behind, which differs from one release of torch to the next.

        The allocator may go on to believe in a capture, and then frees no memory that two streams have used; the
        broken pool may keep its memory; and the random generator may refuse to work outside a capture.
        """
        for error in errors:
            traceback.clear_frames(error.__traceback__)  # they hold activations
        self._undo()
        gc.collect()
        index, pool = torch.cuda.current_device(), self._pool
        self._pool = torch.cuda.graph_pool_handle()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in _END_ROUTING:
                with suppress(AttributeError, RuntimeError):  # not in this release; or it has been ended
                    getattr(torch._C, name)(index, pool)
            with suppress(RuntimeError):
                graph.reset()
            if not self._captured:
                _release(pool, index)
            with suppress(RuntimeError):
                _capture_nothing(self._stream)


def _release(pool: tuple[int, int], device: int) -> None:
    """Release a pool that no graph uses, if it still keeps memory that is free: releasing it twice would break it."""
    torch.cuda.empty_cache()
    kept = [part for part in torch.cuda.memory_snapshot() if tuple(part.get("segment_pool_id", ())) == tuple(pool)]
    if kept and not any(part["active_size"] for part in kept):
        with suppress(AttributeError, RuntimeError):
            torch._C._cuda_releasePool(device, pool)
        torch.cuda.empty_cache()


def _capture_nothing(stream: torch.cuda.Stream) -> None:
    """Capture one tiny kernel: the end of a capture is what takes the random generators out of it."""
    kernel, graph = _tiny_kernel(stream.device), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        kernel()
    graph.reset()


def _tiny_kernel(device: torch.device) -> Callable[[], object]:
    return torch.zeros(1, device=device).zero_
