"""Largest of the normalised maps."""

from __future__ import annotations

import torch

from crdkit.scoring.aggregations import aggregations
from crdkit.scoring.surprise import SurpriseAggregation


@aggregations.register("max")
class Max(SurpriseAggregation):
    """Largest map, pixel by pixel, after subtracting the validation mean and dividing by the standard deviation.

    One branch is enough to raise an alarm, and branches that agree do not raise a louder one.

    Examples:
        >>> fuse = Max(Max.Config(name="max"), modalities=["rgb", "depth"])  # before `calibrate`: mean 0, deviation 1
        >>> fuse({"rgb": torch.tensor([[[0.0, 2.0]]]), "depth": torch.tensor([[[1.0, 1.5]]])})
        tensor([[[1., 2.]]])
    """

    @property
    def power(self) -> None:
        """None: the largest of the present branches stands for a missing one, and so changes nothing."""
        return

    def combine(self, units: torch.Tensor) -> torch.Tensor:
        """Fuse the normalised maps, (M, B, H, W), to (B, H, W)."""
        return units.amax(dim=0)
