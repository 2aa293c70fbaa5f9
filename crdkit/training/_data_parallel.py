"""Several processes train one detector: each takes its share of every batch, and gradients are averaged by DDP."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from crdkit._core.distributed import Ranks
from crdkit.errors import ConfigError
from crdkit.model.layers import Presence
from crdkit.training.losses import TermWeights, counted_samples


def require_own_gpu(device: torch.device, ranks: Ranks) -> None:
    """Refuse ranks that share a GPU, which NCCL does not allow.

    Raises:
        ConfigError: on GPUs, this rank would share one with another.
    """
    if device.type != "cuda" or ranks.world_size == 1:
        return
    if str(device) != "cuda" or ranks.local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"training.device={device}: each rank that trains one detector needs a GPU of its own, and this machine "
            f"has {torch.cuda.device_count()}; start at most that many here, with training.device=auto or cuda"
        )


def replicate(objectives: Mapping[str, nn.Module], device: torch.device) -> dict[str, nn.Module]:
    """Return the objectives, with weights of rank 0, wrapped so that backward averages gradients over all ranks.

    On GPUs every BatchNorm becomes a SyncBatchNorm, which sees the whole batch; in eval mode they are the same. torch
    has none for the CPU: there each rank normalises its share by itself.
    """
    from torch.nn.parallel import DistributedDataParallel

    # statistics are averaged once per epoch instead; torch 2.14 gave the option another name
    known = inspect.signature(DistributedDataParallel).parameters
    option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {option: False}
    replicas: dict[str, nn.Module] = {}
    for name, objective in objectives.items():
        if device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(objective)
        replicas[name] = DistributedDataParallel(objective, **options)
    return replicas


def own_rows(count: int, ranks: Ranks) -> slice:
    """Return this rank's rows of a batch of ``count``: the first ranks have one more if it does not divide evenly.

    Examples:
        >>> [own_rows(5, Ranks(rank=rank, world_size=2)) for rank in (0, 1)]
        [slice(0, 3, None), slice(3, 5, None)]
    """
    share, more = divmod(count, ranks.world_size)
    start = ranks.rank * share + min(ranks.rank, more)
    return slice(start, start + share + (ranks.rank < more))


def own_order(order: torch.Tensor, *, batch_size: int, ranks: Ranks) -> tuple[torch.Tensor, int]:
    """Return this rank's samples of all batches of ``order`` (N,), one after the other, and its share of a full batch.

    A rank without a share of a batch gets the first sample, with weight 0: the others wait for its gradients.
    """
    shares = []
    for batch in order.split(batch_size):
        rows = own_rows(len(batch), ranks)
        shares.append(batch[rows] if rows.stop > rows.start else batch[:1])
    full = own_rows(batch_size, ranks)
    return torch.cat(shares), max(full.stop - full.start, 1)


def term_weights(
    modalities: Sequence[str], *, count: int, ranks: Ranks, present: Presence | None
) -> dict[str, TermWeights]:
    """Return the factors of this rank's means that make their average over ranks the mean of the batch.

    Args:
        modalities: of the model.
        count: samples of the batch.
        ranks: place of this process.
        present: which samples of the whole batch have each modality; a mean is over those that have what it compares.
    """
    rows = own_rows(count, ranks)
    if present is None:
        share = ranks.world_size * (rows.stop - rows.start) / count
        return {name: dict.fromkeys([None, *modalities], share) for name in modalities}
    weights: dict[str, TermWeights] = {}
    for name in modalities:
        counted = counted_samples(present, name) or {}
        weights[name] = {
            source: ranks.world_size * has[rows].sum() / has.sum().clamp_min(1) for source, has in counted.items()
        }
    return weights


def average_statistics(module: nn.Module, ranks: Ranks) -> None:
    """Make BatchNorm's running statistics their average over ranks, so that all ranks hold the same model."""
    for buffer in module.buffers():
        if buffer.is_floating_point():
            average(buffer, ranks)


def average(values: torch.Tensor, ranks: Ranks) -> None:
    """Replace ``values`` by their mean over ranks, in place."""
    dist.all_reduce(values)
    values /= ranks.world_size
