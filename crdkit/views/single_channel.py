"""Images with one channel of any bit depth: infrared, thermal, polarisation, X-ray, ..."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from crdkit.data import Sensors
from crdkit.data.images import describe
from crdkit.data.sensors import check_finite
from crdkit.errors import DataError
from crdkit.views import View, ViewConfig, views
from crdkit.views.geometry import resize_float


def _ascending(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[1] - limits[0] < float("inf"):
        raise ValueError(
            f"low (={limits[0]:g}) must be below high (={limits[1]:g}), and not by more than floats can hold"
        )
    return limits


@views.register("single_channel")
class SingleChannel(View):
    """Gives an image with one channel as (1, S, S) float32: 0 at the low end of ``range``, 1 at its high end.

    ``range`` is in the sensor's own units, one for all samples, so that a part that is warmer than the others looks
    warmer; what lies outside is clipped. Values are resized with antialiasing and without rounding to 8 bits. A pixel
    with NaN has no value of its own; ``missing`` gives it one, before the image is resized.

    Examples:
        >>> kelvin = np.array([[290.0, 300.0], [310.0, 330.0]])
        >>> view = SingleChannel(SingleChannel.Config(sensor="thermal", range=(290, 310)))
        >>> view.array({"thermal": kelvin}, image_size=2)
        array([[[0. , 0.5],
                [1. , 1. ]]], dtype=float32)
    """

    class Config(ViewConfig):
        """Options of ``single_channel`` and ``infrared``."""

        name: str = "single_channel"
        sensor: str = Field("infrared", max_length=100, description="sensor that holds the image")
        range: Annotated[tuple[float, float], AfterValidator(_ascending)] | None = Field(
            None,
            description="[low, high] in the sensor's units; null: the full range of integers, or 0 to 1 for floats",
        )
        missing: float | None = Field(
            None, description="value of pixels that hold NaN, in the sensor's units; null: NaN is an error"
        )

    channels = 1
    config: Config

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return the one sensor that holds the image."""
        return (self.config.sensor,)

    def array(self, sensors: Sensors, *, image_size: int) -> np.ndarray:
        """Return (1, S, S) float32 in [0, 1] from integers or floats, (H, W) or (H, W, 1).

        Raises:
            DataError: several channels, another dtype, infinite values, NaN without ``missing``, or floats beyond
                [0, 1] without ``range``.
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
            check_finite(image, source=source)
            if self.config.missing is None:
                raise DataError(
                    f"{source}: {np.count_nonzero(np.isnan(image))} pixels hold NaN; set the modality's 'missing' to "
                    "the value that they shall have, such as that of the surroundings"
                )
            image = np.where(np.isnan(image), image.dtype.type(self.config.missing), image)
        low, high = self._limits(image, source=source)
        share = (np.clip(image.astype(np.float64), low, high) - low) / (high - low)
        return np.asarray(np.clip(resize_float(share, image_size), 0, 1))[None]

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


@views.register("infrared")
class Infrared(SingleChannel):
    """Gives the sensor ``infrared`` as ``single_channel`` does.

    Examples:
        >>> from crdkit.testing import example_sensors
        >>> view = Infrared(Infrared.Config())
        >>> view.sensors, tuple(view(example_sensors(["infrared"]), image_size=32).shape)
        (('infrared',), (1, 32, 32))
    """

    class Config(SingleChannel.Config):
        """Options of ``infrared``."""

        name: str = "infrared"
