"""Views of an object's surface: what those that are computed from the points of an organised XYZ scan share."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from pydantic import Field

from crdkit.data import Sensors
from crdkit.data.scans import measured_scan
from crdkit.views import View, ViewConfig
from crdkit.views._background import BackgroundDistance, BackgroundPlane, Closing, foreground
from crdkit.views.geometry import resize_known


class SurfaceConfig(ViewConfig):
    """Where the object is."""

    sensor: str = Field("xyz", max_length=100, description="sensor that holds the organised scan, metres")
    plane: BackgroundPlane = "robust"
    background_distance: BackgroundDistance = 0.005
    closing: Closing = 3


class SurfaceView(View):
    """Gives three channels of the surface that stands out of the background; they are 0 elsewhere."""

    background_is_zero = True
    config: SurfaceConfig

    @property
    def sensors(self) -> tuple[str, ...]:
        """Return the one sensor that holds the scan."""
        return (self.config.sensor,)

    def array(self, sensors: Sensors, *, image_size: int) -> np.ndarray:
        """Return (3, S, S) float32 in [0, 1] from a float scan (H, W, 3), metres; 0 or NaN: not measured.

        Raises:
            DataError: the sensor has another shape or dtype, is infinite or not in metres, or holds no plane.
        """
        options = self.config
        xyz = measured_scan(sensors[options.sensor], sensor=options.sensor)
        inside = foreground(
            xyz, mode=options.plane, background_distance=options.background_distance, closing=options.closing
        )
        channels, found = self.measure(xyz, inside)
        image, _ = resize_known(np.clip(channels, 0, 1).transpose(1, 2, 0), found, image_size)
        return np.ascontiguousarray(np.clip(image, 0, 1).transpose(2, 0, 1))

    @abstractmethod
    def measure(self, xyz: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the channels, (3, H, W) with the range at 0 to 1, and where they are known, (H, W) bool.

        Args:
            xyz: scan (H, W, 3), metres; Z = 0 where nothing was measured.
            inside: (H, W) bool, the object.
        """
