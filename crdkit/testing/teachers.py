"""The contract of an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from crdkit.model.encoders import Encoder, encoders
from crdkit.testing.parts import check_description
from crdkit.testing.requirement import require, require_close, require_same


def check_encoder(
    name: str,
    options: Mapping[str, Any] | None = None,
    *,
    image_size: int = 64,
    load_weights: bool = False,
) -> None:
    """Check an encoder: it is frozen, returns what it declares, and loads a saved state without its weights.

    Args:
        name: the registered name.
        options: needed if some have no default, or to avoid a download (``pretrained: false``).
        image_size: side of the images that it is checked on, in pixels, unless ``options`` set one.
        load_weights: check it with the weights that it reads or downloads; else with those that it was built with.

    Raises:
        AssertionError: the message names the broken promise.

    Examples:
        >>> check_encoder("timm", {"model": "test_resnet", "pretrained": False})
    """
    check_description("encoder", name, options)
    what = f"encoder {name!r}"
    config = encoders.build_config({"name": name, **(options or {})})
    size = config.image_size or image_size
    encoder = encoders.build(config, load_weights=load_weights)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    _check_levels(what, encoder, images)
    _check_frozen(what, encoder, images)
    _check_state(what, encoder, images)
    _check_sizes(what, encoder, size)


def _check_levels(what: str, encoder: Encoder, images: torch.Tensor) -> None:
    size = images.shape[-1]
    spec = encoder.spec(size)
    declared = tuple(encoder.channels)
    require(spec.channels == declared, f"{what} declares channels {declared} but returns {spec.channels}")
    allowed = [(size // stride, -(-size // stride)) for stride in encoder.strides]
    fits = len(allowed) == len(spec.sizes) and all(
        found in sizes for found, sizes in zip(spec.sizes, allowed, strict=True)
    )
    require(fits, f"{what} declares strides {tuple(encoder.strides)}, but images of {size} give sides {spec.sizes}")
    levels = encoder(images)
    found = [tuple(level.shape) for level in levels]
    expected = [(2, channels, side, side) for channels, side in zip(spec.channels, spec.sizes, strict=True)]
    require(found == expected, f"{what} returns levels of shapes {found}, expected {expected} (B, C, H, W)")
    require(all(bool(level.isfinite().all()) for level in levels), f"{what} returns values that are not finite")
    require_same(encoder(images), levels, f"{what} gives other features for the same images")
    alone = encoder(images[:1])
    require_close(alone, [level[:1] for level in levels], f"{what}: a sample's features depend on its batch")
    grey = images[:, :1]
    three = encoder(grey.expand(-1, 3, -1, -1))
    require_close(encoder(grey), three, f"{what}: one channel does not give the same as three equal ones")


def _check_frozen(what: str, encoder: Encoder, images: torch.Tensor) -> None:
    encoder.train()
    training = [key for key, module in encoder.named_modules() if module.training]
    require(
        not training, f"{what} leaves eval mode on train(): {training[:3]}; call self.freeze() at the end of __init__"
    )
    trained = [key for key, parameter in encoder.named_parameters() if parameter.requires_grad]
    require(not trained, f"{what} has trainable parameters: {trained[:3]}; call self.freeze() at the end of __init__")
    levels = encoder(images.clone().requires_grad_())
    require(not any(level.requires_grad for level in levels), f"{what} lets gradients through to its images")


def _check_state(what: str, encoder: Encoder, images: torch.Tensor) -> None:
    empty = encoders.build(encoder.config, load_weights=False)
    empty.load_state_dict(encoder.state_dict())
    message = f"{what}: built with load_weights=False and given the saved state dict, it gives other results"
    require_same(empty(images), encoder(images), message)


def _check_sizes(what: str, encoder: Encoder, size: int) -> None:
    config = encoder.config.model_copy(update={"image_size": size})
    fixed = encoders.build(config, load_weights=False)
    fixed.load_state_dict(encoder.state_dict())
    for other in (size // 2, size * 5 // 2):
        images = torch.rand(2, 3, other, other, generator=torch.Generator().manual_seed(1))
        seen = F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
        require(
            fixed.spec(other) == encoder.spec(size),
            f"{what} with image_size={size} gives other shapes for images of {other} x {other}",
        )
        message = f"{what} with image_size={size} does not resample images of {other} x {other} to that size"
        require_same(fixed(images), encoder(seen), message)
