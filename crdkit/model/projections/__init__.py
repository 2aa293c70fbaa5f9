"""Contract of a projection: a source's teacher features in a target's space, as an edge's filter or its amplifier.

A filter helps the target's bottleneck and should lose what is anomalous; an amplifier is merged into the target's
decoder and should keep it. Any projection can take either role.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from crdkit._core.registry import Component, ComponentConfig, Registry
from crdkit.model.layers import FeatureSpec, Levels, conv_bn_relu, resize_features


class ProjectionConfig(ComponentConfig):
    """Options of a projection; each adds its own in a subclass."""


class Projection(Component, nn.Module, ABC):
    """Maps a source's teacher features to levels of the target's shapes.

    ``source_levels`` holds, for each level of the target, the source's level that is nearest in relative depth.
    """

    Config: ClassVar[type[ProjectionConfig]] = ProjectionConfig

    def __init__(self, config: ProjectionConfig, *, source: FeatureSpec, target: FeatureSpec) -> None:
        super().__init__()
        self.target = target
        self.source_levels = matching_levels(source, target)

    @abstractmethod
    def forward(self, source: Sequence[torch.Tensor]) -> Levels:
        """Map the source's levels [(B, C_l, H_l, W_l)] to levels of the target's shapes."""

    def apply_levels(self, modules: nn.ModuleList, source: Sequence[torch.Tensor]) -> Levels:
        """Apply one module per target level to the source level it is paired with, then fit the target's size."""
        pairs = zip(modules, self.source_levels, self.target.sizes, strict=True)
        return [resize_features(module(source[level]), size) for module, level, size in pairs]


def matching_levels(source: FeatureSpec, target: FeatureSpec) -> tuple[int, ...]:
    """Return, for each level of ``target``, the level of ``source`` that is nearest in relative depth.

    Examples:
        >>> three = FeatureSpec(channels=(1, 1, 1), sizes=(64, 32, 16), signed=False)
        >>> two = FeatureSpec(channels=(1, 1), sizes=(32, 16), signed=False)
        >>> matching_levels(three, three), matching_levels(two, three), matching_levels(three, two)
        ((0, 1, 2), (0, 0, 1), (0, 2))
    """
    last_source, last_target = len(source.sizes) - 1, max(len(target.sizes) - 1, 1)
    return tuple(round(level * last_source / last_target) for level in range(len(target.sizes)))


def conv_projection(in_channels: int, out_channels: int, *, relu: bool) -> nn.Sequential:
    """Return a 3x3 and a 1x1 convolution that project one level without compressing or expanding it."""
    return nn.Sequential(
        *conv_bn_relu(in_channels, in_channels, kernel=3),
        *conv_bn_relu(in_channels, out_channels, kernel=1, relu=relu),
    )


projections: Registry[Projection] = Registry("projection", package=__name__)
