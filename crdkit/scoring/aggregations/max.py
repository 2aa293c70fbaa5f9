"""Largest of the normalised maps."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from crdkit.scoring.aggregations import Aggregation, aggregations


@aggregations.register("max")
class Max(Aggregation):
    """Largest map, pixel by pixel, after subtracting the validation mean and dividing by the standard deviation.

    One branch is enough to raise an alarm, and branches that agree do not raise a louder one.

    Examples:
        >>> fuse = Max(Max.Config(name="max"), modalities=["rgb", "depth"])  # before `calibrate`: mean 0, deviation 1
        >>> fuse({"rgb": torch.tensor([[[0.0, 2.0]]]), "depth": torch.tensor([[[1.0, 1.5]]])})
        tensor([[[1., 2.]]])
    """

    def forward(self, maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Fuse ``{modality: (B, H, W)}`` to (B, H, W)."""
        return self.stacked(self.normalised(maps)).amax(dim=0)
