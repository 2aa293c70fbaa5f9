"""Scans as a camera sees them: points are projected into its image, and the nearest of those that meet is seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crdkit.data.registration._warp import NOWHERE, Size

_STEEPEST = 4.0  # slope of a surface, to the camera's image, that hides no neighbour of its own


def project(
    points: np.ndarray,
    *,
    intrinsics: Sequence[Sequence[float]],
    rotation: Sequence[Sequence[float]],
    translation: Sequence[float],
    distortion: Sequence[float] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Return where a camera sees points (N, 3): pixels (N, 2) as (x, y), and depths (N,) along its axis.

    The centre of the first pixel is (0, 0). A point behind the camera has a depth of 0 or less, and no pixel that
    means anything. A point so far aside that the lens's numbers do not hold there has NaN as its pixel: from some angle
    on polynomials turn back to the middle, where no lens shows such points.

    Args:
        points: metres, in the scanner's coordinates.
        intrinsics: (3, 3), pixels.
        rotation: (3, 3); with ``translation`` from the scanner's coordinates to the camera's.
        translation: (3,), metres.
        distortion: of the lens, up to k1, k2, p1, p2, k3, k4, k5, k6, as OpenCV orders them (the camera model of its
            module calib3d).
    """
    seen = points.astype(np.float64) @ np.transpose(rotation) + np.asarray(translation, dtype=np.float64)
    depth = seen[:, 2]
    safe = np.where(depth > 0, depth, np.inf)  # those behind go to the middle
    x, y = seen[:, 0] / safe, seen[:, 1] / safe
    if distortion:
        x, y = _distorted(x, y, distortion)
    camera = np.asarray(intrinsics, dtype=np.float64)
    pixels = np.stack([x, y, np.ones_like(x)], axis=1) @ camera[:2].T
    return pixels, depth


def _distorted(x: np.ndarray, y: np.ndarray, distortion: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    k1, k2, p1, p2, k3, k4, k5, k6 = (*distortion, *[0.0] * (8 - len(distortion)))
    with np.errstate(over="ignore"):  # of points beside the camera
        near = x * x + y * y < _farthest((1, k1, k2, k3), (1, k4, k5, k6))
    x, y = (np.where(near, place, np.nan) for place in (x, y))
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    across = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    return across, y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y


def _farthest(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the squared radius up to which points that lie farther out are seen farther out, which may be infinity.

    The radius r, seen at r n(s) / d(s) with s = r^2, grows as long as d and n d + 2 s (n' d - n d') are above 0.
    """
    n, d, twice = (np.polynomial.Polynomial(numbers) for numbers in (above, below, (0, 2)))
    grows = n * d + twice * (n.deriv() * d - n * d.deriv())
    roots = np.concatenate([grows.trim().roots(), d.trim().roots()])
    turns = roots.real[(np.abs(roots.imag) < 1e-9 * np.abs(roots)) & (roots.real > 0)]
    return float(min(turns, default=np.inf))


def places_seen(
    pixels: np.ndarray, depth: np.ndarray, *, measured: np.ndarray, grid: Size, focal_length: float, close: int
) -> np.ndarray:
    """Return which point is seen at each pixel of the grid: (H, W) int32 places in the list, or `NOWHERE`.

    A point is at the pixel that it is nearest to, and hides those behind it there. With ``close`` it also hides what
    is behind it up to that many pixels away, which would show between the points of a surface in front, and pixels
    inside a surface that no point fell on are given the nearest point.

    Args:
        pixels: (N, 2) as (x, y), see `project`.
        depth: (N,).
        measured: (N,) bool: which points there are.
        grid: height and width.
        focal_length: of the camera, pixels.
        close: reach of the closing, pixels.
    """
    height, width = grid
    inside = ((pixels > -0.5) & (pixels < np.array([width, height]) - 0.5)).all(axis=1)
    chosen = np.flatnonzero(measured & (depth > 0) & inside)
    columns, rows = np.rint(pixels[chosen]).astype(np.intp).clip(0, [width - 1, height - 1]).T
    places = np.full(height * width, NOWHERE, np.int32)
    farthest_first = np.argsort(-depth[chosen], kind="stable")
    places[(rows * width + columns)[farthest_first]] = chosen[farthest_first]  # of those that meet the last one stays
    places = places.reshape(grid)
    return _closed(places, depth, reach=close, focal_length=focal_length) if close else places


def _closed(places: np.ndarray, depth: np.ndarray, *, reach: int, focal_length: float) -> np.ndarray:
    """Return places without what surfaces in front hide, and with their holes filled; see `places_seen`."""
    from scipy import ndimage

    window = np.ones((2 * reach + 1, 2 * reach + 1), bool)
    seen = np.where(places == NOWHERE, np.inf, depth[places])
    front = ndimage.minimum_filter(seen, footprint=window, mode="nearest")
    with np.errstate(invalid="ignore"):  # infinity less infinity: nothing is near
        hidden = seen - front > reach * _STEEPEST * front / focal_length
    places = np.where(hidden, np.int32(NOWHERE), places)
    valid = places != NOWHERE
    around = ndimage.binary_dilation(np.pad(valid, reach), window)
    closed = ndimage.binary_erosion(around, window)[reach:-reach, reach:-reach]
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return np.where(closed & ~valid, places[tuple(nearest)], places)
