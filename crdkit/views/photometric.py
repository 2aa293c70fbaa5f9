"""Normals and reflectance from photographs under several lights, whose directions are known: photometric stereo."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from crdkit.data import Sensors
from crdkit.data.images import describe
from crdkit.errors import DataError
from crdkit.views import View, ViewConfig, views
from crdkit.views._photometry import Shading, fit_normals, mostly_below, saturated
from crdkit.views.geometry import resize_float

_MIN_VOLUME = 0.01  # of the lights' mean strength: lights in one plane leave a direction open
_SYNTHETIC = ((0.0, -0.785, 0.62), (0.785, 0.0, 0.62), (0.0, 0.785, 0.62), (-0.785, 0.0, 0.62))

Direction = tuple[float, float, float]


class PhotometricConfig(ViewConfig):
    """Options of ``photometric_normals`` and ``albedo``."""

    sensors: tuple[Annotated[str, Field(max_length=100)], ...] = Field(
        tuple(f"image_{light}" for light in range(1, 5)),
        min_length=3,
        max_length=64,
        description="sensors that hold the photographs, one per light, colour or grey",
    )
    directions: tuple[Direction, ...] = Field(
        _SYNTHETIC,
        description="of each photograph's light, from the object to the light: right, up, towards the camera; its "
        "length is the light's strength; the default is that of crdkit's synthetic lights",
    )
    gamma: float = Field(
        2.2, ge=0.1, le=10, description="brightness is value ** gamma: 2.2 for sRGB, 1 for cameras that are linear"
    )
    noise: float = Field(
        0.005, ge=0, le=1, description="of the brightness, as a share of the range; no brighter pixels face the camera"
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_sensors_alone(cls, value: Any) -> Any:
        if isinstance(value, dict) and "sensors" in value and "directions" not in value:
            raise ValueError(
                "sensors need directions: give one [right, up, towards the camera] per photograph, or estimate them "
                "with crdkit.views.light_directions.estimate_directions"
            )
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> PhotometricConfig:
        if len(self.sensors) != len(self.directions):
            raise ValueError(f"directions: {len(self.directions)} for {len(self.sensors)} sensors; give one per sensor")
        if np.linalg.svd(np.array(self.directions), compute_uv=False)[-1] < _MIN_VOLUME:
            raise ValueError("directions lie in one plane, or are 0; normals need three lights that do not")
        return self


class _Photometric(View):
    """Reads a stack of photographs."""

    config: PhotometricConfig

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return the sensors that hold the photographs."""
        return self.config.sensors

    def _shading(self, sensors: Sensors, image_size: int) -> tuple[Shading, np.ndarray]:
        """Return what explains the photographs, resized, of S * S pixels; and their brightness, (K, S * S, 3 or 1)."""
        linear = linear_stack({name: sensors[name] for name in self.sensors}, gamma=self.config.gamma)
        resized = np.broadcast_arrays(*(resize_float(image, image_size) for image in linear))  # some may be grey
        stack = np.stack(resized).astype(np.float64)
        clipped = np.stack([resize_float(saturated(image), image_size) for image in linear])
        stack = np.maximum(stack, 0).reshape(len(stack), image_size**2, -1)
        usable = mostly_below(clipped).reshape(len(stack), -1)
        lights = np.array(self.config.directions)
        return fit_normals(stack.mean(axis=2), lights, noise=self.config.noise, usable=usable), stack


@views.register("photometric_normals")
class PhotometricNormals(_Photometric):
    """Gives surface normals from photographs under known lights as (3, S, S) float32, (n + 1) / 2.

    Photometric stereo (Woodham, Optical Engineering 19, 1980): a matt surface of reflectance r and normal n is
    r (l . n) bright under a light l, so three or more lights give r n by least squares. A light counts by how bright a
    pixel is, so shadows count little, and from four lights on by how well it fits the others, so gloss counts less;
    saturated pixels do not count. What is left open, as where two lights arrive, is filled in towards the camera; so
    black pixels, and all-black images, are (0.5, 0.5, 1). Axes are right, up, towards the camera, as in ``normals``.

    It finds relief that is too fine for a scanner, and no print or stain, which is reflectance (see ``albedo``). The
    photographs are resized first. Exposure does not matter. Lights are taken as distant. If their directions are not
    known, estimate them once, from normal parts, with `crdkit.views.light_directions.estimate_directions`: then all
    samples have the same axes.

    Examples:
        >>> from crdkit.testing import example_sensors
        >>> view = PhotometricNormals(PhotometricNormals.Config())
        >>> tuple(view(example_sensors(view.sensors), image_size=32).shape)
        (3, 32, 32)
    """

    class Config(PhotometricConfig):
        """Options of ``photometric_normals``."""

        name: str = "photometric_normals"

    config: Config

    def array(self, sensors: Sensors, *, image_size: int) -> np.ndarray:
        """Return (3, S, S) float32 in [0, 1] from three or more images of one size, see `linear_stack`.

        Raises:
            DataError: an image has another dtype or shape, or differs from the first in height or width.
        """
        shading, _ = self._shading(sensors, image_size)
        normals = np.clip((shading.normals + 1) / 2, 0, 1)
        return np.ascontiguousarray(normals.T.reshape(3, image_size, image_size), np.float32)


@views.register("albedo")
class Albedo(_Photometric):
    """Gives reflectance (albedo) from photographs under known lights as (3, S, S) float32, free of shading.

    Of each channel, by least squares for the normals of ``photometric_normals``, with the same weights; grey images
    give three equal channels. It finds print, stains and fading, and no relief. 1 is ``white``, the reflectance times
    the light's strength; it is written with the ``gamma`` of the photographs, so that it looks like one. Black pixels
    are 0. Exposure matters: keep it.

    Examples:
        >>> from crdkit.testing import example_sensors
        >>> view = Albedo(Albedo.Config())
        >>> tuple(view(example_sensors(view.sensors), image_size=32).shape)
        (3, 32, 32)
    """

    class Config(PhotometricConfig):
        """Options of ``albedo``."""

        name: str = "albedo"
        white: float = Field(1.0, ge=1e-9, le=1000, description="reflectance that is shown as 1, of full brightness")

    config: Config

    def array(self, sensors: Sensors, *, image_size: int) -> np.ndarray:
        """Return (3, S, S) float32 in [0, 1] from three or more images of one size, see `linear_stack`.

        Raises:
            DataError: an image has another dtype or shape, or differs from the first in height or width.
        """
        shading, stack = self._shading(sensors, image_size)
        lit = np.maximum(np.einsum("ki,pi->kp", np.array(self.config.directions), shading.normals), 0)
        power = (shading.weights * lit * lit).sum(axis=0)
        colour = np.einsum("kp,kpc->cp", shading.weights * lit, stack) / np.maximum(power, 1e-9)
        shown = np.clip(colour / self.config.white, 0, 1) ** (1 / self.config.gamma)
        image = np.broadcast_to(shown, (3, image_size**2)).reshape(3, image_size, image_size)
        return np.ascontiguousarray(image, np.float32)


def linear_stack(images: Sensors, *, gamma: float) -> list[np.ndarray]:
    """Return photographs of one scene as brightness in [0, 1], (H, W, 1 or 3) float32 each.

    Args:
        images: by sensor, uint8 or uint16, each (H, W) or (H, W, 3), all of one height and width.
        gamma: brightness is the stored value, as a share of its range, to this power.

    Raises:
        DataError: an image has another dtype or shape, or differs from the first in height or width.

    Examples:
        >>> linear_stack({"left": np.array([[0, 255]], np.uint8)}, gamma=2.2)[0].shape
        (1, 2, 1)
    """
    first = next(iter(images))
    linear = []
    for name, image in images.items():
        if image.dtype not in (np.uint8, np.uint16) or not image.size or image.shape[2:] not in ((), (1,), (3,)):
            raise DataError(
                f"sensor {name!r}: expected uint8 or uint16 (H, W) or (H, W, 3), found {describe(image)}; "
                "convert it to RGB or grey (no alpha channel)"
            )
        if image.shape[:2] != images[first].shape[:2]:
            raise DataError(
                f"sensor {name!r}: found {describe(image)}, but sensor {first!r} holds {describe(images[first])}; "
                "all lights must show the same pixels"
            )
        full = np.iinfo(image.dtype).max
        curve = (np.arange(full + 1) / full) ** gamma
        linear.append(np.atleast_3d(curve.astype(np.float32)[image]))
    return linear
