"""Product of the maps, as in Crossmodal Feature Mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

from crdkit.aggregations import Aggregation, AggregationConfig, aggregations


class ProductConfig(AggregationConfig):
    """The product has no options."""

    name: Literal["product"] = "product"


@aggregations.register("product")
class Product(Aggregation):
    """Product of the maps as they are, pixel by pixel: high where all branches agree (CFM, arXiv 2312.04521).

    Nothing is calibrated, and no root is taken: a factor on one branch's map changes no ranking. The maps, sums of
    1 - cosine, are at least 0; what rounding leaves below is counted as 0. A branch that sees nothing of a defect, and
    reads near 0 there, hides it from the others.
    """

    Config = ProductConfig

    def forward(self, maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Fuse ``{modality: (B, H, W)}`` to (B, H, W)."""
        return self.stacked(maps).clamp_min(0).prod(dim=0)
