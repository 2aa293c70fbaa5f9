"""Contract of an aggregation: the branches' maps in, one fused map out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn

from crdkit._core.registry import Component, ComponentConfig, Registry
from crdkit.model.layers import Presence
from crdkit.scoring._missing import completed


class AggregationConfig(ComponentConfig):
    """Options of an aggregation; each adds its own in a subclass."""

    def check_modalities(self, modalities: Sequence[str]) -> None:
        """Refuse options that do not fit a run's modalities; called when a run's configuration is read.

        Raises:
            ConfigError: an option names a modality that the run does not have, or lacks one that it has.
        """


class Aggregation(Component, nn.Module, ABC):
    """Fuses the (B, H, W) maps of all modalities; what it learned in `calibrate` is saved with the detector.

    ``mean`` and ``std`` hold one entry per modality: population statistics over every pixel of the
    unsmoothed maps of anomaly-free validation samples (CRD Eq. 11).
    """

    Config: ClassVar[type[AggregationConfig]] = AggregationConfig
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: AggregationConfig, *, modalities: Sequence[str]) -> None:
        super().__init__()
        self.config = config
        self.modalities = tuple(modalities)
        config.check_modalities(self.modalities)
        self.register_buffer("mean", torch.zeros(len(self.modalities), dtype=torch.float64))
        self.register_buffer("std", torch.ones(len(self.modalities), dtype=torch.float64))

    def calibrate(self, maps: Mapping[str, torch.Tensor]) -> None:
        """Learn from the unsmoothed (N, H, W) maps of anomaly-free samples."""
        for index, name in enumerate(self.modalities):
            values = maps[name].double()
            self.mean[index] = values.mean()
            self.std[index] = values.std(correction=0)

    def stacked(self, maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the maps as they are, one (M, B, H, W) tensor in the order of ``modalities``."""
        return torch.stack([maps[name] for name in self.modalities])

    def scales(self) -> torch.Tensor:
        """Return the (M,) standard deviations that maps are divided by: `min_scale` at least."""
        return self.std.maximum(min_scale(self.mean))

    def normalised(self, maps: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return every map minus its modality's mean, over its standard deviation (`min_scale` at least)."""
        std = self.scales()
        return {
            name: (maps[name] - self.mean[index].float()) / std[index].float()
            for index, name in enumerate(self.modalities)
        }

    def surprise(self, maps: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return how unusual each branch is, (B, H, W), in the unit of this aggregation; here that of `normalised`."""
        return self.normalised(maps)

    def fuse(self, maps: Mapping[str, torch.Tensor], present: Presence | None = None) -> torch.Tensor:
        """Fuse ``{modality: (B, H, W)}`` to (B, H, W), also where samples lack modalities (``present``).

        `forward` gets complete maps: a missing one is as many of its own standard deviations above its own mean as the
        sample's other maps are above theirs, averaged. An aggregation that fuses in another unit fills in that one: see
        `SurpriseAggregation`. Scores keep their scale, whichever modalities are there.
        """
        fused: torch.Tensor = self(maps if present is None else completed(self, maps, present))
        return fused

    @abstractmethod
    def forward(self, maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Fuse ``{modality: (B, H, W)}`` to (B, H, W)."""


def min_scale(location: torch.Tensor) -> torch.Tensor:
    """Return the smallest number that maps around ``location`` are divided by: the resolution of float32 there.

    It keeps a branch that was constant on the calibration maps finite.

    Examples:
        >>> min_scale(torch.tensor([0.0, 2.0**20]))
        tensor([1.1921e-07, 1.2500e-01])
    """
    return torch.finfo(torch.float32).eps * location.abs().clamp_min(1)


_REMOVED = {"mean": "use normalised_sum, which ranks pixels and images alike"}
aggregations: Registry[Aggregation] = Registry("aggregation", package=__name__, removed=_REMOVED)
