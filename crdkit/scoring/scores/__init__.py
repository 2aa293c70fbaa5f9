"""Contract of an image score: one number for a sample's fused map, by which samples are ranked and judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from crdkit._core.registry import Component, ComponentConfig, Registry


class ScoreConfig(ComponentConfig):
    """Options of an image score; each adds its own in a subclass."""


@dataclass(frozen=True, kw_only=True)
class FusedMaps:
    """What an image score reads."""

    raw: torch.Tensor
    """(B, S, S) float32: fused, not smoothed."""
    smoothed: torch.Tensor
    """(B, S, S) float32: the anomaly map."""
    foreground: torch.Tensor | None = None
    """(B, S, S) bool: pixels of the object, never none of a sample; None: all pixels, or not known."""


class ImageScore(Component, nn.Module, ABC):
    """Turns fused maps into one score a sample; what it learned in `calibrate` is saved with the detector.

    Args:
        config: its options.
        sigma: of the smoothing of the anomaly map, pixels.
        size: side of the maps, pixels.
    """

    Config: ClassVar[type[ScoreConfig]] = ScoreConfig

    def __init__(self, config: ScoreConfig, *, sigma: float, size: int) -> None:
        super().__init__()
        self.config = config
        self.sigma = sigma
        self.size = size

    @property
    def uses_foreground(self) -> bool:
        """Whether it tells the object from the background; if not, nobody looks for the object."""
        return False

    def calibrate(self, normals: FusedMaps) -> None:
        """Learn from the maps of anomaly-free samples; a score that needs nothing does nothing."""

    @abstractmethod
    def forward(self, maps: FusedMaps) -> torch.Tensor:
        """Return the (B,) float32 scores: the higher, the more anomalous."""


scores: Registry[ImageScore] = Registry("score", package=__name__)
