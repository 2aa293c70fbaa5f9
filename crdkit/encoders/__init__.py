"""Contract of an encoder: a frozen teacher that turns images in [0, 1] into a pyramid of features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import nn

from crdkit.errors import ConfigError
from crdkit.layers import FeatureSpec, Levels
from crdkit.registry import Component, ComponentConfig, Registry

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Normalisation = Literal["imagenet", "model"]


class EncoderConfig(ComponentConfig):
    """Options of an encoder; each adds its own in a subclass. Equal options share one teacher."""


class Encoder(Component, nn.Module, ABC):
    """A frozen teacher: always in eval mode, without gradients.

    Subclasses set ``channels`` and ``strides`` (one entry per level, fine to coarse), call
    ``set_normalisation`` and implement ``features``.
    """

    Config: ClassVar[type[EncoderConfig]] = EncoderConfig
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: EncoderConfig, *, load_weights: bool = True) -> None:
        """Build the teacher.

        Args:
            config: its options.
            load_weights: False where the caller loads a saved state dict right after: nothing is read or fetched.
        """
        super().__init__()
        self.config = config

    @abstractmethod
    def features(self, images: torch.Tensor) -> Levels:
        """Return the levels of normalised (B, 3, H, W) images, fine to coarse."""

    def set_normalisation(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Set the per-channel mean and standard deviation that images in [0, 1] are normalised with."""
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Turn (B, 1 or 3, H, W) images in [0, 1] into the (B, 3, H, W) that the network was trained on."""
        return (images - self.mean) / self.std

    def forward(self, images: torch.Tensor) -> Levels:
        """Return the levels of (B, 1 or 3, H, W) images in [0, 1], fine to coarse, without gradients."""
        with torch.no_grad():
            return self.features(self.normalise(images))

    def freeze(self) -> None:
        """Switch gradients off and the mode to eval, for good."""
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> Encoder:
        """Stay in eval mode: a teacher's statistics must not move."""
        return super().train(False)

    def spec(self, image_size: int) -> FeatureSpec:
        """Return channels, sizes and signedness of the levels at ``image_size``, measured on a probe image.

        Raises:
            ConfigError: what the network returns is not what ``channels`` declares.
        """
        generator = torch.Generator().manual_seed(0)
        probe = torch.rand(1, 3, image_size, image_size, generator=generator).to(self.mean.device)
        levels = self(probe)
        channels = tuple(level.shape[1] for level in levels)
        if channels != tuple(self.channels):
            raise ConfigError(f"encoder {self.config.name!r} declares channels {self.channels} but returns {channels}")
        signed = any(bool((level < 0).any()) for level in levels)
        return FeatureSpec(channels=channels, sizes=tuple(level.shape[-1] for level in levels), signed=signed)


encoders: Registry[Encoder] = Registry("encoder", package=__name__)
