"""Aggregations that bring branches into one unit, surprise, before they fuse; what is missing is filled in there."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch

from crdkit.model.layers import Presence
from crdkit.scoring._missing import flags, mean_of_present
from crdkit.scoring.aggregations import Aggregation


class SurpriseAggregation(Aggregation):
    """Fuses the branches' surprises: a subclass defines `combine`, and `units` if they are not the normalised maps.

    In a sample that lacks branches, the missing ones are as surprised as the present ones on average, pixel by pixel.
    The average has the aggregation's own ``power`` and ``weights``, so that what is fused is scaled to what all would
    give: a sum over K of M branches counts M/K, a p-norm (M/K)^(1/p), a weighted sum the inverse of the present share
    of the weights, and a maximum is that of the present branches.
    """

    @property
    def power(self) -> float | None:
        """Of the power mean that stands for a missing branch; None: the largest of the present ones."""
        return 1

    @property
    def shares(self) -> torch.Tensor | None:
        """Weights (M, 1, 1, 1) of that mean; None: all branches count alike.

        A sample that has only branches of weight 0 is judged by these, as if they counted alike.
        """
        return None

    def units(self, maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the branches' (M, B, H, W) surprises, before any weights: here the normalised maps."""
        return self.stacked(self.normalised(maps))

    def surprise(self, maps: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return how unusual each branch is, (B, H, W), in the unit that `combine` fuses."""
        return dict(zip(self.modalities, self.units(maps), strict=True))

    def fuse(self, maps: Mapping[str, torch.Tensor], present: Presence | None = None) -> torch.Tensor:
        """Fuse ``{modality: (B, H, W)}`` to (B, H, W), also where samples lack modalities (``present``)."""
        if present is None:
            fused: torch.Tensor = self(maps)
            return fused
        units, has = self.units(maps), flags(present, self.modalities)
        typical = mean_of_present(units, has, weights=self.shares, power=self.power)
        return self.combine(torch.where(has, units, typical))

    def forward(self, maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Fuse ``{modality: (B, H, W)}`` to (B, H, W)."""
        return self.combine(self.units(maps))

    @abstractmethod
    def combine(self, units: torch.Tensor) -> torch.Tensor:
        """Fuse the (M, B, H, W) surprises of all branches to (B, H, W)."""
