"""A projection that neither compresses nor expands, for ablations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from crdkit.model.layers import FeatureSpec, Levels
from crdkit.model.projections import Projection, ProjectionConfig, conv_projection, projections


@projections.register("identity")
class Identity(Projection):
    """Neither compresses nor expands: a 3x3 and a 1x1 convolution per level.

    The published code has such a projection beside its two bottlenecks; it is most likely the row "Identity" of the
    paper's Tables 5 (as filter) and 6 (as amplifier).

    Examples:
        >>> from crdkit.testing import example_features
        >>> source = FeatureSpec(channels=(4, 8), sizes=(16, 8), signed=False)
        >>> target = FeatureSpec(channels=(6, 12), sizes=(8, 4), signed=False)
        >>> projection = Identity(ProjectionConfig(name="identity"), source=source, target=target)
        >>> [tuple(level.shape) for level in projection(example_features(source))]
        [(2, 6, 8, 8), (2, 12, 4, 4)]
    """

    def __init__(self, config: ProjectionConfig, *, source: FeatureSpec, target: FeatureSpec) -> None:
        super().__init__(config, source=source, target=target)
        levels = nn.ModuleList(
            conv_projection(source.channels[level], channels, relu=not target.signed)
            for level, channels in zip(self.source_levels, target.channels, strict=True)
        )
        self.projection = nn.ModuleDict({"levels": levels})  # the names in saved detectors

    def forward(self, source: Sequence[torch.Tensor]) -> Levels:
        """Map the source's levels to the target's shapes."""
        return self.apply_levels(cast(nn.ModuleList, self.projection["levels"]), source)
