"""Bottleneck projection: compress to a few positions, then restore (CRD, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from crdkit.model.layers import FeatureSpec, Levels, conv_bn_relu, resize_features
from crdkit.model.projections import Projection, ProjectionConfig, conv_projection, projections


@projections.register("bottleneck")
class Bottleneck(Projection):
    """The paper's filter: strided convolutions shrink a level to ``size`` x ``size``, transposed ones restore it.

    The ratio of the level's side to ``size`` is split into prime factors, one strided convolution each (2 x 2,
    stride 2 in the paper). Channels double on the way down and halve on the way up. A side that ``size`` does not
    divide is first resampled to the nearest multiple; a level of that side already is projected without compression.
    """

    class Config(ProjectionConfig):
        """Options of ``bottleneck``."""

        name: Literal["bottleneck"] = "bottleneck"
        size: int = Field(8, ge=1, le=256, description="side of the compressed map, in positions")

    def __init__(self, config: Config, *, source: FeatureSpec, target: FeatureSpec) -> None:
        super().__init__(config, source=source, target=target)
        self.input_sizes = [_nearest_multiple(size, config.size) for size in source.sizes]
        self.levels = nn.ModuleList(
            _projection(
                source.channels[level],
                channels,
                down=_prime_factors(self.input_sizes[level] // config.size),
                up=_prime_factors(_nearest_multiple(size, config.size) // config.size),
                relu=not target.signed,
            )
            for level, channels, size in zip(self.source_levels, target.channels, target.sizes, strict=True)
        )

    def forward(self, source: Sequence[torch.Tensor]) -> Levels:
        """Map the source's levels to the target's shapes through ``size`` x ``size`` positions."""
        entries = [resize_features(level, size) for level, size in zip(source, self.input_sizes, strict=True)]
        return self.apply_levels(self.levels, entries)


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
