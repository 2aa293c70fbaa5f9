"""An amplifier that projects without expanding, for the ablation of the channel expansion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from crdkit.amplifiers import AmplifierConfig, CrossmodalAmplifier, amplifiers
from crdkit.layers import ConvProjection, FeatureSpec, Levels


class IdentityAmplifierConfig(AmplifierConfig):
    """The projection without expansion has no options."""

    name: Literal["identity"] = "identity"


@amplifiers.register("identity")
class IdentityAmplifier(CrossmodalAmplifier):
    """A 3x3 and a 1x1 convolution per level: the row "Identity" of the paper's Table 6."""

    Config = IdentityAmplifierConfig

    def __init__(self, config: IdentityAmplifierConfig, *, source: FeatureSpec, target: FeatureSpec) -> None:
        super().__init__(config, source=source, target=target)
        self.projection = ConvProjection(source=source, target=target)

    def forward(self, source: Sequence[torch.Tensor]) -> Levels:
        """Map the source's levels to the target's shapes."""
        levels: Levels = self.projection(source)
        return levels
