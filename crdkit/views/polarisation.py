"""Degree and angle of linear polarisation, from images through polarisers at several angles."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from crdkit.data import Sensors
from crdkit.data.images import describe
from crdkit.data.sensors import check_finite
from crdkit.errors import DataError
from crdkit.views import View, ViewConfig, views
from crdkit.views.geometry import resize_float

_MIN_SPREAD = 0.05  # of the least singular value: angles that are nearly equal tell no polarisation
_FAINT = 0.02  # of the range of integers
_LEAST = 1e-30  # that can be divided by


@views.register("polarisation")
class Polarisation(View):
    """Gives degree and angle of linear polarisation as (3, S, S) float32: stress, films, scratches, gloss.

    Behind a polariser at angle t, the intensity is (S0 + S1 cos 2t + S2 sin 2t) / 2 with the Stokes parameters S0 to
    S2 (Collett, Field Guide to Polarization, 2005), so three or more angles give them by least squares; for 0, 45, 90
    and 135 degrees that is half the sum, I0 - I90 and I45 - I135. Images are resized as intensities, which add up,
    then divided:

    1. degree p = sqrt(S1^2 + S2^2) / S0 (DoLP): 0 is unpolarised, 1 fully polarised;
    2. (1 + S1 / S0) / 2, which is (1 + p cos 2a) / 2 with the angle a = atan2(S2, S1) / 2 (AoLP);
    3. (1 + S2 / S0) / 2, which is (1 + p sin 2a) / 2.

    With ``largest``, all of them are of p / ``largest``. The angle is periodic, 0 and 180 degrees are the same, and it
    counts as much as the light is polarised; an unpolarised pixel is (0, 0.5, 0.5). So is a pixel without light (0 in
    all images, or NaN in one), which does not count when images are resized. The angle counts from the polariser at 0
    towards the one at 45 degrees. Exposure does not matter; how bright a part is, is left to other views. Saturated
    pixels look less polarised than they are.

    Examples:
        >>> from crdkit.testing import example_sensors
        >>> view = Polarisation(Polarisation.Config())
        >>> tuple(view(example_sensors(view.sensors), image_size=32).shape)
        (3, 32, 32)
    """

    class Config(ViewConfig):
        """Options of ``polarisation``."""

        name: str = "polarisation"
        sensors: tuple[Annotated[str, Field(max_length=100)], ...] = Field(
            tuple(f"polarisation_{angle}" for angle in (0, 45, 90, 135)),
            min_length=1,
            max_length=64,
            description="sensors that hold one image per angle, or the one sensor that holds them stacked as channels",
        )
        angles: tuple[float, ...] = Field(
            (0.0, 45.0, 90.0, 135.0),
            min_length=3,
            max_length=64,
            description="of the polarisers, degrees, in that order",
        )
        black: float = Field(
            0.0, ge=-1e9, le=1e9, description="value without light, in the sensors' unit; it is subtracted"
        )
        faint: float | None = Field(
            None,
            ge=0,
            description="S0, in the sensors' unit, below which the degree fades to 0, as it is noise there; "
            "null: 2 % of the range of integers, 0 for floats",
        )
        largest: float = Field(1.0, ge=0.001, le=1, description="degree that spans the range; matt parts reach 0.3")

        @model_validator(mode="after")
        def _fit_together(self) -> Polarisation.Config:
            if len(self.sensors) not in (1, len(self.angles)):
                raise ValueError(
                    f"sensors: {len(self.sensors)} for {len(self.angles)} angles; give one per angle, or one that "
                    "holds all of them as channels"
                )
            if np.linalg.svd(analysers(self.angles), compute_uv=False)[-1] < _MIN_SPREAD:
                raise ValueError(
                    f"angles {list(self.angles)}: polarisation needs three that differ, modulo 180 degrees"
                )
            return self

        def least(self, dtype: np.dtype | str) -> float:
            """Return the least S0 that the degree is relative to, for images of a dtype."""
            kind = np.dtype(dtype)
            faint = _FAINT * float(np.iinfo(kind).max) if kind.kind in "iu" else 0.0
            return max(faint if self.faint is None else self.faint, _LEAST)

    config: Config

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return the sensors that hold the images, or the one that holds the stack."""
        return self.config.sensors

    def array(self, sensors: Sensors, *, image_size: int) -> np.ndarray:
        """Return (3, S, S) float32 in [0, 1] from integers or floats: (H, W) per angle, or one (H, W, angles).

        Raises:
            DataError: another shape or dtype, infinite values, or images that differ in height, width or dtype.
        """
        stack = self._stack(sensors)
        light = np.maximum(np.nan_to_num(stack.astype(np.float32)) - np.float32(self.config.black), 0)
        light = np.where(np.isnan(stack).any(axis=2, keepdims=True), np.float32(0), light)
        resized = resize_float(light, image_size).astype(np.float64)
        total, *parts = np.einsum("sk,ijk->sij", stokes_weights(self.config.angles), resized)
        divisor = np.maximum(total, self.config.least(stack.dtype)) * self.config.largest
        first, second = (part / divisor for part in parts)
        view = np.stack([np.hypot(first, second), (1 + first) / 2, (1 + second) / 2])
        return np.asarray(np.clip(view, 0, 1), np.float32)

    def _stack(self, sensors: Sensors) -> np.ndarray:
        """Return the images as (H, W, angles)."""
        names, count = self.sensors, len(self.config.angles)
        for name in names:
            image, first = sensors[name], sensors[names[0]]
            wanted = [(count,)] if len(names) == 1 else [(), (1,)]
            if image.ndim < 2 or image.shape[2:] not in wanted or not image.size or image.dtype.kind not in "iuf":
                shape = f"(H, W, {count})" if len(names) == 1 else "(H, W)"
                raise DataError(
                    f"sensor {name!r}: expected integers or floats {shape}, found {describe(image)}; keep one channel "
                    f"per angle; a degree that was computed before is viewed as 'single_channel'"
                )
            if image.shape[:2] != first.shape[:2] or image.dtype != first.dtype:
                raise DataError(
                    f"sensor {name!r}: found {describe(image)}, but sensor {names[0]!r} holds {describe(first)}; "
                    "all angles must show the same pixels in the same unit"
                )
            check_finite(image, source=f"sensor {name!r}")
        return np.concatenate([np.atleast_3d(sensors[name]) for name in names], axis=2)


def analysers(angles: tuple[float, ...]) -> np.ndarray:
    """Return the (angles, 3) matrix that turns Stokes parameters into intensities behind polarisers, in degrees."""
    doubled = 2 * np.radians(np.array(angles))
    return np.stack([np.ones_like(doubled), np.cos(doubled), np.sin(doubled)], axis=1) / 2


def stokes_weights(angles: tuple[float, ...]) -> np.ndarray:
    """Return the (3, angles) matrix that turns intensities into Stokes parameters S0, S1, S2, by least squares.

    Examples:
        >>> (stokes_weights((0, 45, 90, 135)).round(6) + 0.0).tolist()
        [[0.5, 0.5, 0.5, 0.5], [1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0]]
    """
    return np.asarray(np.linalg.pinv(analysers(angles)))
