"""What stands for the map of a branch that a sample does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from crdkit.model.layers import Presence

if TYPE_CHECKING:
    from crdkit.scoring.aggregations import Aggregation


def filled_in(part: Aggregation, maps: Mapping[str, torch.Tensor], present: Presence) -> dict[str, torch.Tensor]:
    """Return complete (B, H, W) maps: a missing one is the mean of the others, normalised, in its own mean and std."""
    has = torch.stack([present[name] for name in part.modalities])[:, :, None, None]  # (M, B, 1, 1)
    normalised = torch.stack(list(part.normalised(maps).values()))
    typical = torch.where(has, normalised, 0).sum(dim=0) / has.sum(dim=0).clamp_min(1)
    mean, std = part.mean.float(), part.std.float()
    return {
        name: torch.where(has[index], maps[name], mean[index] + std[index] * typical)
        for index, name in enumerate(part.modalities)
    }
