"""Mean of the normalised maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

from crdkit.aggregations import Aggregation, AggregationConfig, aggregations


class MeanConfig(AggregationConfig):
    """The mean has no options."""

    name: Literal["mean"] = "mean"


@aggregations.register("mean")
class Mean(Aggregation):
    """Mean of the maps after subtracting the validation mean and dividing by the standard deviation.

    The normalised sum over the number of modalities: it ranks pixels and images as that does, but scores of runs with
    different numbers of modalities stay in one range.
    """

    Config = MeanConfig

    def forward(self, maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Fuse ``{modality: (B, H, W)}`` to (B, H, W)."""
        return self.stacked(self.normalised(maps)).mean(dim=0)
