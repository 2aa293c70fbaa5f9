"""Building blocks that filters, amplifiers and students share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from crdkit.errors import ConfigError

Levels = list[torch.Tensor]
"""Feature maps (B, C_l, H_l, W_l) of one modality, fine to coarse."""


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """Shapes of a feature pyramid at one input size, fine to coarse.

    ``channels`` and ``sizes`` (side of the square map) have one entry per level; ``signed`` says that
    features can be negative, so that what imitates them must not end in a ReLU.
    """

    channels: tuple[int, ...]
    sizes: tuple[int, ...]
    signed: bool

    def __post_init__(self) -> None:
        if not self.channels or len(self.channels) != len(self.sizes):
            raise ConfigError(f"a pyramid needs one size per level, got channels={self.channels} sizes={self.sizes}")
        if any(finer < coarser for finer, coarser in zip(self.sizes, self.sizes[1:], strict=False)):
            raise ConfigError(f"levels must run from fine to coarse, got sizes={self.sizes}")


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


def resize_features(features: torch.Tensor, size: int) -> torch.Tensor:
    """Resample (B, C, H, W) bilinearly to ``size`` x ``size``; the very same tensor where it fits already."""
    if features.shape[-2:] == (size, size):
        return features
    return F.interpolate(features, size=(size, size), mode="bilinear", align_corners=False)


def conv_bn_relu(
    in_channels: int,
    out_channels: int,
    *,
    kernel: int,
    stride: int = 1,
    transposed: bool = False,
    relu: bool = True,
) -> list[nn.Module]:
    """Return a bias-free convolution, BatchNorm and, if ``relu``, a ReLU.

    Odd kernels are padded to keep the size at stride 1; even ones tile the map (kernel = stride).
    """
    convolution = nn.ConvTranspose2d if transposed else nn.Conv2d
    padding = 0 if kernel == stride else kernel // 2
    layers: list[nn.Module] = [
        convolution(in_channels, out_channels, kernel, stride=stride, padding=padding, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return [*layers, nn.ReLU(inplace=True)] if relu else layers


class ResidualBlock(nn.Module):
    """Bottleneck residual block of Reverse Distillation: 1x1, 3x3 and 1x1 convolutions with BatchNorm.

    Args:
        in_channels: channels of the input.
        width: channels between the first and the last convolution.
        out_channels: channels of the output.
        resample: ``"down"`` halves the map (stride-2 3x3), ``"up"`` doubles it (2x2 transposed).
        relu: end in a ReLU; False where the imitated features are signed.
    """

    def __init__(
        self, in_channels: int, width: int, out_channels: int, *, resample: str | None = None, relu: bool = True
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(in_channels, width, 1, bias=False), nn.BatchNorm2d(width)
        if resample == "up":
            self.conv2: nn.Module = nn.ConvTranspose2d(width, width, 2, stride=2, bias=False)
        else:
            self.conv2 = nn.Conv2d(width, width, 3, stride=2 if resample else 1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, resample=resample)
        self.relu = nn.ReLU(inplace=True)
        self.final = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in, H, W) to (B, out, H', W')."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        result: torch.Tensor = self.final(y + self.shortcut(x))
        return result


def _shortcut(in_channels: int, out_channels: int, *, resample: str | None) -> nn.Module:
    if resample == "up":
        conv: nn.Module = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2, bias=False)
    elif resample == "down" or in_channels != out_channels:
        conv = nn.Conv2d(in_channels, out_channels, 1, stride=2 if resample else 1, bias=False)
    else:
        return nn.Identity()
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class ConvProjection(nn.Module):
    """A 3x3 and a 1x1 convolution per level from a source's to a target's feature space.

    The published code holds such a projection beside its two bottlenecks; it is most likely the row
    "Identity" of the paper's Tables 5 and 6 (neither compressing nor expanding).
    """

    def __init__(self, *, source: FeatureSpec, target: FeatureSpec) -> None:
        super().__init__()
        self.target = target
        self.source_levels = matching_levels(source, target)
        self.levels = nn.ModuleList(
            conv_projection(source.channels[s], channels, relu=not target.signed)
            for s, channels in zip(self.source_levels, target.channels, strict=True)
        )

    def forward(self, source: Sequence[torch.Tensor]) -> Levels:
        """Map the source's levels to maps of the target's channels and sizes."""
        return project_levels(self.levels, source, source_levels=self.source_levels, sizes=self.target.sizes)


def conv_projection(in_channels: int, out_channels: int, *, relu: bool) -> nn.Sequential:
    """Return the 3x3 and the 1x1 convolution that project one level."""
    return nn.Sequential(
        *conv_bn_relu(in_channels, in_channels, kernel=3),
        *conv_bn_relu(in_channels, out_channels, kernel=1, relu=relu),
    )


def project_levels(
    modules: nn.ModuleList, source: Sequence[torch.Tensor], *, source_levels: Sequence[int], sizes: Sequence[int]
) -> Levels:
    """Apply one module per target level to the source level it is paired with, then fit the target's size."""
    return [
        resize_features(module(source[level]), size)
        for module, level, size in zip(modules, source_levels, sizes, strict=True)
    ]


def initialise(module: nn.Module) -> None:
    """Initialise as Reverse Distillation does: Kaiming normal fan-out for Conv2d, BatchNorm 1 and 0.

    Transposed convolutions keep PyTorch's default.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
