"""The coordinates of an organised XYZ scan as three channels."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from crdkit.data import Sensors
from crdkit.data.images import resize_nearest
from crdkit.data.scans import measured_scan
from crdkit.views import View, ViewConfig, views
from crdkit.views._background import BackgroundDistance, BackgroundPlane, find_plane, heights, stands_out


@views.register("xyz")
class XYZ(View):
    """Gives X, Y and the height above the background as (3, S, S) float32, all in one fixed metric window.

    X and Y count from the mean of the object's points: 0 and 1 are ``width`` / 2 metres to either side. Height counts
    from the background plane towards the camera: 1 is ``height`` metres; without a plane it counts from the point
    farthest from the camera. What lies outside is clipped. Background and pixels without a measurement are 0 in all
    channels. Nothing is scaled per scan, so a part that is too tall looks too tall.

    Examples:
        >>> from crdkit.testing import example_sensors
        >>> view = XYZ(XYZ.Config(height=0.05))
        >>> tuple(view(example_sensors(["xyz"]), image_size=32).shape)
        (3, 32, 32)
    """

    class Config(ViewConfig):
        """Options of ``xyz``."""

        name: str = "xyz"
        sensor: str = Field("xyz", max_length=100, description="sensor that holds the organised scan, metres")
        width: float = Field(0.3, ge=1e-6, description="side of the square around the object that X and Y span, metres")
        height: float = Field(
            0.1, ge=1e-6, description="height above the background that the third channel spans, metres"
        )
        plane: BackgroundPlane = "robust"
        background_distance: BackgroundDistance = 0.005

    background_is_zero = True
    config: Config

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return the one sensor that holds the scan."""
        return (self.config.sensor,)

    def array(self, sensors: Sensors, *, image_size: int) -> np.ndarray:
        """Return (3, S, S) float32 in [0, 1] from a float (H, W, 3) scan in metres; 0 or NaN: not measured.

        Raises:
            DataError: the sensor has another shape or dtype, is infinite or not in metres, or holds no plane.
        """
        xyz = measured_scan(sensors[self.config.sensor], sensor=self.config.sensor)
        xyz = resize_nearest(xyz, image_size).astype(np.float64)
        distance = self.config.background_distance
        plane = find_plane(xyz, mode=self.config.plane, background_distance=distance)
        inside = stands_out(xyz, plane, background_distance=distance, closing=0)
        view = np.zeros((3, image_size, image_size), np.float32)
        if inside.any():
            points = xyz[inside]
            lateral = (points[:, :2] - points[:, :2].mean(axis=0)) / self.config.width + 0.5
            above = heights(points, plane) / self.config.height
            view[:, inside] = np.clip(np.concatenate([lateral, above[:, None]], axis=1), 0, 1).T
        return view
