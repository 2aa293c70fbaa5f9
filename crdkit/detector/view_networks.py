"""Views as operators on tensors, for exported detectors: those that need no more than resizing and arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
import torch
from torch import nn

from crdkit.views import View
from crdkit.views.lights import Lights
from crdkit.views.normals import Normals
from crdkit.views.polarisation import Polarisation, stokes_weights
from crdkit.views.rgb import RGB
from crdkit.views.single_channel import SingleChannel

_HALF = 2**11  # Pillow rounds the weights of 8-bit images to twice as many bits
_LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """How a sensor is delivered."""

    dtype: str
    """Of numpy, such as "uint8"."""
    channels: int
    """1 for (H, W)."""


class ViewNetwork(nn.Module):
    """A view of tensors; a subclass defines `forward` with operators that exporters know."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size

    def forward(self, sensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the view, (N, C, S, S) float32, of (N, H, W) or (N, H, W, C) sensors of any height and width."""
        raise NotImplementedError


@singledispatch
def as_network(view: View, *, image_size: int, stored: Mapping[str, Stored]) -> ViewNetwork | None:
    """Return a view as a network; None if it is made by NumPy alone, as views of scans are.

    It gives what the view gives, 8-bit images bit by bit and others up to rounding. A view of your own can register its
    network: ``as_network.register(MyView, my_network)``.

    Args:
        view: of one modality.
        image_size: of the view, pixels.
        stored: how its sensors are delivered; one that is delivered in several ways, or unknown, is not in it.

    Examples:
        >>> from crdkit.testing import example_sensors
        >>> view, colour = RGB(RGB.Config()), Stored(dtype="uint8", channels=3)
        >>> network = as_network(view, image_size=32, stored={"rgb": colour})
        >>> sensors = example_sensors(["rgb"], size=(48, 70))
        >>> found = network({"rgb": torch.from_numpy(sensors["rgb"].copy())[None]})[0]
        >>> torch.equal(found, view(sensors, image_size=32))
        True
    """
    return None


class _Colours(ViewNetwork):
    """An 8-bit image of three channels, resized as such."""

    def __init__(self, image_size: int, *, sensor: str) -> None:
        super().__init__(image_size)
        self.sensor = sensor

    def forward(self, sensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return resize_bytes(sensors[self.sensor].permute(0, 3, 1, 2).float(), self.image_size) / 255


@as_network.register
def _rgb(view: RGB, *, image_size: int, stored: Mapping[str, Stored]) -> ViewNetwork | None:
    return _Colours(image_size, sensor=view.config.sensor)


class _Decoded(ViewNetwork):
    """An image of normals, decoded to unit vectors and resized as such."""

    def __init__(self, image_size: int, *, sensor: str) -> None:
        super().__init__(image_size)
        self.sensor = sensor

    def forward(self, sensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        vectors = sensors[self.sensor].permute(0, 3, 1, 2).float() / 127.5 - 1
        vectors = vectors / vectors.square().sum(dim=1, keepdim=True).sqrt().clamp_min(1e-6)
        averaged = resize_floats(vectors, self.image_size)  # every byte decodes to something that is not 0
        length = averaged.square().sum(dim=1, keepdim=True).sqrt()
        return torch.where(length > 1e-6, ((averaged / length.clamp_min(1e-6) + 1) / 2).clamp(0, 1), 0)


@as_network.register
def _normals(view: Normals, *, image_size: int, stored: Mapping[str, Stored]) -> ViewNetwork | None:
    sensor = view.config.sensor
    if stored.get(sensor) != Stored(dtype="uint8", channels=3):
        return None
    return (_Decoded if view.config.decode else _Colours)(image_size, sensor=sensor)


class _Brightness(ViewNetwork):
    """Mean, spread and maximum of the brightness over several 8-bit images."""

    luminance: torch.Tensor

    def __init__(self, image_size: int, *, sensors: tuple[str, ...]) -> None:
        super().__init__(image_size)
        self.sensors = sensors
        self.register_buffer("luminance", torch.tensor(_LUMINANCE).view(1, 3, 1, 1))

    def _brightness(self, image: torch.Tensor) -> torch.Tensor:
        """Return the (N, S, S) brightness of (N, H, W) or (N, H, W, 3)."""
        planes = image[:, None] if image.ndim == 3 else image.permute(0, 3, 1, 2)
        resized = resize_bytes(planes.float(), self.image_size) / 255
        return resized[:, 0] if image.ndim == 3 else (resized * self.luminance).sum(dim=1)

    def forward(self, sensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        lights = torch.stack([self._brightness(sensors[name]) for name in self.sensors])
        mean = lights.mean(dim=0)
        spread = 2 * (lights - mean).square().mean(dim=0).sqrt()
        return torch.stack([mean, spread, lights.amax(dim=0)], dim=1).clamp(0, 1)


@as_network.register
def _lights(view: Lights, *, image_size: int, stored: Mapping[str, Stored]) -> ViewNetwork | None:
    return _Brightness(image_size, sensors=view.sensors) if all(name in stored for name in view.sensors) else None


class _Window(ViewNetwork):
    """One channel of any dtype, between two values."""

    def __init__(self, image_size: int, *, sensor: str, limits: tuple[float, float], missing: float | None) -> None:
        super().__init__(image_size)
        self.sensor, self.limits, self.missing = sensor, limits, missing

    def forward(self, sensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        image, (low, high) = sensors[self.sensor].float(), self.limits
        if self.missing is not None:
            image = torch.where(image.isnan(), self.missing, image)
        share = (image.clamp(low, high) - low) / (high - low)
        return resize_floats(share[:, None], self.image_size).clamp(0, 1)


@as_network.register
def _single_channel(view: SingleChannel, *, image_size: int, stored: Mapping[str, Stored]) -> ViewNetwork | None:
    sensor, limits, missing = view.config.sensor, view.config.range, view.config.missing
    known = stored.get(sensor)
    if known is None or known.channels != 1 or known.dtype not in ("uint8", "uint16", "float32"):
        return None
    if known.dtype != "float32":
        limits, missing = limits or (0.0, float(np.iinfo(known.dtype).max)), None
    return _Window(image_size, sensor=sensor, limits=limits or (0.0, 1.0), missing=missing)


class _Stokes(ViewNetwork):
    """Degree and angle of polarisation from images behind polarisers, or from one that stacks them."""

    weights: torch.Tensor

    def __init__(self, image_size: int, *, options: Polarisation.Config, dtype: str) -> None:
        super().__init__(image_size)
        self.sensors, self.black = options.sensors, options.black
        self.least, self.largest = options.least(dtype), options.largest
        self.register_buffer("weights", torch.from_numpy(stokes_weights(options.angles)).float())

    def forward(self, sensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        images = [sensors[name].float() for name in self.sensors]
        planes = torch.stack(images, dim=1) if len(images) > 1 else images[0].permute(0, 3, 1, 2)
        unknown = planes.isnan().any(dim=1, keepdim=True)
        light = torch.where(unknown, 0, (planes - self.black).clamp_min(0))
        resized = resize_floats(light, self.image_size)
        stokes = (self.weights @ resized.flatten(2)).unflatten(2, resized.shape[2:])
        parts = stokes[:, 1:] / (stokes[:, :1].clamp_min(self.least) * self.largest)
        degree = parts.square().sum(dim=1, keepdim=True).sqrt()
        return torch.cat([degree, (1 + parts) / 2], dim=1).clamp(0, 1)


@as_network.register
def _polarisation(view: Polarisation, *, image_size: int, stored: Mapping[str, Stored]) -> ViewNetwork | None:
    options = view.config
    channels = len(options.angles) if len(options.sensors) == 1 else 1
    found = {stored.get(name) for name in options.sensors}
    known = next((s for s in found if s and s.channels == channels and s.dtype in ("uint8", "uint16", "float32")), None)
    if known is None or len(found) > 1:
        return None
    return _Stokes(image_size, options=options, dtype=known.dtype)


def resize_bytes(planes: torch.Tensor, size: int) -> torch.Tensor:
    """Squash (..., H, W) float32 that hold 0 to 255 as `crdkit.data.images.resize_image` does, bit by bit.

    Pillow adds up whole numbers, each axis rounded: pixels times weights of 22 bits. Here these are two halves of 11
    bits, whose sums a float32 holds exactly in any order, so every runtime rounds alike.
    """
    across = _rounded(*(planes @ half.T for half in _halves(planes.shape[-1], size)))
    return _rounded(*(half @ across for half in _halves(planes.shape[-2], size))).clamp(0, 255)


def _halves(length: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the upper and the lower 11 bits of Pillow's weights of 8-bit images, (size, length) float32 each."""
    weights = _triangles(length, size)
    total = weights.sum(dim=1, keepdim=True)
    upper, rest = weights * _HALF // total, weights * _HALF % total  # in two steps, which 32 bits hold
    lower = (2 * rest * _HALF + total) // (2 * total)
    return upper.float(), lower.float()


def _rounded(upper: torch.Tensor, lower: torch.Tensor) -> torch.Tensor:
    """Return sums of both halves as whole numbers, halves rounded up."""
    return torch.floor((upper + torch.floor(lower / _HALF) + _HALF // 2) / _HALF)


def resize_floats(planes: torch.Tensor, size: int) -> torch.Tensor:
    """Squash (..., H, W) float32 as `crdkit.views.geometry.resize_float` does."""
    columns, rows = (bilinear_weights(planes.shape[axis], size) for axis in (-1, -2))
    return rows @ (planes @ columns.T)


def bilinear_weights(length: int, size: int) -> torch.Tensor:
    """Return the (size, length) weights of an antialiased bilinear filter along one axis; each row sums to 1.

    They are Pillow's: a triangle around each new pixel's centre, as wide as the larger of the two pitches on either
    side. They are computed in whole numbers: distances times twice ``size``. Runtimes differ in what their own resizing
    makes of antialiasing; all multiply matrices alike.

    Examples:
        >>> bilinear_weights(4, 2)
        tensor([[0.4286, 0.4286, 0.1429, 0.0000],
                [0.0000, 0.1429, 0.4286, 0.4286]])
    """
    weights = _triangles(length, size).float()
    return weights / weights.sum(dim=1, keepdim=True)


def _triangles(length: int, size: int) -> torch.Tensor:
    """Return the weights of `bilinear_weights` as (size, length) whole numbers, not normalised."""
    centres = (2 * torch.arange(size) + 1)[:, None] * length
    distances = ((2 * torch.arange(length) + 1)[None] * size - centres).abs()
    reach = 2 * torch.sym_max(length, size)
    weights: torch.Tensor = (reach - distances).clamp_min(0)  # type: ignore[union-attr, unused-ignore]
    return weights
