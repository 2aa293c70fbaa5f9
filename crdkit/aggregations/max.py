"""Largest of the normalised maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

from crdkit.aggregations import Aggregation, AggregationConfig, aggregations


class MaxConfig(AggregationConfig):
    """The maximum has no options."""

    name: Literal["max"] = "max"


@aggregations.register("max")
class Max(Aggregation):
    """Largest map, pixel by pixel, after subtracting the validation mean and dividing by the standard deviation.

    One branch is enough to raise an alarm, and branches that agree do not raise a louder one.
    """

    Config = MaxConfig

    def forward(self, maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Fuse ``{modality: (B, H, W)}`` to (B, H, W)."""
        return self.stacked(self.normalised(maps)).amax(dim=0)
