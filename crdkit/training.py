"""Trains the students of a CRD on the teacher features of anomaly-free samples."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from crdkit.checkpoint import Checkpoints
from crdkit.config import TrainingConfig
from crdkit.cuda_graph import BranchStreams, CudaCapture, StaticStep, Step, fastest_convolutions, uses_graph
from crdkit.data_parallel import average, average_statistics, own_order, own_rows, replicate, term_weights
from crdkit.errors import ConfigError, CrdkitError, first_line
from crdkit.losses import TERMS
from crdkit.model import CRD
from crdkit.presence import Presence, draw_presence
from crdkit.progress import track
from crdkit.ranks import Ranks
from crdkit.resident import TeacherFeatures, to_device
from crdkit.step import (
    build_objectives,
    build_optimizers,
    compile_errors,
    set_learning_rate,
    train_step,
)
from crdkit.threads import side_by_side

EpochLog = dict[str, Any]
"""``{"epoch", "loss", "losses": {modality: {term: mean}}, "learning_rate", "seconds"}``."""


def select_device(name: str) -> torch.device:
    """Return the device called ``name``; "auto" is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error)
        raise ConfigError(f"training.device (={name!r}) is not available here: {reason}; use auto or cpu") from error
    return device


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
        checkpoints: where to go on from, if there is one, and where rank 0 keeps the newest; epochs that were trained
            before are passed to ``on_epoch`` again.
        ranks: processes that train this model together, each with all features, inside `Ranks.group`; None: alone.

    Raises:
        ConfigError: a batch would hold one sample, and a map one position: nothing to normalise over. Or the step
            cannot be captured or compiled as the config asks.
        CrdkitError: a loss is no finite number.
    """
    ranks = ranks or Ranks()
    device = model.device
    graph = uses_graph(config, device, ranks=ranks.count)
    model.train()
    _refuse_small_shares(model, config, samples=samples, ranks=ranks)
    model.branches.to(memory_format=torch.channels_last)  # what convolutions are quickest in, as the features are
    optimizers = build_optimizers(model, config, capturable=graph)
    generator = torch.Generator().manual_seed(config.seed)
    history = [] if checkpoints is None else checkpoints.restore(model.branches, optimizers, generator)
    for log in history:
        on_epoch(log)
    remaining = range(len(history), config.epochs)
    with _prepared_step(model, optimizers, config, rows=min(config.batch_size, samples), ranks=ranks) as step:
        for epoch in track(remaining, description="training", total=len(remaining)):
            start = time.perf_counter()
            rate = learning_rate(config, epoch)
            set_learning_rate(optimizers, rate)
            order = torch.randperm(samples, generator=generator)
            present = _hide(model, config, samples=samples, sensors=sensors, generator=generator)
            sums = _train_epoch(
                model, features, step, order=order, batch_size=config.batch_size, present=present, ranks=ranks
            )
            means = (sums / samples).tolist()
            log = _epoch_log(model, means, epoch=epoch + 1, rate=rate, seconds=time.perf_counter() - start)
            if not math.isfinite(log["loss"]):
                raise CrdkitError(
                    f"the loss is {log['loss']} after epoch {epoch + 1}: "
                    f"lower training.learning_rate (={config.learning_rate:g})"
                )
            on_epoch(log)
            history.append(log)
            if checkpoints is not None and ranks.leader:
                last = epoch + 1 == config.epochs
                checkpoints.keep(model.branches, optimizers, generator, log=history, last=last)
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)  # gradients may hold the memory of a captured graph
    model.branches.to(memory_format=torch.contiguous_format)  # to compute what the detector will that is loaded later
    model.eval()


def _train_epoch(
    model: CRD,
    features: TeacherFeatures,
    step: Step,
    *,
    order: torch.Tensor,
    batch_size: int,
    present: Presence | None,
    ranks: Ranks,
) -> torch.Tensor:
    """Run one epoch without waiting for the device, and return its (modalities, terms) sums over samples there."""
    device = model.device
    sums = torch.zeros(len(model.modalities), len(TERMS), device=device)
    wholes = to_device(order, device).split(batch_size)
    mine, rows = own_order(order, batch_size=batch_size, ranks=ranks)
    for whole, (indices, batch) in zip(wholes, features.batches(mine, rows), strict=True):
        shown = None if present is None else {name: has[indices] for name, has in present.items()}
        weights = None
        if ranks.count > 1:
            everywhere = None if present is None else {name: has[whole] for name, has in present.items()}
            weights = term_weights(model.modalities, count=len(whole), ranks=ranks, present=everywhere)
        sums += step(batch, present=shown, weights=weights) * len(whole)
    if ranks.count > 1:
        average_statistics(model.branches, ranks)
        average(sums, ranks)
    return sums


@contextmanager
def _prepared_step(
    model: CRD, optimizers: Sequence[torch.optim.Optimizer], config: TrainingConfig, *, rows: int, ranks: Ranks
) -> Iterator[Step]:
    """Yield the step as device and config want it: branches in threads, on streams, or one after the other."""
    device = model.device
    objectives = build_objectives(model, config)
    if ranks.count > 1:
        objectives = replicate(objectives, device)
    step = partial(train_step, model, optimizers=optimizers, config=config, objectives=objectives)
    with compile_errors(config):
        if device.type == "cuda":
            graph = uses_graph(config, device, ranks=ranks.count)
            with torch.cuda.device(device), fastest_convolutions():
                streams = BranchStreams(len(model.modalities)) if graph else map
                capture = CudaCapture() if graph else None
                yield StaticStep(partial(step, each_branch=streams), rows=rows, capture=capture)
        elif ranks.count > 1 or config.compile:
            # collectives must come in the same order on all ranks, and compiled code brings its own threads
            yield step
        else:
            with side_by_side(len(model.modalities), device) as each_branch:
                yield partial(step, each_branch=each_branch)


def _hide(
    model: CRD,
    config: TrainingConfig,
    *,
    samples: int,
    sensors: Mapping[str, Sequence[str]] | None,
    generator: torch.Generator,
) -> Presence | None:
    """Return which samples show each modality in the next epoch, on the device; None, and nothing drawn, if all do."""
    if config.modality_dropout == 0:
        return None
    needed = sensors or {name: [name] for name in model.modalities}
    device = model.device
    drawn = draw_presence(needed, count=samples, dropout=config.modality_dropout, generator=generator)
    return {name: to_device(drawn[name], device) for name in model.modalities}


def _refuse_small_shares(model: CRD, config: TrainingConfig, *, samples: int, ranks: Ranks) -> None:
    """Run one sample's shapes through every branch where a rank gets one: BatchNorm needs two values per channel.

    Raises:
        ConfigError: some map has one position.
    """
    sizes = {min(config.batch_size, samples), samples % config.batch_size or config.batch_size}
    last = Ranks(rank=ranks.count - 1, count=ranks.count)  # has the smallest share, or one with weight 0
    if all(own_rows(size, last).stop - own_rows(size, last).start > 1 for size in sizes):
        return
    for name in model.modalities:
        branch = model.branch(name)
        state = dict([*branch.named_parameters(), *branch.named_buffers()])
        shapes = {key: value.to("meta") for key, value in state.items()}
        try:
            torch.func.functional_call(branch, shapes, (model.empty_features(),))
        except RuntimeError:
            continue  # a part of the user's own that needs values, not shapes alone: the first step will tell
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                f"training.batch_size (={config.batch_size}) leaves a batch of one of {samples} samples, whose maps "
                f"in branch {name!r} shrink to 1 x 1: BatchNorm needs two values; choose another batch size, or "
                "larger maps"
            ) from error


def _epoch_log(model: CRD, means: list[list[float]], *, epoch: int, rate: float, seconds: float) -> EpochLog:
    losses = {name: dict(zip(TERMS, row, strict=True)) for name, row in zip(model.modalities, means, strict=True)}
    total = sum(sum(terms.values()) for terms in losses.values())
    return {"epoch": epoch, "loss": total, "losses": losses, "learning_rate": rate, "seconds": round(seconds, 4)}
