"""A stack of photographs of one scene under several lights, as one image."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from crdkit.data import Sensors
from crdkit.data.images import describe, resize_image
from crdkit.errors import DataError
from crdkit.views import View, ViewConfig, views

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in JPEG


@views.register("lights")
class Lights(View):
    """Gives mean, spread and maximum of the brightness over the lights as (3, S, S) float32.

    An encoder reads three channels, whatever the number of lights, so the stack is summed up by what changes with
    the light and what does not: the mean shows the material nearly free of shadows; the spread (twice the standard
    deviation, so that it spans 0 to 1) shows relief, as a slope is bright from one side only; the maximum shows
    gloss, which lights up under one light. The order of the lights does not matter. Colour is left to ``rgb``, which
    reads one light (``sensor: image_4``) and can be named six times instead of this.

    Examples:
        >>> from crdkit.testing import example_sensors
        >>> view = Lights(Lights.Config(sensors=("image_0", "image_3")))
        >>> tuple(view(example_sensors(view.sensors), image_size=32).shape)
        (3, 32, 32)
    """

    class Config(ViewConfig):
        """Options of ``lights``."""

        name: str = "lights"
        sensors: tuple[Annotated[str, Field(max_length=100)], ...] = Field(
            tuple(f"image_{light}" for light in range(6)),
            min_length=2,
            description="sensors that hold the photographs, colour or grey",
        )

    config: Config

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return the sensors that hold the photographs."""
        return self.config.sensors

    def array(self, sensors: Sensors, *, image_size: int) -> np.ndarray:
        """Return (3, S, S) float32 in [0, 1] from two or more uint8 images of one size, each (H, W) or (H, W, 3).

        Raises:
            DataError: an image is not 8-bit, has an alpha channel, or differs from the first in height or width.
        """
        first = self.config.sensors[0]
        stack = []
        for name in self.config.sensors:
            image = sensors[name]
            if image.dtype != np.uint8 or not image.size or image.shape[2:] not in ((), (3,)) or image.ndim < 2:
                raise DataError(
                    f"sensor {name!r}: expected uint8 (H, W) or (H, W, 3), found {describe(image)}; "
                    "convert it to 8-bit RGB or grey (no alpha channel)"
                )
            if image.shape[:2] != sensors[first].shape[:2]:
                raise DataError(
                    f"sensor {name!r}: found {describe(image)}, but sensor {first!r} holds {describe(sensors[first])}; "
                    "all lights must show the same pixels"
                )
            resized = resize_image(image, image_size) / np.float32(255)
            stack.append(resized if image.ndim == 2 else np.einsum("ijk,k->ij", resized, _LUMINANCE))
        brightness = np.stack(stack)
        view = np.stack([brightness.mean(axis=0), 2 * brightness.std(axis=0), brightness.max(axis=0)])
        return np.asarray(np.clip(view, 0, 1))
