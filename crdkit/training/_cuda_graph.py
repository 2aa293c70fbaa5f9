"""A training step from static buffers, captured once per batch size as a CUDA graph and replayed from then on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch

from crdkit._core.capture import Capture, Replays
from crdkit.errors import ConfigError
from crdkit.model.layers import Levels, Presence
from crdkit.training.config import TrainingConfig
from crdkit.training.losses import TermWeights


class Step(Protocol):
    """A training step on one batch; see `crdkit.training.step.train_step`."""

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
        ConfigError: the config asks for it where it is impossible.
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
    """Copies each batch into its own buffers and runs the step there; with ``capture``, later steps are replays.

    A smaller last batch uses the first rows of the same buffers, and a graph of its own. The returned losses of a
    replay are the graph's buffer: the next replay overwrites them.

    Args:
        step: what is run; whatever it changes must stay at the same address from step to step.
        rows: samples of the largest batch.
        capture: None to run every step directly.
    """

    def __init__(self, step: Step, *, rows: int, capture: Capture | None = None) -> None:
        self._step = step
        self._rows = rows
        self._features: dict[str, Levels] = {}
        self._present: dict[str, torch.Tensor] = {}
        self._replays: Replays[torch.Tensor] = Replays(capture)

    def __call__(
        self,
        features: Mapping[str, Sequence[torch.Tensor]],
        *,
        present: Presence | None = None,
        weights: Mapping[str, TermWeights] | None = None,
    ) -> torch.Tensor:
        """Run one step; with ``weights``, which are not in a buffer, it is never a captured one."""
        count = len(next(iter(features.values()))[0])
        inputs, shown = self._fill(features, present, count=count)
        if weights is not None:
            return self._step(inputs, present=shown, weights=weights)

        def run() -> torch.Tensor:
            with _ignore_capturable_warning():
                return self._step(inputs, present=shown)

        return self._replays(count, run)

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
def _ignore_capturable_warning() -> Iterator[None]:
    with warnings.catch_warnings():  # until it is captured, it warns that it is not
        warnings.filterwarnings("ignore", message=".*capturable=True", category=UserWarning)
        yield
