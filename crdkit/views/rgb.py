"""Colour images."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from crdkit.data import Sensors
from crdkit.data.images import check_array, resize_image
from crdkit.views import View, ViewConfig, views


@views.register("rgb")
class RGB(View):
    """Gives an 8-bit colour image as (3, S, S) float32 in [0, 1], resized as the published code does."""

    class Config(ViewConfig):
        """Options of ``rgb``."""

        name: str = "rgb"
        sensor: str = Field("rgb", max_length=100, description="sensor that holds the colour image")

    config: Config

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return the one sensor that holds the colour image."""
        return (self.config.sensor,)

    def array(self, sensors: Sensors, *, image_size: int) -> np.ndarray:
        """Return (3, S, S) float32 in [0, 1] from uint8 (H, W, 3).

        Raises:
            DataError: the sensor is greyscale, has an alpha channel or is not 8-bit.
        """
        image = sensors[self.config.sensor]
        hint = "convert it to 8-bit RGB (no alpha channel, greyscale repeated three times)"
        check_array(image, source=f"sensor {self.config.sensor!r}", channels=3, dtype=np.uint8, hint=hint)
        resized = resize_image(image, image_size).transpose(2, 0, 1)
        return np.ascontiguousarray(resized, dtype=np.float32) / np.float32(255)
