"""Bottleneck projection: compress to a few positions, then restore (CRD, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from crdkit.filters import CrossmodalFilter, FilterConfig, filters
from crdkit.layers import (
    FeatureSpec,
    Levels,
    conv_bn_relu,
    conv_projection,
    matching_levels,
    project_levels,
    resize_features,
)


class BottleneckConfig(FilterConfig):
    """Options of the bottleneck projection."""

    name: Literal["bottleneck"] = "bottleneck"
    size: int = Field(8, ge=1, description="side of the compressed map, in positions")


@filters.register("bottleneck")
class BottleneckProjection(CrossmodalFilter):
    """Shrinks every level to ``size`` x ``size`` by strided convolutions and restores it by transposed ones.

    Channels double at every step down and halve at every step up. A step shrinks by a prime factor of
    the level's side over ``size`` (2 x 2, stride 2 in the paper); a side that ``size`` does not divide is
    first resampled to the nearest multiple. A level of that side already is projected without compression.
    """

    Config = BottleneckConfig

    def __init__(self, config: BottleneckConfig, *, source: FeatureSpec, target: FeatureSpec) -> None:
        super().__init__(config, source=source, target=target)
        self.target = target
        self.source_levels = matching_levels(source, target)
        self.input_sizes = [_nearest_multiple(source.sizes[level], config.size) for level in self.source_levels]
        self.levels = nn.ModuleList(
            _projection(
                source.channels[level],
                channels,
                down=_prime_factors(entry // config.size),
                up=_prime_factors(_nearest_multiple(size, config.size) // config.size),
                relu=not target.signed,
            )
            for level, entry, channels, size in zip(
                self.source_levels, self.input_sizes, target.channels, target.sizes, strict=True
            )
        )

    def forward(self, source: Sequence[torch.Tensor]) -> Levels:
        """Map the source's levels to the target's shapes through ``size`` x ``size`` positions."""
        entries = [
            resize_features(source[level], size)
            for level, size in zip(self.source_levels, self.input_sizes, strict=True)
        ]
        return project_levels(self.levels, entries, source_levels=range(len(entries)), sizes=self.target.sizes)


def _projection(
    in_channels: int, out_channels: int, *, down: Sequence[int], up: Sequence[int], relu: bool
) -> nn.Sequential:
    if not down and not up:
        return conv_projection(in_channels, out_channels, relu=relu)
    narrow = out_channels * 2 ** len(up)
    widths = [in_channels * 2**step for step in range(len(down) + 1)]
    widths[-1] = narrow if down else in_channels
    layers: list[nn.Module] = []
    for factor, before, after in zip(down, widths, widths[1:], strict=False):
        layers += conv_bn_relu(before, after, kernel=factor, stride=factor)
    if not down:
        layers += conv_bn_relu(in_channels, narrow, kernel=1)
    for step, factor in enumerate(reversed(up), start=1):
        last = step == len(up)
        layers += conv_bn_relu(
            narrow, narrow // 2, kernel=factor, stride=factor, transposed=True, relu=relu if last else True
        )
        narrow //= 2
    if not up:
        layers += conv_bn_relu(narrow, out_channels, kernel=1, relu=relu)
    return nn.Sequential(*layers)


def _nearest_multiple(size: int, divisor: int) -> int:
    return max(round(size / divisor), 1) * divisor


def _prime_factors(number: int) -> list[int]:
    """Return the prime factors, smallest first.

    Examples:
        >>> _prime_factors(8), _prime_factors(10), _prime_factors(1)
        ([2, 2, 2], [2, 5], [])
    """
    factors, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return factors
