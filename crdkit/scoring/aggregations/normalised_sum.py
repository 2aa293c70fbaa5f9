"""The paper's aggregation: normalise each map on validation normals, then add (CRD Eq. 11)."""

from __future__ import annotations

import torch

from crdkit.scoring.aggregations import aggregations
from crdkit.scoring.surprise import SurpriseAggregation


@aggregations.register("normalised_sum")
class NormalisedSum(SurpriseAggregation):
    """Sum of the maps after subtracting the validation mean and dividing by the standard deviation."""

    def combine(self, units: torch.Tensor) -> torch.Tensor:
        """Fuse the normalised maps, (M, B, H, W), to (B, H, W)."""
        return units.sum(dim=0)
