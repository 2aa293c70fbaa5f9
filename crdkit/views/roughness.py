"""Roughness of the object's surface, from an organised XYZ scan."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from pydantic import Field

from crdkit.views import views
from crdkit.views._local_planes import MIN_SUPPORT, LocalRegression, cut_out
from crdkit.views._surface import SurfaceConfig, SurfaceView


class Texture(NamedTuple):
    """How a surface deviates from the planes through its neighbourhoods, each (H, W), metres; 0 where not found."""

    height: np.ndarray
    """Of each point above its own plane, towards the camera."""
    arithmetic: np.ndarray
    """Sa: mean of the heights' absolute values in the window."""
    quadratic: np.ndarray
    """Sq: root of the mean of their squares."""
    found: np.ndarray
    """Bool."""


@views.register("roughness")
class Roughness(SurfaceView):
    """Gives local height, and roughness Sa and Sq, as (3, S, S) float32: scratches, grain, burrs, worn spots.

    A plane is fit to each pixel's measured neighbours, weighted by a Gaussian of standard deviation ``scale``; what is
    left of the pixel's height along the plane's normal is roughness, the plane is form. This is a Gaussian regression
    filter of first order (ISO 16610-28 has it for profiles), which has no end effects on planes. The channels are:

    1. height: 0.5 is on the plane, 1 is ``largest`` above it, towards the camera, 0 as much below;
    2. Sa, the mean of the heights' absolute values in the same window (ISO 25178-2): 1 is ``largest``;
    3. Sq, the root of the mean of their squares: 1 is ``largest``. One deep scratch lifts it more than Sa.

    The range is fixed, so parts can be compared. Turning or moving a part does not change it. A curved surface is a
    little off its planes: mean curvature h lowers the planes by h ``scale``^2, in every part alike. Holes have height
    0.5, and the roughness of their neighbours. The background is 0 in all channels and does not count, so there is no
    edge at the outline. A pixel with less than a fifth of its window is background. A scanner's noise is roughness too:
    what is below it cannot be seen.

    Examples:
        >>> from crdkit.testing import example_sensors
        >>> view = Roughness(Roughness.Config(largest=0.001))
        >>> tuple(view(example_sensors(["xyz"]), image_size=32).shape)
        (3, 32, 32)
    """

    class Config(SurfaceConfig):
        """Options of ``roughness``."""

        name: str = "roughness"
        scale: float = Field(
            0.001, gt=0, le=1, description="standard deviation of the window, metres on the object: wider is form"
        )
        largest: float = Field(0.0005, ge=1e-9, le=1, description="height and roughness that span the range, metres")

    config: Config

    def measure(self, xyz: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the channels, (3, H, W), and where they are known, (H, W) bool; see `SurfaceView.measure`."""
        options = self.config
        height, arithmetic, quadratic, found = texture(xyz, inside, scale=options.scale)
        scaled = np.stack(
            [0.5 + height / 2 / options.largest, arithmetic / options.largest, quadratic / options.largest]
        )
        return scaled, found


def texture(xyz: np.ndarray, inside: np.ndarray, *, scale: float) -> Texture:
    """Return how the surface deviates from the plane around each pixel ``inside``, along the plane's normal.

    Args:
        xyz: scan (H, W, 3), metres; Z = 0 where nothing was measured.
        inside: (H, W) bool, the object; only its points count.
        scale: standard deviation of the Gaussian window, metres on the object; at least 0.8 pixels.
    """
    height, arithmetic, quadratic = np.zeros((3, *inside.shape))
    found = np.zeros(inside.shape, bool)
    patch = cut_out(xyz, inside, scale=scale)
    if patch is None:
        return Texture(height, arithmetic, quadratic, found)
    x, y, z = np.moveaxis(patch.points, 2, 0)
    windows = LocalRegression(x, y, patch.known, patch.widths)
    a, b, mean = windows.fit(z)
    above = patch.away * (mean + a * (x - windows.mean_x) + b * (y - windows.mean_y) - z) / np.sqrt(a * a + b * b + 1)
    known = patch.known & windows.found
    above = np.where(known, above, 0)
    share = 1 / np.maximum(windows.smooth(known.astype(np.float64)), 1e-9)
    sure = windows.found & patch.inside & (windows.weight >= MIN_SUPPORT)
    height[patch.box] = np.where(sure, above, 0)
    arithmetic[patch.box] = np.where(sure, windows.smooth(np.abs(above)) * share, 0)
    quadratic[patch.box] = np.where(sure, np.sqrt(windows.smooth(above * above) * share), 0)
    found[patch.box] = sure
    return Texture(height, arithmetic, quadratic, found)
