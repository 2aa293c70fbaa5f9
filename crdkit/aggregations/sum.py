"""Plain sum of the maps, without calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

from crdkit.aggregations import Aggregation, AggregationConfig, aggregations


class SumConfig(AggregationConfig):
    """The sum has no options."""

    name: Literal["sum"] = "sum"


@aggregations.register("sum")
class Sum(Aggregation):
    """Sum of the maps as they are: with equal teachers all branches measure in the same unit, 1 - cosine.

    A branch whose student imitates less well, and so reads higher on normal samples, weighs more than in the normalised
    sum. This is the "sum" that the paper compares its own aggregation with (CRD, Table 7).
    """

    Config = SumConfig

    def forward(self, maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Fuse ``{modality: (B, H, W)}`` to (B, H, W)."""
        return self.stacked(maps).sum(dim=0)
