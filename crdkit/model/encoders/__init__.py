"""Contract of an encoder: a frozen teacher that turns images in [0, 1] into a pyramid of features."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import nn

from crdkit._core.registry import Component, ComponentConfig, Registry
from crdkit.errors import ConfigError, first_line, shorten
from crdkit.model.layers import FeatureSpec, Levels

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Normalisation = Literal["imagenet", "model"]


def _fine_to_coarse(layers: tuple[int, ...]) -> tuple[int, ...]:
    if list(layers) != sorted(set(layers), key=lambda layer: (layer < 0, layer)):
        raise ValueError(f"name each layer once, fine to coarse, e.g. [1, 2, 3]; got {shorten(str(list(layers)))}")
    return layers


Layers = Annotated[tuple[int, ...], Field(min_length=1, max_length=64), AfterValidator(_fine_to_coarse)]
"""Which of a network's levels of features a teacher gives; negative ones count from the last."""

_HOOK_LOCK = threading.RLock()
"""Held while a network with hooks runs: they store features where another thread's call would overwrite them."""


class EncoderConfig(ComponentConfig):
    """Options of an encoder; each adds its own in a subclass. Equal options share one teacher.

    Examples:
        >>> EncoderConfig(name="timm").at(256).image_size, EncoderConfig(name="timm", image_size=384).at(256).image_size
        (256, 384)
    """

    image_size: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="side of the square image that this teacher sees, in pixels; null: data.image_size",
    )

    def at(self, image_size: int) -> Self:
        """Return these options with ``image_size`` if none was chosen."""
        return self if self.image_size is not None else self.model_copy(update={"image_size": image_size})


class Encoder(Component, nn.Module, ABC):
    """A frozen teacher: always in eval mode, without gradients.

    Subclasses set ``channels`` and ``strides`` (one entry per level, fine to coarse), call
    ``set_normalisation`` and implement ``features``. On a CPU modalities may call it from several threads at once, so
    no state of a call may be kept in the module; a network with hooks, which do that, is called by one at a time. A
    network that must know the size of its images when it is built reads ``config.image_size``: a model built from a
    run's configuration always sets it.

    Examples:
        >>> class Blurred(Encoder):
        ...     channels, strides = (3, 3), (4, 8)
        ...
        ...     def __init__(self, config, *, load_weights=True):
        ...         super().__init__(config, load_weights=load_weights)
        ...         self.set_normalisation(IMAGENET_MEAN, IMAGENET_STD)
        ...         self.freeze()
        ...
        ...     def features(self, images):
        ...         return [F.avg_pool2d(images, stride) for stride in self.strides]
        >>> encoder = Blurred(EncoderConfig(name="blurred"))
        >>> [tuple(level.shape) for level in encoder(torch.rand(2, 1, 64, 64))]
        [(2, 3, 16, 16), (2, 3, 8, 8)]
        >>> encoder.spec(64)
        FeatureSpec(channels=(3, 3), sizes=(16, 8), signed=True)
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
            load_weights: False if the caller loads a saved state dict right after: nothing is read or downloaded.
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

    def resample(self, images: torch.Tensor) -> torch.Tensor:
        """Bring (B, C, H, W) images to ``config.image_size``: bilinear, antialiased; unchanged if they have it."""
        size = self.config.image_size
        if size is None or images.shape[-2:] == (size, size):
            return images
        return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)

    def forward(self, images: torch.Tensor) -> Levels:
        """Return the levels of (B, 1 or 3, H, W) images in [0, 1], fine to coarse, without gradients."""
        with torch.no_grad(), _HOOK_LOCK if self._has_hooks() else nullcontext():
            return self.features(self.normalise(self.resample(images)))

    def _has_hooks(self) -> bool:
        return any(part._forward_hooks or part._forward_pre_hooks for part in self.modules())

    def freeze(self) -> None:
        """Switch gradients off and the mode to eval, permanently."""
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> Encoder:
        """Stay in eval mode: a teacher's statistics must not change."""
        return super().train(False)

    def spec(self, image_size: int) -> FeatureSpec:
        """Return channels, sizes and signedness of the levels of images of ``image_size``, measured on a probe.

        Raises:
            ConfigError: the network cannot process such images, or returns levels other than it declares.
        """
        levels = self.probe(image_size)
        channels = tuple(level.shape[1] for level in levels)
        if channels != tuple(self.channels):
            raise ConfigError(f"encoder {self.config.name!r} declares channels {self.channels} but returns {channels}")
        signed = any(bool((level < 0).any()) for level in levels)
        return FeatureSpec(channels=channels, sizes=tuple(level.shape[-1] for level in levels), signed=signed)

    def probe(self, image_size: int) -> Levels:
        """Return the levels of one random image of ``image_size``, always the same one.

        Raises:
            ConfigError: the network cannot process such images, or does not return frozen square maps.
        """
        name, size = self.config.name, self.config.image_size or image_size
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(1, 3, image_size, image_size, generator=generator).to(self.mean.device)
        try:
            levels: Levels = self(image)
        except (AssertionError, RuntimeError) as error:
            reason = first_line(error)
            raise ConfigError(
                f"encoder {name!r} cannot process images of {size} x {size}: {reason}; "
                "set encoder.image_size to a size that it accepts (null means data.image_size)"
            ) from error
        _check_levels(levels, name)
        return levels


def _check_levels(levels: Any, name: str) -> None:
    """Refuse anything that is not a list of frozen square maps of one image.

    Raises:
        ConfigError: the message says what was found.
    """
    expected = f"encoder {name!r} must return a list of (B, C, S, S) float maps, fine to coarse, but returned"
    if not isinstance(levels, (list, tuple)) or not levels:
        raise ConfigError(f"{expected} {'an empty list' if levels == [] else type(levels).__name__}")
    for index, level in enumerate(levels):
        if not isinstance(level, torch.Tensor) or not level.is_floating_point():
            found = level.dtype if isinstance(level, torch.Tensor) else type(level).__name__
            raise ConfigError(f"{expected} {found} as level {index}")
        if level.ndim != 4 or len(level) != 1 or level.shape[-1] != level.shape[-2]:
            raise ConfigError(f"{expected} shape {tuple(level.shape)} as level {index} of one image")
        if level.requires_grad:
            raise ConfigError(
                f"encoder {name!r} lets gradients through level {index}: a teacher is frozen; "
                "do not enable gradients in its forward pass"
            )


def layers_misfit(model: str, layers: Sequence[int]) -> ConfigError:
    """Describe ``layers`` that timm's ``model`` does not have, or in another order."""
    import timm

    with torch.random.fork_rng(devices=[]):
        count = len(getattr(timm.create_model(model, pretrained=False), "feature_info", ()))
    known = f"it has the layers 0 to {count - 1}, fine to coarse" if count else "it offers no layers"
    return ConfigError(f"encoder.layers (={list(layers)}) do not fit {model!r}: {known}")


encoders: Registry[Encoder] = Registry("encoder", package=__name__)
