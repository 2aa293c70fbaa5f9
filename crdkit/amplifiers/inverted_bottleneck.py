"""Inverted bottleneck projection: expand the channels, then compress them (CRD, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from crdkit.amplifiers import AmplifierConfig, CrossmodalAmplifier, amplifiers
from crdkit.layers import FeatureSpec, Levels, conv_bn_relu, matching_levels, project_levels


class InvertedBottleneckConfig(AmplifierConfig):
    """Options of the inverted bottleneck projection."""

    name: Literal["inverted_bottleneck"] = "inverted_bottleneck"
    expansion: float = Field(2, gt=0, le=16, description="channels in the middle over channels of the target")


@amplifiers.register("inverted_bottleneck")
class InvertedBottleneckProjection(CrossmodalAmplifier):
    """Per level a 3x3 convolution, a 1x1 to ``expansion`` times the channels, and a 1x1 back."""

    Config = InvertedBottleneckConfig

    def __init__(self, config: InvertedBottleneckConfig, *, source: FeatureSpec, target: FeatureSpec) -> None:
        super().__init__(config, source=source, target=target)
        self.target = target
        self.source_levels = matching_levels(source, target)
        self.levels = nn.ModuleList(
            nn.Sequential(
                *conv_bn_relu(source.channels[level], source.channels[level], kernel=3),
                *conv_bn_relu(source.channels[level], max(round(channels * config.expansion), 1), kernel=1),
                *conv_bn_relu(max(round(channels * config.expansion), 1), channels, kernel=1, relu=not target.signed),
            )
            for level, channels in zip(self.source_levels, target.channels, strict=True)
        )

    def forward(self, source: Sequence[torch.Tensor]) -> Levels:
        """Map the source's levels to the target's shapes."""
        return project_levels(self.levels, source, source_levels=self.source_levels, sizes=self.target.sizes)
