"""The plane behind the object in an organised XYZ scan, and the mask of what stands out from it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from crdkit.errors import DataError
from crdkit.views.geometry import slide

if TYPE_CHECKING:
    from crdkit.views._plane_regression import PlaneRegression

Plane = tuple[np.ndarray, float]
"""Unit normal n (3,) and offset d in metres: the points p with n . p = d."""
PlaneFit = Literal["robust", "published", "none"]

# options of the views that remove it, declared once: a base class would put them before each view's own in a saved file
BackgroundPlane = Annotated[PlaneFit, Field(description="how the background plane is fit, see depth.mode")]
BackgroundDistance = Annotated[
    float, Field(gt=0, le=1, description="points farther than this from the plane are foreground, metres")
]
Closing = Annotated[int, Field(ge=0, le=64, description="dilations, then as many erosions, of the foreground, 3 x 3")]

_BORDER_SHARE = 0.1  # share of the measured points, the outermost ones, in which the background is sought
_POINTS_SCORED = 384  # number of those that are scored, evenly spread
_MAX_BEHIND = (0.15, 0.05)  # share of those, and of all points, that may be strays; the stricter one if the first fails
_MIN_TRIANGLE = 0.5  # relative to the points' spread: three points close together hardly determine a slope
_MAX_TRIALS = 400  # a background in 30 % of the border is missed once in 2000 scans
_CONFIDENCE = 0.9999  # that three points of the best plane were drawn
_REFINEMENTS = 3


def foreground(
    xyz: np.ndarray, *, mode: PlaneFit = "robust", background_distance: float = 0.005, closing: int = 3
) -> np.ndarray:
    """Return the (H, W) bool mask of what stands out from the background plane of a scan, closed.

    Args:
        xyz: organised scan (H, W, 3), float, metres; Z = 0 where nothing was measured.
        mode: how the plane is fit, see ``find_plane``; with "none" everything measured is foreground.
        background_distance: metres from the plane beyond which a measured point is foreground.
        closing: dilations, then as many erosions, with a full 3 x 3 neighbourhood; pixels outside are ignored.

    Raises:
        DataError: the measured points define no plane.
    """
    return stands_out(
        xyz,
        find_plane(xyz, mode=mode, background_distance=background_distance),
        background_distance=background_distance,
        closing=closing,
    )


def find_plane(xyz: np.ndarray, *, mode: PlaneFit, background_distance: float) -> Plane | None:
    """Return the background plane of a scan (H, W, 3): ``robust_plane``, ``corner_plane``, or None for mode "none".

    Raises:
        DataError: the measured points define no plane.
    """
    if mode == "none":
        return None
    return robust_plane(xyz, tolerance=background_distance / 2) if mode == "robust" else corner_plane(xyz)


def stands_out(xyz: np.ndarray, plane: Plane | None, *, background_distance: float, closing: int) -> np.ndarray:
    """Return the (H, W) bool mask of measured points beyond that distance from ``plane`` (all if None), closed."""
    mask: np.ndarray = xyz[..., 2] != 0
    if plane is not None:
        mask &= _distances(xyz, plane) > background_distance
    return slide(slide(mask, closing, np.logical_or), closing, np.logical_and)


def heights(points: np.ndarray, plane: Plane | None) -> np.ndarray:
    """Return how far (N, 3) points stand out from ``plane`` towards the camera, metres; from the farthest if None."""
    if plane is None:
        away = np.abs(points[:, 2])
        return np.asarray(away.max() - away)
    normal, offset = plane
    return np.asarray(np.sign(offset) * (offset - np.einsum("ni,i->n", points, normal)))


def robust_plane(xyz: np.ndarray, *, tolerance: float) -> Plane:
    """Find the background plane among the outermost measured points of a scan, by consensus (RANSAC).

    The plane z = a x + b y + c that most of them support wins. A plane with 15 % of them, or of all points, behind
    it, as seen from the camera at the origin, is refused: nothing lies behind a background, but much lies
    behind the flat top of a large object, or a plane from table to top. Least squares on all points that support it
    refines it. The random draws are the same for every scan.

    Args:
        xyz: organised scan (H, W, 3), metres; Z = 0 where nothing was measured.
        tolerance: metres from the plane within which a point supports it.

    Raises:
        DataError: fewer than three points are measured, all lie on one line, or no plane lies behind them.
    """
    from crdkit.views._plane_regression import consensus

    points, measured, outermost = _measured_points(xyz)
    everywhere = points(_thin_out(measured))
    why = "all measured points lie on one line"
    for places in (outermost, measured):  # all points if the outermost ones hold no plane
        border = points(places)
        sample = _thin_out(border)
        spread = _spread(sample)
        if not spread:
            continue
        why = "every plane that was tried has too many measured points behind it"
        for limit in _MAX_BEHIND:
            is_valid = partial(_has_few_points_behind, samples=(sample, everywhere), tolerance=tolerance, limit=limit)
            model = consensus(
                sample,
                tolerance=tolerance,
                trials=_MAX_TRIALS,
                confidence=_CONFIDENCE,
                is_wide=partial(_is_wide_triangle, minimum=_MIN_TRIANGLE * spread),
                is_valid=is_valid,
            )
            if model is not None:
                _refine(model, border, tolerance)
                if is_valid(model):
                    return _to_plane(model)
    raise _no_plane_error(why)


def corner_plane(xyz: np.ndarray) -> Plane:
    """Put a plane through the means of the measured points in three image corners (published code of CRD).

    Top left, top right and bottom left count, 3 x 3 pixels each. A corner without any measurement counts as the
    origin, which tilts the plane through the camera: this is the published defect, kept to reproduce its numbers.

    Raises:
        DataError: the three points lie on one line, as they do if two corners are empty.
    """
    means = []
    for corner in (xyz[:3, :3], xyz[:3, -3:], xyz[-3:, :3]):
        measured = corner[corner[..., 2] != 0].astype(np.float64)
        means.append(measured.mean(axis=0) if len(measured) else np.zeros(3))
    down, right = means[2] - means[0], means[1] - means[0]
    crossed = np.cross(right, down)
    length = np.linalg.norm(crossed)
    if length <= 1e-9 * np.linalg.norm(right) * np.linalg.norm(down):
        raise _no_plane_error("the three image corners lie on one line or are empty; mode=robust needs no corners")
    normal = crossed / length
    return normal, float(normal @ means[0])


def _measured_points(xyz: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray, np.ndarray]:
    """Return what makes (N, 3) float64 points of places, those of measured pixels, and the outermost of them."""
    height, width = xyz.shape[:2]
    measured = np.flatnonzero(xyz[..., 2])
    if len(measured) < 3:
        raise _no_plane_error(f"{len(measured)} of {height * width} pixels hold a measurement, but a plane needs 3")
    rows, columns = np.arange(height), np.arange(width)
    from_edge = np.minimum(np.minimum(rows, height - 1 - rows)[:, None], np.minimum(columns, width - 1 - columns))
    ring = from_edge.ravel().take(measured)
    outermost = np.searchsorted(np.cumsum(np.bincount(ring)), max(3.0, _BORDER_SHARE * len(measured)))
    flat = xyz.reshape(-1, 3)
    return lambda places: flat.take(places, axis=0).astype(np.float64), measured, measured[ring <= outermost]


def _thin_out(points: np.ndarray) -> np.ndarray:
    return points[np.linspace(0, len(points) - 1, min(_POINTS_SCORED, len(points))).astype(np.intp)]


def _spread(points: np.ndarray) -> float:
    """Return the product of the standard deviations along the principal axes of X and Y, 0 for points on a line."""
    along, across = np.linalg.svd(points[:, :2] - points[:, :2].mean(axis=0), compute_uv=False)
    return float(along * across) / len(points) if across > 0.01 * along else 0.0


def _is_wide_triangle(corners: np.ndarray, *, minimum: float) -> bool:
    (a, b), (c, d) = corners[1:] - corners[0]
    return bool(abs(a * d - b * c) > minimum)


def _has_few_points_behind(
    model: PlaneRegression, *, samples: tuple[np.ndarray, ...], tolerance: float, limit: float
) -> bool:
    """Return whether each sample has few points behind the plane, on the side away from the camera."""
    away = np.sign(model.intercept_)
    return all(np.mean((points[:, 2] - model.predict(points[:, :2])) * away > tolerance) < limit for points in samples)


def _refine(model: PlaneRegression, points: np.ndarray, tolerance: float) -> None:
    for _ in range(_REFINEMENTS):
        inliers = points[_distances(points, _to_plane(model)) <= tolerance]
        if len(inliers) < 3:
            break
        model.fit(inliers[:, :2], inliers[:, 2])


def _to_plane(model: PlaneRegression) -> Plane:
    """Return the plane of a linear model z = a x + b y + c."""
    normal = np.array([*-model.coef_, 1.0])
    length = np.linalg.norm(normal)
    return normal / length, float(model.intercept_ / length)


def _distances(points: np.ndarray, plane: Plane) -> np.ndarray:
    """Return the distance of each (..., 3) point from the plane; einsum, as BLAS threads would slow the decoders."""
    normal, offset = plane
    return np.asarray(np.abs(np.einsum("...i,i->...", points.astype(np.float64, copy=False), normal) - offset))


def _no_plane_error(why: str) -> DataError:
    return DataError(
        f"no background plane can be fit: {why}; leave the sample out, or measure it again, "
        "or set the view's plane fit to 'none' if its scans show no background"
    )
