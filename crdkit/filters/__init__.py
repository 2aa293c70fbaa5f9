"""Contract of a CrossmodalFilter: another modality's features, freed of anomalies, in the target's space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from crdkit.layers import FeatureSpec, Levels
from crdkit.registry import Component, ComponentConfig, Registry


class FilterConfig(ComponentConfig):
    """Options of a filter; each adds its own in a subclass."""


class CrossmodalFilter(Component, nn.Module, ABC):
    """Maps a source's teacher features to the target's; its output helps the target's bottleneck."""

    Config: ClassVar[type[FilterConfig]] = FilterConfig

    def __init__(self, config: FilterConfig, *, source: FeatureSpec, target: FeatureSpec) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, source: Sequence[torch.Tensor]) -> Levels:
        """Map the source's levels [(B, C_l, H_l, W_l)] to levels of the target's shapes."""


filters: Registry[CrossmodalFilter] = Registry("filter", package=__name__)
