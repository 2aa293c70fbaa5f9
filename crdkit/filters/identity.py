"""A filter that projects without compressing, for the ablation of the bottleneck size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from crdkit.filters import CrossmodalFilter, FilterConfig, filters
from crdkit.layers import ConvProjection, FeatureSpec, Levels


class IdentityFilterConfig(FilterConfig):
    """The projection without compression has no options."""

    name: Literal["identity"] = "identity"


@filters.register("identity")
class IdentityFilter(CrossmodalFilter):
    """A 3x3 and a 1x1 convolution per level: the row "Identity" of the paper's Table 5."""

    Config = IdentityFilterConfig

    def __init__(self, config: IdentityFilterConfig, *, source: FeatureSpec, target: FeatureSpec) -> None:
        super().__init__(config, source=source, target=target)
        self.projection = ConvProjection(source=source, target=target)

    def forward(self, source: Sequence[torch.Tensor]) -> Levels:
        """Map the source's levels to the target's shapes."""
        levels: Levels = self.projection(source)
        return levels
