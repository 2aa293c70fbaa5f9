"""Depth of the object in an organised XYZ scan, with the background plane removed."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from crdkit.background import PlaneFit, foreground
from crdkit.datasets import Sensors
from crdkit.errors import DataError
from crdkit.images import check_array, resize_nearest
from crdkit.modalities import Modality, ModalityConfig, modalities

_NEAR, _FAR = 0.1, 0.9  # object depths; 0 stays free for "no object here"


@modalities.register("depth")
class Depth(Modality):
    """Gives the object's depth as (1, S, S) float32: 0.1 nearest, 0.9 farthest, 0 background.

    The recipe is that of CRD (arXiv 2412.08949, published code): resize by copying pixels, remove the
    background plane, close the foreground, scale its measured Z per scan, then let ``fill_passes`` times every
    zero pixel, background too, take the mean of its non-zero neighbours. ``mode`` says how the plane is fit.
    An object of constant Z is 0.5 everywhere; a scan without any foreground is 0 everywhere.
    """

    class Config(ModalityConfig):
        """Options of ``depth``."""

        name: str = "depth"
        sensor: str = Field("xyz", description="sensor that holds the organised scan, metres")
        mode: PlaneFit = Field(
            "robust",
            description="background plane: 'robust' survives empty corners and objects at the border, "
            "'published' runs through three image corners and collapses if one is empty",
        )
        background_distance: float = Field(
            0.005, gt=0, le=1, description="points farther than this from the plane are foreground, metres"
        )
        closing: int = Field(3, ge=0, le=64, description="dilations, then as many erosions, of the foreground, 3 x 3")
        fill_passes: int = Field(2, ge=0, le=64, description="times that holes are filled from 3 x 3 neighbours")

    config: Config

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return the one sensor that holds the scan."""
        return (self.config.sensor,)

    def __call__(self, sensors: Sensors, *, image_size: int) -> torch.Tensor:
        """Return (1, S, S) float32 in [0, 1] from a float (H, W, 3) scan in metres, 0 where nothing was measured.

        Raises:
            DataError: the sensor has another shape or dtype, is not finite, or holds no plane.
        """
        xyz, source = sensors[self.config.sensor], f"sensor {self.config.sensor!r}"
        check_array(xyz, source=source, channels=3, dtype=np.floating, hint="give X, Y and Z in metres")
        xyz = resize_nearest(xyz, image_size).astype(np.float32, copy=False)
        if not np.isfinite(xyz).all():
            raise DataError(f"{source}: holds NaN or infinite values; set pixels without a measurement to 0")
        mask = foreground(
            xyz,
            mode=self.config.mode,
            background_distance=self.config.background_distance,
            closing=self.config.closing,
        )
        depth = fill_holes(scale_depth(xyz[..., 2], mask), passes=self.config.fill_passes)
        return torch.from_numpy(depth[None])


def scale_depth(z: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Scale the measured Z (H, W) inside ``mask`` linearly to [0.1, 0.9], the rest to 0, as float32.

    A constant Z becomes 0.5; without any measured pixel inside ``mask`` all is 0.
    """
    depth = np.zeros(z.shape, np.float32)
    inside = mask & (z != 0)
    values = z[inside]
    if values.size:
        low, high = values.min(), values.max()
        share = (values - low) / (high - low) if high > low else 0.5
        depth[inside] = share * np.float32(_FAR - _NEAR) + np.float32(_NEAR)
    return depth


def fill_holes(depth: np.ndarray, *, passes: int) -> np.ndarray:
    """Set every zero of (H, W), ``passes`` times, to the mean of the non-zero values in its 3 x 3 neighbourhood."""
    from scipy import ndimage  # type: ignore[import-untyped, unused-ignore]

    box = np.ones((3, 3))
    for _ in range(passes):
        # sums, not uniform_filter, whose running means leave remainders where all is zero
        total = ndimage.correlate(depth, box, mode="constant")
        known = ndimage.correlate((depth != 0).astype(depth.dtype), box, mode="constant")
        depth = np.where(depth == 0, total / np.maximum(known, 1), depth)
    return depth
