"""Product of the maps, as in Crossmodal Feature Mapping."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from crdkit.scoring.aggregations import Aggregation, aggregations


@aggregations.register("product")
class Product(Aggregation):
    """Product of the maps as they are, pixel by pixel: high where all branches agree (CFM, arXiv 2312.04521).

    Nothing is calibrated, and no root is taken: a factor on one branch's map changes no rank. The maps, sums of
    1 - cosine, are at least 0; what rounding leaves below is counted as 0. A branch that sees nothing of a defect, and
    reads near 0 there, hides it from the others.

    Examples:
        >>> fuse = Product(Product.Config(name="product"), modalities=["rgb", "depth"])
        >>> fuse({"rgb": torch.tensor([[[0.0, 2.0]]]), "depth": torch.tensor([[[1.0, 1.5]]])})
        tensor([[[0., 3.]]])
    """

    def surprise(self, maps: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the logarithm of each map over its mean on normal pixels, (B, H, W): they add up in the product."""
        least = torch.finfo(torch.float32).eps  # the resolution of 1 - cosine
        means = self.mean.float().clamp_min(least)
        return {name: (maps[name].clamp_min(least) / means[index]).log() for index, name in enumerate(self.modalities)}

    def forward(self, maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Fuse ``{modality: (B, H, W)}`` to (B, H, W)."""
        return self.stacked(maps).clamp_min(0).prod(dim=0)
