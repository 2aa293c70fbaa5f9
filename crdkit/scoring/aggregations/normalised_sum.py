"""The paper's aggregation: normalise each map on validation normals, then add (CRD Eq. 11)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from crdkit.scoring.aggregations import Aggregation, aggregations


@aggregations.register("normalised_sum")
class NormalisedSum(Aggregation):
    """Sum of the maps after subtracting the validation mean and dividing by the standard deviation."""

    def forward(self, maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Fuse ``{modality: (B, H, W)}`` to (B, H, W)."""
        return torch.stack(list(self.normalised(maps).values())).sum(dim=0)
