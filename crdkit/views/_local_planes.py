"""Least squares around every pixel of a scan: what a plane fit to its neighbours says, as far as they are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_WINDOW_REACH = 2.5  # standard deviations beyond which the Gaussian window ends
_MIN_WIDTH = 0.8  # pixels: below it a window holds a single point, which has no slope
_MIN_SPREAD = 0.01  # relative to the window's squared variance: points on a thinner line have no slope across it
MIN_SUPPORT = 0.2
"""Share of a window that must be known for what lies between its points to be believed."""


class Plane(NamedTuple):
    """What a quantity does around each pixel, each (H, W); 0 where the window's points do not determine it."""

    along_x: np.ndarray
    """Slope."""
    along_y: np.ndarray
    mean: np.ndarray
    """At the windows' centroids."""


@dataclass(frozen=True, kw_only=True)
class Patch:
    """The part of a scan that holds the object."""

    box: tuple[slice, slice]
    """Where it lies in the scan."""
    points: np.ndarray
    """(h, w, 3) float64, metres, from the mean of the known points; 0 where not known."""
    inside: np.ndarray
    """(h, w) bool, the object."""
    known: np.ndarray
    """(h, w) bool, the object where it was measured."""
    away: float
    """1 if Z grows away from the camera, else -1."""
    widths: list[float]
    """Standard deviation of the window along rows and columns, pixels."""


def cut_out(xyz: np.ndarray, inside: np.ndarray, *, scale: float, in_pixels: bool = False) -> Patch | None:
    """Return the object's part of a scan (H, W, 3), metres, whose Z is 0 where not measured; None if nothing is known.

    Args:
        xyz: the scan.
        inside: (H, W) bool, the object.
        scale: standard deviation of the window, metres on the object, or pixels; at least 0.8 pixels.
        in_pixels: whether ``scale`` is in pixels.
    """
    known = inside & (xyz[..., 2] != 0)
    if not known.any():
        return None
    box = _bounding_box(inside)
    xyz, inside, known = xyz[box].astype(np.float64), inside[box], known[box]
    pitches = np.ones(2) if in_pixels else _pitches(xyz, known)
    return Patch(
        box=box,
        points=np.where(known[..., None], xyz - xyz[known].mean(axis=0), 0),
        inside=inside,
        known=known,
        away=np.sign(xyz[..., 2][known].mean()),
        widths=[max(scale / pitch, _MIN_WIDTH) if pitch else 0.0 for pitch in pitches],
    )


class LocalRegression:
    """Regression of any quantity on X and Y in a Gaussian window around every pixel, over its known points.

    Args:
        x: (H, W), metres, 0 where not known.
        y: the same.
        known: (H, W) bool.
        widths: standard deviations of the window, pixels.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, known: np.ndarray, widths: list[float]) -> None:
        self._x, self._y, self._widths = x, y, widths
        self.weight = self.smooth(known.astype(np.float64))
        """(H, W): the share of the window that is known."""
        self._share = 1 / np.maximum(self.weight, 1e-9)
        self.mean_x, self.mean_y = self.average(x), self.average(y)
        """(H, W): the centroid of the window's points."""
        self._xx, self._yy = (self.average(u * u) - p * p for u, p in ((x, self.mean_x), (y, self.mean_y)))
        self._xy = self.average(x * y) - self.mean_x * self.mean_y
        determinant = self._xx * self._yy - self._xy * self._xy
        self.found = (self.weight > 1e-6) & (determinant > _MIN_SPREAD * (self._xx + self._yy) ** 2)
        """(H, W) bool: where the window's points do not lie on one line."""
        self._divisor = np.where(self.found, determinant, 1)

    def smooth(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of (H, W) under the window, whose weights sum to 1; there is nothing outside."""
        from scipy import ndimage  # type: ignore[import-untyped, unused-ignore]

        return np.asarray(ndimage.gaussian_filter(values, self._widths, mode="constant", truncate=_WINDOW_REACH))

    def average(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of (H, W) over the known points of every window; it must be 0 elsewhere."""
        return np.asarray(self.smooth(values) * self._share)

    def fit(self, values: np.ndarray) -> Plane:
        """Fit values (H, W), which are 0 where not known."""
        mean = self.average(values)
        xz, yz = (self.average(u * values) - p * mean for u, p in ((self._x, self.mean_x), (self._y, self.mean_y)))
        a = (xz * self._yy - yz * self._xy) / self._divisor
        b = (yz * self._xx - xz * self._xy) / self._divisor
        return Plane(np.where(self.found, a, 0), np.where(self.found, b, 0), mean)


def _pitches(xyz: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return how far X and Y move per row and per column, metres: regression, as holes may leave no neighbours."""
    indices = np.stack(np.nonzero(known)).astype(np.float64)
    indices -= indices.mean(axis=1, keepdims=True)
    lateral = xyz[known][:, :2]
    # einsum, as BLAS threads would slow the decoders; pinv gives 0 for an axis along which there is one index
    inverse = np.linalg.pinv(np.einsum("in,jn->ij", indices, indices), hermitian=True)
    moves = inverse @ np.einsum("in,nk->ik", indices, lateral - lateral.mean(axis=0))
    return np.asarray(np.hypot(moves[:, 0], moves[:, 1]))


def _bounding_box(mask: np.ndarray) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
