"""Contract of an aggregation: the branches' maps in, one fused map out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn

from crdkit.presence import Presence
from crdkit.registry import Component, ComponentConfig, Registry


class AggregationConfig(ComponentConfig):
    """Options of an aggregation; each adds its own in a subclass."""


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
        self.register_buffer("mean", torch.zeros(len(self.modalities), dtype=torch.float64))
        self.register_buffer("std", torch.ones(len(self.modalities), dtype=torch.float64))

    def calibrate(self, maps: Mapping[str, torch.Tensor]) -> None:
        """Learn from the unsmoothed (N, H, W) maps of anomaly-free samples."""
        for index, name in enumerate(self.modalities):
            values = maps[name].double()
            self.mean[index] = values.mean()
            self.std[index] = values.std(correction=0)

    def normalised(self, maps: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return every map minus its modality's mean, over its standard deviation."""
        tiny = torch.finfo(torch.float32).tiny
        return {
            name: (maps[name] - self.mean[index].float()) / self.std[index].float().clamp_min(tiny)
            for index, name in enumerate(self.modalities)
        }

    def fuse(self, maps: Mapping[str, torch.Tensor], present: Presence | None = None) -> torch.Tensor:
        """Fuse ``{modality: (B, H, W)}`` to (B, H, W), also where samples lack modalities (``present``).

        `forward` gets complete maps: in place of a missing one stands the mean of the sample's other normalised maps,
        in the missing one's own unit. Sums thus grow by N over the number present, a mean or maximum is that of the
        present maps, and scores keep their scale.
        """
        fused: torch.Tensor = self(maps if present is None else self._filled(maps, present))
        return fused

    def _filled(self, maps: Mapping[str, torch.Tensor], present: Presence) -> dict[str, torch.Tensor]:
        has = torch.stack([present[name] for name in self.modalities])[:, :, None, None]  # (N, B, 1, 1)
        normalised = torch.stack(list(self.normalised(maps).values()))
        typical = torch.where(has, normalised, 0).sum(dim=0) / has.sum(dim=0).clamp_min(1)
        mean, std = self.mean.float(), self.std.float()
        return {
            name: torch.where(has[index], maps[name], mean[index] + std[index] * typical)
            for index, name in enumerate(self.modalities)
        }

    @abstractmethod
    def forward(self, maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Fuse ``{modality: (B, H, W)}`` to (B, H, W)."""


aggregations: Registry[Aggregation] = Registry("aggregation", package=__name__)
