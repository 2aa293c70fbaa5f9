"""Trains the students of a CRD on the teacher features of anomaly-free samples."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from crdkit._core.branches import side_by_side
from crdkit._core.device import to_device
from crdkit._core.distributed import Ranks
from crdkit._core.interruption import noted_signals
from crdkit._core.progress import track
from crdkit.model.crd import CRD
from crdkit.model.layers import Presence
from crdkit.training._checkpoint import Checkpoints, Partial, stop_if_asked
from crdkit.training._checks import require_two_values_per_channel
from crdkit.training._cuda_graph import Step, static_step, uses_graph
from crdkit.training._data_parallel import (
    average,
    average_statistics,
    own_order,
    own_rows,
    replicate,
    term_weights,
)
from crdkit.training._features import TeacherFeatures
from crdkit.training._finite import StepLosses, require_finite_weights
from crdkit.training.config import TrainingConfig
from crdkit.training.dropout import draw_presence, restrict
from crdkit.training.epochs import EpochLog, epoch_log, last_in_words
from crdkit.training.losses import TERMS
from crdkit.training.shift import draw_shifts
from crdkit.training.step import build_objectives, build_optimizers, set_learning_rate, train_step


def learning_rate(config: TrainingConfig, epoch: int) -> float:
    """Return the learning rate of ``epoch``, counted from 0.

    Examples:
        >>> learning_rate(TrainingConfig(learning_rate=1.0, schedule="cosine", epochs=10), 5)
        0.5
    """
    factor = {
        "exponential": config.gamma**epoch,
        "cosine": 0.5 * (1 + math.cos(math.pi * epoch / config.epochs)),
        "constant": 1.0,
    }[config.schedule]
    return config.learning_rate * factor


def train(
    model: CRD,
    features: TeacherFeatures,
    config: TrainingConfig,
    *,
    samples: int,
    on_epoch: Callable[[EpochLog], None],
    sensors: Mapping[str, Sequence[str]] | None = None,
    known: Presence | None = None,
    checkpoints: Checkpoints | None = None,
    ranks: Ranks | None = None,
) -> None:
    """Train every branch of ``model`` in place and leave it in eval mode.

    Args:
        model: on the device that holds the features.
        features: teacher features of the training split.
        config: epochs, optimiser, seed.
        samples: how many samples the split has; a last partial batch is used too.
        on_epoch: called with every epoch's means, after the one synchronisation of the epoch.
        sensors: what each modality needs, for ``modality_dropout``: modalities of one sensor are hidden together;
            None: each has a sensor of its own.
        known: which samples have each modality, (samples,) bool; None: all.
        checkpoints: where to resume from, if there is one, and where rank 0 keeps the newest; logs of epochs that were
            trained before are passed to ``on_epoch`` again.
        ranks: processes that train this model together, each with all features, inside `Ranks.group`; None: alone.

    Raises:
        ConfigError: a batch would hold one sample, and a map one position: nothing to normalise over. Or the step
            cannot be captured as the config asks.
        CrdkitError: a loss is not finite.

    Warns:
        CaptureWarning: steps cannot be captured as a CUDA graph; training goes on without one.

    Examples:
        >>> from crdkit.model import CrossmodalGraph
        >>> from crdkit.model.encoders.timm import TimmConfig, TimmEncoder
        >>> from crdkit.model.student import StudentConfig
        >>> teacher = TimmEncoder(TimmConfig(model="test_resnet", layers=(1, 2), pretrained=False))
        >>> graph, small = CrossmodalGraph(modalities=("rgb",)), StudentConfig(depths=1)
        >>> model = CRD(specs={"rgb": teacher.spec(32)}, graph=graph, student=small, teachers={"rgb": teacher})
        >>> features = TeacherFeatures(model, {"rgb": torch.rand(4, 3, 32, 32)}, batch_size=4)
        >>> logs = []
        >>> train(model, features, TrainingConfig(epochs=2, batch_size=2), samples=4, on_epoch=logs.append)
        >>> [log["epoch"] for log in logs], list(logs[0]["losses"]["rgb"])
        ([1, 2], ['filter', 'amplifier', 'decoder', 'output'])
    """
    ranks = ranks or Ranks()
    device = model.device
    captured = uses_graph(config, device, ranks=ranks.world_size)
    model.train()
    require_two_values_per_channel(model, config, samples=samples, ranks=ranks)
    model.branches.to(memory_format=torch.channels_last)  # fastest for convolutions, and the features' layout
    optimizers = build_optimizers(model, config, capturable=captured)
    generator = torch.Generator().manual_seed(config.seed)
    history = [] if checkpoints is None else checkpoints.restore(model.branches, optimizers, generator)
    for log in history:
        on_epoch(log)
    remaining = range(len(history), config.epochs)
    alone = checkpoints is not None and ranks.world_size == 1
    with (
        noted_signals(alone) as interruption,
        _prepared_step(model, optimizers, config, rows=min(config.batch_size, samples), ranks=ranks) as step,
    ):
        note = partial(last_in_words, history, samples=samples)
        for epoch in track(remaining, description="training", total=len(remaining), note=note):
            start = time.perf_counter()
            rate = learning_rate(config, epoch)
            set_learning_rate(optimizers, rate)
            before = torch.Generator()
            before.set_state(generator.get_state())
            drawn = _draw_epoch(model, config, samples, generator, sensors=sensors, known=known)
            begun = None if checkpoints is None else checkpoints.take_partial()
            start -= 0.0 if begun is None else begun.seconds
            steps, first = math.ceil(samples / config.batch_size), 0 if begun is None else begun.steps
            losses = StepLosses(model, config, epoch=epoch + 1, first=first, steps=steps)
            write = None
            if checkpoints is not None:
                write = partial(checkpoints.keep, model.branches, optimizers, before, log=history, last=True)
            sums = _train_epoch(
                model,
                features,
                step,
                drawn,
                batch_size=config.batch_size,
                ranks=ranks,
                begun=begun,
                losses=losses,
                after_step=partial(stop_if_asked, interruption, write, start),
            )
            means = (sums / samples).tolist()
            seconds = time.perf_counter() - start
            log = epoch_log(model.modalities, means, epoch=epoch + 1, rate=rate, seconds=seconds)
            if not math.isfinite(log["loss"]):
                raise losses.error()
            last = epoch + 1 == config.epochs
            if last:
                require_finite_weights(model, config)
            on_epoch(log)
            history.append(log)
            if checkpoints is not None and ranks.is_main:
                checkpoints.keep(model.branches, optimizers, generator, log=history, last=last)
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)  # gradients may hold the memory of a captured graph
    model.branches.to(memory_format=torch.contiguous_format)  # to compute what the loaded detector will
    model.eval()


@dataclass(frozen=True)
class _Epoch:
    """What is drawn for one epoch."""

    order: torch.Tensor
    """Of the samples, (N,), on the CPU."""
    present: Presence | None
    """Which samples show each modality, on the device; None: all do."""
    shifts: Mapping[str, torch.Tensor] | None
    """How far each sample's modalities are moved, (N, 2), on the device; None: not."""


def _draw_epoch(
    model: CRD,
    config: TrainingConfig,
    samples: int,
    generator: torch.Generator,
    *,
    sensors: Mapping[str, Sequence[str]] | None,
    known: Presence | None,
) -> _Epoch:
    """Draw the next epoch; options that are off draw nothing, so that they change no run without them."""
    return _Epoch(
        order=torch.randperm(samples, generator=generator),
        present=_draw_epoch_presence(model, config, samples, generator, sensors=sensors, known=known),
        shifts=_draw_epoch_shifts(model, config, samples, generator, sensors=sensors),
    )


def _train_epoch(
    model: CRD,
    features: TeacherFeatures,
    step: Step,
    drawn: _Epoch,
    *,
    batch_size: int,
    ranks: Ranks,
    begun: Partial | None,
    losses: StepLosses,
    after_step: Callable[[int, torch.Tensor], None],
) -> torch.Tensor:
    """Run an epoch, or what is left of it, without waiting for the device; return (modalities, terms) sums there."""
    device, order, present = model.device, drawn.order, drawn.present
    sums, first = torch.zeros(len(model.modalities), len(TERMS), device=device), 0
    if begun is not None:
        sums, first = sums + begun.sums.to(device), begun.steps
        order = order[first * batch_size :]
        if not len(order):  # all but the end of the epoch was done
            return sums
    full_batches = to_device(order, device).split(batch_size)
    own, rows = own_order(order, batch_size=batch_size, ranks=ranks)
    for number, (full, (indices, batch)) in enumerate(
        zip(full_batches, features.batches(own, rows, drawn.shifts), strict=True), first
    ):
        shown = None if present is None else {name: has[indices] for name, has in present.items()}
        weights = None
        if ranks.world_size > 1:
            full_present = None if present is None else {name: has[full] for name, has in present.items()}
            weights = term_weights(model.modalities, count=len(full), ranks=ranks, present=full_present)
        found = step(batch, present=shown, weights=weights)
        losses.keep(number, found)
        sums += found * len(full)
        after_step(number + 1, sums)
    if ranks.world_size > 1:
        average_statistics(model.branches, ranks)
        average(sums, ranks)
    return sums


@contextmanager
def _prepared_step(
    model: CRD, optimizers: Sequence[torch.optim.Optimizer], config: TrainingConfig, *, rows: int, ranks: Ranks
) -> Iterator[Step]:
    """Yield the step for the device and config: branches in threads, on streams, or one after the other."""
    device = model.device
    objectives = build_objectives(model, config)
    if ranks.world_size > 1:
        objectives = replicate(objectives, device)
    step = partial(train_step, model, optimizers=optimizers, config=config, objectives=objectives)
    if device.type == "cuda":
        graph = uses_graph(config, device, ranks=ranks.world_size)
        share = own_rows(rows, ranks)
        rows = max(share.stop - share.start, 1)
        with static_step(step, model, optimizers, rows=rows, graph=graph, required=config.graph == "on") as static:
            yield static
    elif ranks.world_size > 1:  # collectives must come in the same order on all ranks
        yield step
    else:
        with side_by_side(len(model.modalities), device) as each_branch:
            yield partial(step, each_branch=each_branch)


def _draw_epoch_presence(
    model: CRD,
    config: TrainingConfig,
    samples: int,
    generator: torch.Generator,
    *,
    sensors: Mapping[str, Sequence[str]] | None,
    known: Presence | None,
) -> Presence | None:
    """Return which samples show each modality in the next epoch, on the device; None, without drawing, if all do."""
    if config.modality_dropout == 0:
        return None
    needed = sensors or {name: [name] for name in model.modalities}
    device = model.device
    drawn = draw_presence(needed, count=samples, dropout=config.modality_dropout, generator=generator)
    drawn = restrict(drawn, known)
    return {name: to_device(drawn[name], device) for name in model.modalities}


def _draw_epoch_shifts(
    model: CRD,
    config: TrainingConfig,
    samples: int,
    generator: torch.Generator,
    *,
    sensors: Mapping[str, Sequence[str]] | None,
) -> dict[str, torch.Tensor] | None:
    """Return how far each sample's modalities are moved in an epoch, on the device; None, without drawing: not."""
    if config.shift == 0:
        return None
    needed = {name: sensors[name] if sensors else [name] for name in model.modalities}
    drawn = draw_shifts(needed, count=samples, pixels=config.shift, generator=generator)
    return {name: to_device(shift, model.device) for name, shift in drawn.items()}
