"""Plain sum of the maps, without calibration."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from crdkit.scoring.aggregations import Aggregation, aggregations


@aggregations.register("sum")
class Sum(Aggregation):
    """Sum of the maps as they are: with equal teachers all branches measure in the same unit, 1 - cosine.

    A branch whose student imitates less well, and so reads higher on normal samples, weighs more than in the normalised
    sum. This is the "sum" that the paper compares its own aggregation with (CRD, Table 7).

    Examples:
        >>> fuse = Sum(Sum.Config(name="sum"), modalities=["rgb", "depth"])
        >>> fuse({"rgb": torch.tensor([[[0.0, 2.0]]]), "depth": torch.tensor([[[1.0, 1.5]]])})
        tensor([[[1.0000, 3.5000]]])
    """

    def surprise(self, maps: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return by how much each branch raises the sum above that of normal pixels, (B, H, W)."""
        return {name: maps[name] - self.mean[index].float() for index, name in enumerate(self.modalities)}

    def forward(self, maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Fuse ``{modality: (B, H, W)}`` to (B, H, W)."""
        return self.stacked(maps).sum(dim=0)
