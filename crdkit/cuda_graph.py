"""A training step from static buffers, captured once per batch size as a CUDA graph and replayed from then on."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import torch

from crdkit.config import TrainingConfig
from crdkit.errors import ConfigError, first_line
from crdkit.layers import Levels
from crdkit.losses import TermWeights
from crdkit.presence import Presence

WARM_UP = 2
"""Steps of each batch size that run as they are before one is captured: real steps, so the result is not changed.

They make what a capture must find: the optimisers' state, cuDNN's choice of kernels, workspaces, compiled code.
"""

T = TypeVar("T")
Run = Callable[[], T]


class Capture(Protocol):
    """Records what a function does on the device, without doing it, and returns what does it again, every time."""

    def __call__(self, run: Run[T], /) -> Run[T]:
        """Return the replay of ``run``; what it returns is the same at every call, and overwritten by the next."""


class Step(Protocol):
    """A training step on one batch; see `crdkit.step.train_step`."""

    def __call__(
        self,
        features: Mapping[str, Sequence[torch.Tensor]],
        *,
        present: Presence | None = None,
        weights: Mapping[str, TermWeights] | None = None,
    ) -> torch.Tensor:
        """Return the (modalities, terms) losses."""


def uses_graph(config: TrainingConfig, device: torch.device, *, ranks: int = 1) -> bool:
    """Return whether steps are captured as CUDA graphs on ``device`` when ``ranks`` processes train one detector.

    Raises:
        ConfigError: the config asks for it where it cannot be.
    """
    if config.graph == "on" and device.type != "cuda":
        raise ConfigError(
            f"training.graph=on needs a CUDA device, but the device is {device}; use training.graph=auto or off"
        )
    if config.graph == "on" and ranks > 1:
        raise ConfigError(
            f"training.graph=on: {ranks} ranks that train one detector exchange gradients within each step, which is "
            "not captured; use training.graph=auto or off"
        )
    return config.graph != "off" and device.type == "cuda" and ranks == 1


class StaticStep:
    """Copies each batch into buffers of its own and runs the step there; with ``capture``, later steps are replays.

    A smaller last batch uses the first rows of the same buffers, and a graph of its own. The returned losses of a
    replay are the graph's buffer: the next replay overwrites them.

    Args:
        step: what is run; whatever it changes must lie where it lay in the step before.
        rows: samples of the largest batch.
        capture: None to run every step as it is.
    """

    def __init__(self, step: Step, *, rows: int, capture: Capture | None = None) -> None:
        self._step = step
        self._rows = rows
        self._capture = capture
        self._features: dict[str, Levels] = {}
        self._present: dict[str, torch.Tensor] = {}
        self._replays: dict[int, Run[torch.Tensor]] = {}
        self._seen: Counter[int] = Counter()

    def __call__(
        self,
        features: Mapping[str, Sequence[torch.Tensor]],
        *,
        present: Presence | None = None,
        weights: Mapping[str, TermWeights] | None = None,
    ) -> torch.Tensor:
        """Run one step; with ``weights``, which are in no buffer, it is never a captured one."""
        count = len(next(iter(features.values()))[0])
        inputs, shown = self._fill(features, present, count=count)
        if self._capture is None or weights is not None:
            return self._step(inputs, present=shown, weights=weights)
        if count not in self._replays:
            self._seen[count] += 1
            if self._seen[count] <= WARM_UP:
                with _no_word_of_capturable():
                    return self._step(inputs, present=shown)
            self._replays[count] = self._capture(lambda: self._step(inputs, present=shown))
        return self._replays[count]()

    def _fill(
        self, features: Mapping[str, Sequence[torch.Tensor]], present: Presence | None, *, count: int
    ) -> tuple[dict[str, Levels], Presence | None]:
        """Copy a batch into the buffers, and return the rows that it fills."""
        if not self._features:
            self._features = {name: [self._buffer(level) for level in levels] for name, levels in features.items()}
            self._present = {name: has.new_empty(self._rows) for name, has in (present or {}).items()}
        for name, levels in features.items():
            for buffer, level in zip(self._features[name], levels, strict=True):
                buffer[:count].copy_(level)
        for name, has in (present or {}).items():
            self._present[name][:count].copy_(has)
        inputs = {name: [buffer[:count] for buffer in buffers] for name, buffers in self._features.items()}
        return inputs, {name: has[:count] for name, has in self._present.items()} or None

    def _buffer(self, level: torch.Tensor) -> torch.Tensor:
        shape = (self._rows, *level.shape[1:])
        return torch.empty(shape, device=level.device, dtype=torch.float32, memory_format=torch.channels_last)


class CudaCapture:
    """Captures functions as CUDA graphs that share one memory pool.

    They may share it because nothing passes from one replay to the next through it: weights, statistics and the
    optimisers' state were made before, and losses are read before the next replay.
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
            first = error.__context__ or error  # ending a broken capture fails too, and says less
            reason = first_line(first)
            raise ConfigError(
                f"a step of this model cannot be captured as a CUDA graph: {reason}; use training.graph=off"
            ) from error

        def replay() -> T:
            graph.replay()
            return result

        return replay


class BranchStreams:
    """A `map` over branches that gives each a CUDA stream, so that independent branches overlap.

    The streams begin after what is queued on the current stream, and what is queued there next waits for all. Each
    branch keeps its stream from step to step: memory that one frees is only reused in its own order.
    """

    def __init__(self, branches: int) -> None:
        self._streams = [torch.cuda.Stream() for _ in range(branches)]

    def __call__(self, function: Callable[[str], torch.Tensor], names: Iterable[str]) -> list[torch.Tensor]:
        """Call ``function`` with each name, on that branch's stream."""
        main = torch.cuda.current_stream()
        results = []
        for name, stream in zip(names, self._streams, strict=True):
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                results.append(function(name))
        for stream in self._streams:
            main.wait_stream(stream)
        return results


@contextmanager
def fastest_convolutions() -> Iterator[None]:
    """Let cuDNN time its kernels once per shape, unless the caller wants deterministic ones."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or not torch.backends.cudnn.deterministic
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def _no_word_of_capturable() -> Iterator[None]:
    with warnings.catch_warnings():  # the optimiser warns that it is not captured: it soon will be
        warnings.filterwarnings("ignore", message=".*capturable=True", category=UserWarning)
        yield
