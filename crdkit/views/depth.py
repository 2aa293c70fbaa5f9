"""Depth of the object in an organised XYZ scan or a depth image, with the background plane removed."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from crdkit.data import Sensors
from crdkit.data.images import resize_nearest
from crdkit.data.scans import measured_depth, measured_scan
from crdkit.views import View, ViewConfig, views
from crdkit.views._background import BackgroundDistance, Closing, PlaneFit, foreground
from crdkit.views.geometry import back_project, fill_holes, scale_inside

_NEAR, _FAR = 0.1, 0.9  # object depths; 0 stays free for "no object here"


@views.register("depth")
class Depth(View):
    """Gives the object's depth as (1, S, S) float32: 0.1 nearest, 0.9 farthest, 0 background.

    The recipe is that of CRD (arXiv 2412.08949, published code): resize by copying pixels, remove the
    background plane, close the foreground, scale its measured Z per scan, then ``fill_passes`` times set every
    zero pixel, background too, to the mean of its non-zero neighbours. ``mode`` chooses how the plane is fit.
    A depth image (H, W) is back-projected first: planes stay planes under any focal length, so none is needed.
    An object of constant Z is 0.5 everywhere; a scan without any foreground is 0 everywhere.

    Examples:
        >>> from crdkit.testing import example_sensors
        >>> image = Depth(Depth.Config())(example_sensors(["xyz"]), image_size=32)
        >>> tuple(image.shape), round(float(image.max()), 4)
        ((1, 32, 32), 0.9)
    """

    class Config(ViewConfig):
        """Options of ``depth``."""

        name: str = "depth"
        sensor: str = Field("xyz", max_length=100, description="sensor that holds the scan or the depth image, metres")
        mode: PlaneFit = Field(
            "robust",
            description="background plane: 'robust' copes with empty corners and objects at the border, "
            "'published' runs through three image corners and collapses if one is empty, "
            "'none' keeps everything measured: for scans without a background",
        )
        background_distance: BackgroundDistance = 0.005
        closing: Closing = 3
        fill_passes: int = Field(2, ge=0, le=64, description="how often holes are filled from 3 x 3 neighbours")

    channels = 1
    background_is_zero = True
    config: Config

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return the one sensor that holds the scan."""
        return (self.config.sensor,)

    def array(self, sensors: Sensors, *, image_size: int) -> np.ndarray:
        """Return (1, S, S) float32 in [0, 1] from a float scan (H, W, 3), or depth (H, W), in metres.

        0 and NaN mean that nothing was measured.

        Raises:
            DataError: the sensor has another shape or dtype, is infinite or not in metres, or holds no plane.
        """
        scan = sensors[self.config.sensor]
        scan = (measured_depth if scan.ndim == 2 else measured_scan)(scan, sensor=self.config.sensor)
        scan = resize_nearest(scan, image_size).astype(np.float32, copy=False)
        xyz = back_project(scan) if scan.ndim == 2 else scan
        mask = foreground(
            xyz,
            mode=self.config.mode,
            background_distance=self.config.background_distance,
            closing=self.config.closing,
        )
        scaled = scale_inside(xyz[..., 2], mask, low=_NEAR, high=_FAR)
        return fill_holes(scaled, passes=self.config.fill_passes)[None]
