"""A training step from static buffers, captured as a CUDA graph and replayed from then on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Protocol

import torch

from crdkit._core.capture import Capture, CaptureError, CudaCapture, Replays
from crdkit._core.device import fastest_convolutions, usual_convolutions
from crdkit.errors import CaptureWarning, ConfigError
from crdkit.model.crd import CRD
from crdkit.model.layers import Levels, Presence
from crdkit.training.config import TrainingConfig
from crdkit.training.losses import TermWeights

CAPTURE_PARTIAL = False
"""Whether the smaller last batch of an epoch has its kernels searched, and a graph; the benchmark measures both."""


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

    A smaller last batch uses the first rows of the same buffers. It comes once an epoch: it is run directly, and cuDNN
    does not time kernels for it. The returned losses of a replay are the graph's buffer: the next replay overwrites
    them.

    Args:
        step: what is run; whatever it changes must stay at the same address from step to step.
        rows: samples of the largest batch.
        capture: None to run every step directly.
        direct: the step as it is run where it is not captured; None: ``step``.
        required: whether a step that cannot be captured is an error.
        capture_partial: search kernels for smaller batches, too, and give each size a graph of its own.
    """

    def __init__(
        self,
        step: Step,
        *,
        rows: int,
        capture: Capture | None = None,
        direct: Step | None = None,
        required: bool = False,
        capture_partial: bool = False,
    ) -> None:
        self._step = step
        self._direct = direct or step
        self._rows = rows
        self._required = required
        self._capture_partial = capture_partial
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
        """Run one step; with ``weights``, which are not in a buffer, it is never a captured one.

        Raises:
            ConfigError: it cannot be captured, and that is ``required``.

        Warns:
            CaptureWarning: it cannot be captured; training goes on without a graph.
        """
        count = len(next(iter(features.values()))[0])
        inputs, shown = self._fill(features, present, count=count)
        rare = count < self._rows and not self._capture_partial
        if weights is None and not rare and self._replays.active:
            try:
                return self._replays(count, lambda: _run(self._step, inputs, present=shown))
            except CaptureError as error:
                if self._required:
                    raise
                warnings.warn(
                    CaptureWarning(f"{error}, or go on: training continues without a graph, step by step"), stacklevel=2
                )
        with usual_convolutions() if rare else nullcontext():
            return _run(self._direct, inputs, present=shown, weights=weights)

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
    """A `map` over branches that gives each a CUDA stream, so that independent branches overlap once captured.

    The streams begin after what is queued on the current stream, and what is queued there next waits for all. Each
    branch keeps its stream from step to step: memory that one frees is only reused in its own order. Before the
    capture, each branch ends before the next begins: cuDNN times its kernels then, and nothing else may be running.
    """

    def __init__(self, branches: int, device: torch.device) -> None:
        self._streams = [torch.cuda.Stream(device) for _ in range(branches)]

    def __call__(self, function: Callable[[str], torch.Tensor], names: Iterable[str]) -> list[torch.Tensor]:
        """Call ``function`` with each name, on that branch's stream."""
        main, results = torch.cuda.current_stream(self._streams[0].device), []
        captured = torch.cuda.is_current_stream_capturing()
        for name, stream in zip(names, self._streams, strict=True):
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                results.append(function(name))
            if not captured:
                stream.synchronize()
        for stream in self._streams:
            main.wait_stream(stream)
        return results


@contextmanager
def static_step(
    step: partial[torch.Tensor],
    model: CRD,
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    rows: int,
    graph: bool,
    required: bool,
) -> Iterator[StaticStep]:
    """Yield the step of a CUDA device, which is the current one meanwhile; with ``graph`` it becomes a replay.

    Args:
        step: `crdkit.training.step.train_step` without its batch; takes ``each_branch``.
        model: what it trains.
        optimizers: of its branches.
        rows: samples of the largest batch.
        graph: whether it is captured, with a stream for each branch.
        required: whether it is an error if that fails.
    """

    def drop_gradients() -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)

    device = model.device
    with torch.cuda.device(device), fastest_convolutions():
        if not graph:
            yield StaticStep(step, rows=rows, capture_partial=CAPTURE_PARTIAL)
            return
        yield StaticStep(
            partial(step, each_branch=BranchStreams(len(model.modalities), device)),
            rows=rows,
            capture=CudaCapture(device, undo=drop_gradients),
            direct=step,
            required=required,
            capture_partial=CAPTURE_PARTIAL,
        )


def _run(step: Step, inputs: Mapping[str, Sequence[torch.Tensor]], **options: Any) -> torch.Tensor:
    with _ignore_capturable_warning():
        return step(inputs, **options)


@contextmanager
def _ignore_capturable_warning() -> Iterator[None]:
    with warnings.catch_warnings():  # until it is captured, it warns that it is not
        warnings.filterwarnings("ignore", message=".*capturable=True", category=UserWarning)
        yield
