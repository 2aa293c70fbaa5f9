"""Inverted bottleneck projection: expand the channels, then compress them (CRD, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from crdkit.model.layers import FeatureSpec, Levels, conv_bn_relu
from crdkit.model.projections import Projection, ProjectionConfig, projections


@projections.register("inverted_bottleneck")
class InvertedBottleneck(Projection):
    """The paper's amplifier: per level a 3x3 convolution, a 1x1 to ``expansion`` times the channels, and a 1x1 back."""

    class Config(ProjectionConfig):
        """Options of ``inverted_bottleneck``."""

        name: Literal["inverted_bottleneck"] = "inverted_bottleneck"
        expansion: float = Field(2, gt=0, le=16, description="channels in the middle over channels of the target")

    def __init__(self, config: Config, *, source: FeatureSpec, target: FeatureSpec) -> None:
        super().__init__(config, source=source, target=target)
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
        return self.apply_levels(self.levels, source)
