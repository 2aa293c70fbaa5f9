"""Shapes of features, and the blocks that projections and students are built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from crdkit.errors import ConfigError

Levels = list[torch.Tensor]
"""Feature maps (B, C_l, H_l, W_l) of one modality, fine to coarse."""
Presence = Mapping[str, torch.Tensor]
"""By modality, (B,) bool: whether each sample has it."""


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """Shapes of a feature pyramid at one input size, fine to coarse.

    ``channels`` and ``sizes`` (side of the square map) have one entry per level; ``signed`` means that
    features can be negative, so that a network which imitates them must not end in a ReLU.
    """

    channels: tuple[int, ...]
    sizes: tuple[int, ...]
    signed: bool

    def __post_init__(self) -> None:
        if not self.channels or len(self.channels) != len(self.sizes):
            raise ConfigError(f"a pyramid needs one size per level, got channels={self.channels} sizes={self.sizes}")
        if any(finer < coarser for finer, coarser in zip(self.sizes, self.sizes[1:], strict=False)):
            raise ConfigError(f"levels must run from fine to coarse, got sizes={self.sizes}")


def resize_features(features: torch.Tensor, size: int) -> torch.Tensor:
    """Resample (B, C, H, W) bilinearly to ``size`` x ``size``; a tensor of that size is returned as is."""
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

    A kernel as large as its stride tiles the map, without padding; others are padded to keep the size at stride 1.
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
