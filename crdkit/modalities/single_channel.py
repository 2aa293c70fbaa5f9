"""Images with one channel of any bit depth: infrared, thermal, polarisation, X-ray, ..."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import AfterValidator, Field

from crdkit.datasets import Sensors
from crdkit.errors import DataError
from crdkit.images import describe, resize_float
from crdkit.modalities import Modality, ModalityConfig, modalities


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] < limits[1]:
        raise ValueError(f"low (={limits[0]:g}) must be below high (={limits[1]:g})")
    return limits


@modalities.register("single_channel")
class SingleChannel(Modality):
    """Gives an image with one channel as (1, S, S) float32: 0 at the low end of ``range``, 1 at its high end.

    ``range`` is in the sensor's own units, one for all samples, so that a part that is warmer than the others looks
    so; what lies outside is clipped. Values are resized with antialiasing and without rounding to 8 bits.
    """

    class Config(ModalityConfig):
        """Options of ``single_channel``, ``infrared``, ``polarisation`` and ``thermal``."""

        name: str = "single_channel"
        sensor: str = Field("infrared", description="sensor that holds the image")
        range: Annotated[tuple[float, float], AfterValidator(_ascending)] | None = Field(
            None,
            description="[low, high] in the sensor's units; null: all that an integer type holds, or 0 to 1 of floats",
        )

    config: Config

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return the one sensor that holds the image."""
        return (self.config.sensor,)

    def __call__(self, sensors: Sensors, *, image_size: int) -> torch.Tensor:
        """Return (1, S, S) float32 in [0, 1] from integers or floats, (H, W) or (H, W, 1).

        Raises:
            DataError: several channels, another dtype, NaN or infinite values, or floats beyond [0, 1] and no range.
        """
        image, source = sensors[self.config.sensor], f"sensor {self.config.sensor!r}"
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[..., 0]
        if image.ndim != 2 or not image.size or image.dtype.kind not in "iuf":
            raise DataError(
                f"{source}: expected integers or floats (H, W) or (H, W, 1), found {describe(image)}; "
                "keep one channel, or view a colour image as 'rgb'"
            )
        if not np.isfinite(image).all():
            raise DataError(f"{source}: holds NaN or infinite values; set them to the value of the surroundings")
        low, high = self._limits(image, source=source)
        share = (np.clip(image.astype(np.float64), low, high) - low) / (high - low)
        return torch.from_numpy(np.clip(resize_float(share, image_size), 0, 1)[None])

    def _limits(self, image: np.ndarray, *, source: str) -> tuple[float, float]:
        if self.config.range is not None:
            return self.config.range
        if image.dtype.kind in "iu":
            limits = np.iinfo(image.dtype)
            return float(limits.min), float(limits.max)
        if image.min() < 0 or image.max() > 1:
            raise DataError(
                f"{source}: expected floats in [0, 1], found {image.min():g} to {image.max():g}; "
                "set the modality's 'range' to [low, high] in the sensor's units, the same for all samples"
            )
        return 0.0, 1.0


@modalities.register("infrared")
class Infrared(SingleChannel):
    """Gives the sensor ``infrared`` as ``single_channel`` does."""

    class Config(SingleChannel.Config):
        """Options of ``infrared``."""

        name: str = "infrared"


@modalities.register("polarisation")
class Polarisation(SingleChannel):
    """Gives the sensor ``polarisation``, e.g. the degree of linear polarisation, as ``single_channel`` does."""

    class Config(SingleChannel.Config):
        """Options of ``polarisation``."""

        name: str = "polarisation"
        sensor: str = Field("polarisation", description="sensor that holds the image")


@modalities.register("thermal")
class Thermal(SingleChannel):
    """Gives the sensor ``thermal`` as ``single_channel`` does."""

    class Config(SingleChannel.Config):
        """Options of ``thermal``."""

        name: str = "thermal"
        sensor: str = Field("thermal", description="sensor that holds the image")
