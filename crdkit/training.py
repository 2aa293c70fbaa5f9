"""Trains the students of a CRD on the teacher features of anomaly-free samples."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch

from crdkit.checkpoint import Checkpoints
from crdkit.config import TrainingConfig
from crdkit.errors import ConfigError, CrdkitError
from crdkit.losses import TERMS, branch_losses, counted_samples
from crdkit.model import CRD
from crdkit.presence import Presence, draw_presence
from crdkit.progress import track
from crdkit.resident import TeacherFeatures

T = TypeVar("T")


class BranchMap(Protocol):
    """Calls a function with the name of each branch, like `map`; see `side_by_side`."""

    def __call__(self, function: Callable[[str], T], names: Iterable[str], /) -> Iterable[T]:
        """Return what ``function`` returned, in the order of ``names``."""


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
        reason = str(error).splitlines()[0]
        raise ConfigError(f"training.device (={name!r}) is not available here: {reason}; use auto or cpu") from error
    return device


def uses_bf16(config: TrainingConfig, device: torch.device) -> bool:
    """Return whether the students' forward pass runs in bfloat16 on ``device``."""
    if config.precision != "auto":
        return config.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # without the instructions a CPU emulates bfloat16 at a fraction of the speed of float32
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


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
        checkpoints: where to go on from, if there is one, and where to keep the newest; epochs that were trained
            before are passed to ``on_epoch`` again.

    Raises:
        ConfigError: a batch would hold one sample, and a map one position: nothing to normalise over.
        CrdkitError: a loss is no finite number.
    """
    optimizers = build_optimizers(model, config)
    device = next(iter(model.student_parameters())).device
    generator = torch.Generator().manual_seed(config.seed)
    model.train()
    if 1 in (config.batch_size, samples % config.batch_size):
        _refuse_single_values(model, config, samples=samples)
    history = [] if checkpoints is None else checkpoints.restore(model.branches, optimizers, generator)
    for log in history:
        on_epoch(log)
    remaining = range(len(history), config.epochs)
    with side_by_side(len(model.modalities), device) as each_branch:
        for epoch in track(remaining, description="training", total=len(remaining)):
            start = time.perf_counter()
            rate = learning_rate(config, epoch)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate
            order = torch.randperm(samples, generator=generator)
            present = _hide(model, config, samples=samples, sensors=sensors, generator=generator)
            sums = torch.zeros(len(model.modalities), len(TERMS), device=device)
            for indices, batch in features.batches(order, config.batch_size):
                shown = None if present is None else {name: has[indices] for name, has in present.items()}
                step = train_step(model, batch, optimizers, config, present=shown, each_branch=each_branch)
                sums += step * len(indices)
            means = (sums / samples).tolist()
            log = _epoch_log(model, means, epoch=epoch + 1, rate=rate, seconds=time.perf_counter() - start)
            if not math.isfinite(log["loss"]):
                raise CrdkitError(
                    f"the loss is {log['loss']} after epoch {epoch + 1}: "
                    f"lower training.learning_rate (={config.learning_rate:g})"
                )
            on_epoch(log)
            history.append(log)
            if checkpoints is not None:
                last = epoch + 1 == config.epochs
                checkpoints.keep(model.branches, optimizers, generator, log=history, last=last)
    model.eval()


@contextmanager
def side_by_side(branches: int, device: torch.device) -> Iterator[BranchMap]:
    """Yield a `map` over branches that, on a CPU, runs them at the same time, each on its share of the threads.

    Small maps leave most of a second thread idle: two branches on one thread each are quicker than one after the other
    on two. What a branch computes depends on its number of threads only, not on the branches beside it.
    """
    threads = torch.get_num_threads()
    workers = min(branches, threads) if device.type == "cpu" else 1
    if workers == 1:
        yield map
        return
    share = threads // workers
    pool = ThreadPoolExecutor(workers, "branch", initializer=torch.set_num_threads, initargs=(share,))
    torch.set_num_threads(share)  # threads of this one would wait for cores that the branches are on
    try:
        with pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)


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
    device = next(iter(model.student_parameters())).device
    drawn = draw_presence(needed, count=samples, dropout=config.modality_dropout, generator=generator)
    return {name: drawn[name].to(device) for name in model.modalities}


def _refuse_single_values(model: CRD, config: TrainingConfig, *, samples: int) -> None:
    """Run one sample's shapes through every branch: BatchNorm cannot train on one value per channel.

    Raises:
        ConfigError: some map has one position.
    """
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


def build_optimizers(model: CRD, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Return one Adam per branch, or one for all branches, as the config says."""
    groups: Iterable[Iterable[torch.nn.Parameter]]
    if config.optimizers == "per_branch":
        groups = [model.branch(name).parameters() for name in model.modalities]
    else:
        groups = [model.student_parameters()]
    return [torch.optim.Adam(group, lr=config.learning_rate, betas=config.betas) for group in groups]


def train_step(
    model: CRD,
    features: dict[str, list[torch.Tensor]],
    optimizers: Sequence[torch.optim.Optimizer],
    config: TrainingConfig,
    *,
    present: Presence | None = None,
    each_branch: BranchMap = map,
) -> torch.Tensor:
    """Run one step on a batch of teacher features and return its (modalities, terms) losses, detached.

    Branches share no trained parameter, so each is run forward and backward by itself: one branch's
    activations are freed before the next one's are made, unless ``each_branch`` runs them side by side. Where
    ``present`` hides a modality, other branches go without it and its own branch's loss skips the sample.
    """
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    device = next(iter(model.student_parameters())).device
    bf16 = uses_bf16(config, device)
    own = dict(zip(model.modalities, optimizers, strict=True)) if config.optimizers == "per_branch" else {}

    def train_branch(name: str) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            out = model.branch(name)(features, present)
        losses = branch_losses(
            features[name],
            filtered=out.filtered,
            amplified=out.amplified,
            decoder=out.decoder,
            output=out.output,
            kind=config.loss,
            counted=counted_samples(present, name),
        )
        terms = torch.stack([losses[term] for term in TERMS])
        terms.sum().backward()
        if name in own:
            own[name].step()
        return terms.detach()

    rows = list(each_branch(train_branch, model.modalities))
    if not own:
        for optimizer in optimizers:
            optimizer.step()
    return torch.stack(rows)


def _epoch_log(model: CRD, means: list[list[float]], *, epoch: int, rate: float, seconds: float) -> EpochLog:
    losses = {name: dict(zip(TERMS, row, strict=True)) for name, row in zip(model.modalities, means, strict=True)}
    total = sum(sum(terms.values()) for terms in losses.values())
    return {"epoch": epoch, "loss": total, "losses": losses, "learning_rate": rate, "seconds": round(seconds, 4)}
