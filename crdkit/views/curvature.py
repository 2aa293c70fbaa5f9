"""Curvature of the object's surface, from an organised XYZ scan."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from crdkit.views import views
from crdkit.views._local_planes import MIN_SUPPORT, LocalRegression, cut_out
from crdkit.views._surface import SurfaceConfig, SurfaceView


class Curvatures(NamedTuple):
    """Curvature of a surface, each (H, W); 0 where it is not found."""

    mean: np.ndarray
    """1/m, positive where the surface bulges towards the camera."""
    gaussian: np.ndarray
    """1/m^2, positive on bumps and in hollows, negative on saddles, 0 where the surface could be unrolled."""
    found: np.ndarray
    """Bool."""


@views.register("curvature")
class Curvature(SurfaceView):
    """Gives mean curvature, Gaussian curvature and curvedness as (3, S, S) float32: dents, bumps, edges and ridges.

    The slope of the plane through each pixel's neighbours gives its normal, and how normals change from pixel to pixel
    gives the curvature (the derivative of the Gauss map). Both steps use the measured points under a Gaussian window of
    standard deviation ``scale``. With the principal curvatures k1 and k2, positive on a bump, the channels are:

    1. mean curvature (k1 + k2) / 2: 0.5 is flat, 1 is ``largest`` towards the camera, 0 as much away from it;
    2. Gaussian curvature k1 k2 as its signed square root: 0.5 is flat or a cylinder, below it is a saddle;
    3. curvedness, sqrt((k1^2 + k2^2) / 2): 0 is flat, 1 is ``largest``.

    Curvedness c is that of Koenderink and van Doorn (Surface shape and curvature scales, Image and Vision Computing 10,
    1992); with the mean curvature h, their shape index is 2 / pi * arcsin(h / c). It is no channel of its own, since it
    is noise where a surface is flat.

    The range is fixed, so parts can be compared. Turning or moving a part does not change it, and it has a unit. Holes
    are bridged by their neighbours. The background is 0 in all channels and does not count, so there is no edge at the
    outline; towards it windows lose points, and curvature is too low there, never too high. A pixel with less than
    a fifth of its window is background. Noise of a scan grows with the inverse square of ``scale``.

    Examples:
        >>> from crdkit.testing import example_sensors
        >>> view = Curvature(Curvature.Config(scale=0.003))
        >>> tuple(view(example_sensors(["xyz"]), image_size=32).shape)
        (3, 32, 32)
    """

    class Config(SurfaceConfig):
        """Options of ``curvature``."""

        name: str = "curvature"
        scale: float = Field(
            0.002, gt=0, le=100, description="standard deviation of the window: metres on the object, or pixels"
        )
        unit: Literal["metres", "pixels"] = Field("metres", description="unit of scale")
        largest: float = Field(
            200.0, ge=1e-9, le=1e6, description="curvature that spans the range, 1/m: 200 is 5 mm radius"
        )

    config: Config

    def measure(self, xyz: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the channels, (3, H, W), and where they are known, (H, W) bool; see `SurfaceView.measure`."""
        options = self.config
        mean, gaussian, found = curvatures(xyz, inside, scale=options.scale, in_pixels=options.unit == "pixels")
        signed = np.sign(gaussian) * np.sqrt(np.abs(gaussian))
        curved = np.sqrt(np.maximum(2 * mean**2 - gaussian, 0))
        scaled = np.stack(
            [0.5 + mean / 2 / options.largest, 0.5 + signed / 2 / options.largest, curved / options.largest]
        )
        return scaled, found


def curvatures(xyz: np.ndarray, inside: np.ndarray, *, scale: float, in_pixels: bool = False) -> Curvatures:
    """Return the curvature of the surface around each pixel ``inside``.

    For a surface z(x, y) with unit normals n, J = d(n_x, n_y) / d(x, y) has the mean curvature as half its trace and
    the Gaussian curvature as its determinant. A normal belongs to the centroid of the points that it was fit to.

    Args:
        xyz: scan (H, W, 3), metres; Z = 0 where nothing was measured.
        inside: (H, W) bool, the object; only its points count.
        scale: standard deviation of the Gaussian window, metres on the object, or pixels; at least 0.8 pixels.
        in_pixels: whether ``scale`` is in pixels.
    """
    mean, gaussian, found = np.zeros(inside.shape), np.zeros(inside.shape), np.zeros(inside.shape, bool)
    patch = cut_out(xyz, inside, scale=scale, in_pixels=in_pixels)
    if patch is None:
        return Curvatures(mean, gaussian, found)
    x, y, z = np.moveaxis(patch.points, 2, 0)
    windows = LocalRegression(x, y, patch.known, patch.widths)
    a, b, _ = windows.fit(z)
    known = windows.found & patch.inside
    length = patch.away * np.sqrt(a * a + b * b + 1)
    centre_x, centre_y = (np.where(known, centre, 0) for centre in (windows.mean_x, windows.mean_y))
    changes = LocalRegression(centre_x, centre_y, known, patch.widths)
    (xx, xy, _), (yx, yy, _) = (changes.fit(np.where(known, slope / length, 0)) for slope in (a, b))
    sure = known & changes.found & (windows.weight >= MIN_SUPPORT)
    mean[patch.box] = np.where(sure, (xx + yy) / 2, 0)
    gaussian[patch.box] = np.where(sure, xx * yy - xy * yx, 0)
    found[patch.box] = sure
    return Curvatures(mean, gaussian, found)
