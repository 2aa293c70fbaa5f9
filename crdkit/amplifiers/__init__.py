"""Contract of a CrossmodalAmplifier: another modality's features, anomalies kept, in the target's space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from crdkit.layers import FeatureSpec, Levels
from crdkit.registry import Component, ComponentConfig, Registry


class AmplifierConfig(ComponentConfig):
    """Options of an amplifier; each adds its own in a subclass."""


class CrossmodalAmplifier(Component, nn.Module, ABC):
    """Maps a source's teacher features to the target's; its output is merged into the target's decoder."""

    Config: ClassVar[type[AmplifierConfig]] = AmplifierConfig

    def __init__(self, config: AmplifierConfig, *, source: FeatureSpec, target: FeatureSpec) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, source: Sequence[torch.Tensor]) -> Levels:
        """Map the source's levels [(B, C_l, H_l, W_l)] to levels of the target's shapes."""


amplifiers: Registry[CrossmodalAmplifier] = Registry("amplifier", package=__name__)
