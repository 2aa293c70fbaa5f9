"""What stands for a branch that a sample does not have: the mean of those that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from crdkit.model.layers import Presence

if TYPE_CHECKING:
    from crdkit.scoring.aggregations import Aggregation


def flags(present: Presence, modalities: Sequence[str]) -> torch.Tensor:
    """Return which sample has which modality, (M, B, 1, 1) bool, in the order of ``modalities``."""
    return torch.stack([present[name] for name in modalities])[:, :, None, None]


def mean_of_present(
    values: torch.Tensor, has: torch.Tensor, *, weights: torch.Tensor | None = None, power: float | None = 1
) -> torch.Tensor:
    """Return the (B, H, W) mean of (M, B, H, W) values over the branches that each sample has; 0 if it has none.

    Args:
        values: not negative if ``power`` is not 1. Those of missing branches are not read, so they may be NaN.
        has: of `flags`.
        weights: (M, 1, 1, 1), at least 0; None: all alike. In a sample that only has branches of weight 0, these count
            alike.
        power: of the power mean; None: the largest.

    Examples:
        >>> values = torch.tensor([3.0, 4.0, 9.0]).view(3, 1, 1, 1)
        >>> has = torch.tensor([True, True, False]).view(3, 1, 1, 1)
        >>> [round(mean_of_present(values, has, power=power).item(), 3) for power in (1, 2, None)]
        [3.5, 3.536, 4.0]
        >>> mean_of_present(values, has, weights=torch.tensor([3.0, 1.0, 5.0]).view(3, 1, 1, 1)).item()
        3.25
    """
    values = torch.where(has, values, 0)
    if power is None:
        largest = values.masked_fill(~has, -torch.inf).amax(dim=0)
        return torch.where(has.any(dim=0), largest, 0)
    share = has.to(values.dtype)
    if weights is not None:
        weighted = share * weights.to(values.dtype)
        share = torch.where((weighted > 0).any(dim=0), weighted, share)
    share = share / share.sum(dim=0).clamp_min(torch.finfo(values.dtype).tiny)
    if power == 1:
        return (values * share).sum(dim=0)
    # relative to the largest that counts, so that no power overflows
    values = torch.where(share > 0, values, 0)
    largest = values.amax(dim=0)
    relative = values / largest.clamp_min(torch.finfo(values.dtype).tiny)
    return largest * (relative.pow(power) * share).sum(dim=0).pow(1 / power)


def completed(part: Aggregation, maps: Mapping[str, torch.Tensor], present: Presence) -> dict[str, torch.Tensor]:
    """Return complete (B, H, W) maps: a missing one is as many of its own deviations above its mean as the others are.

    The others' deviations are averaged; a deviation is at least `min_scale`, as in `Aggregation.normalised`.
    """
    has = flags(present, part.modalities)
    typical = mean_of_present(part.stacked(part.normalised(maps)), has)
    mean, std = part.mean.float(), part.scales().float()
    return {
        name: torch.where(has[index], maps[name], mean[index] + std[index] * typical)
        for index, name in enumerate(part.modalities)
    }
