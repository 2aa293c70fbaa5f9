"""Depth of the object in an organised XYZ scan, with the background plane removed."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from crdkit.datasets import Sensors
from crdkit.errors import DataError
from crdkit.images import check_array, resize_nearest
from crdkit.modalities import Modality, ModalityConfig, modalities

Plane = tuple[np.ndarray, float]
"""Unit normal n (3,) and offset d in metres: the points p with n . p = d."""
PlaneFit = Literal["robust", "published"]

_NEAR, _FAR = 0.1, 0.9  # object depths; 0 stays free for "no object here"
_BORDER_SHARE = 0.1  # of the measured points, the outermost, among which the background is looked for
_CANDIDATES = 256  # planes tried: background in 30 % of the border is missed once in 1000 scans
_POINTS_SCORED = 384
_REFINEMENTS = 3


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


def foreground(
    xyz: np.ndarray, *, mode: PlaneFit = "robust", background_distance: float = 0.005, closing: int = 3
) -> np.ndarray:
    """Return the (H, W) bool mask of what stands out of the background plane of a scan, closed.

    Args:
        xyz: organised scan (H, W, 3), float, metres; Z = 0 where nothing was measured.
        mode: "robust" or "published", see ``Depth.Config``.
        background_distance: metres from the plane beyond which a measured point is foreground.
        closing: dilations, then as many erosions, with a full 3 x 3 neighbourhood; pixels outside are ignored.

    Raises:
        DataError: the measured points define no plane.
    """
    normal, offset = robust_plane(xyz, tolerance=background_distance / 2) if mode == "robust" else corner_plane(xyz)
    distances = np.abs(_along(xyz.astype(np.float64), normal) - offset)
    mask = (distances > background_distance) & (xyz[..., 2] != 0)
    return ~_dilate(~_dilate(mask, closing), closing)


def robust_plane(xyz: np.ndarray, *, tolerance: float) -> Plane:
    """Find the background plane among the outermost measured points of a scan, by consensus (RANSAC).

    The plane kept has the most of them within ``tolerance``, each counted as 1 - (distance / tolerance)^2, less
    the points anywhere behind it as seen from the camera at the origin: nothing lies behind a background, so the
    flat top of a large object loses, and so does a plane from table to top. Least squares on the inliers refine
    it. The draws are the same for every scan.

    Args:
        xyz: organised scan (H, W, 3), metres; Z = 0 where nothing was measured.
        tolerance: metres from the plane within which a point supports it.

    Raises:
        DataError: fewer than three points are measured, or all lie on one line.
    """
    points, outermost = _measured_points(xyz)
    draws = np.random.default_rng(0).random((_CANDIDATES, 3))
    for border in (outermost, points):
        sample = _thin_out(border)
        first, second, third = np.moveaxis(sample[(draws * len(sample)).astype(np.intp)], 1, 0)
        # three points that nearly are on one line say nothing about the slope across it
        normals, valid = _unit_normals(second - first, third - first, least_sine=0.05)
        if valid.any():
            break
    else:
        raise _no_plane("all measured points lie on one line")
    normals = normals[valid]
    offsets = np.einsum("ij,ij->i", normals, first[valid])
    away = np.where(offsets < 0, -1.0, 1.0)  # normals point away from the camera
    normals, offsets = normals * away[:, None], offsets * away
    # (points, planes), positive behind the plane
    beyond = _along(np.concatenate([sample, _thin_out(points)])[:, None], normals) - offsets
    closeness = np.maximum(1 - (beyond[: len(sample)] / tolerance) ** 2, 0).sum(axis=0)
    support = closeness - np.count_nonzero(beyond > tolerance, axis=0)
    best = int(support.argmax())
    normal, offset = normals[best], float(offsets[best])
    for _ in range(_REFINEMENTS):
        inliers = border[np.abs(_along(border, normal) - offset) < tolerance]
        if len(inliers) < 4:
            break
        centre = inliers.mean(axis=0)
        _, axes = np.linalg.eigh((inliers - centre).T @ (inliers - centre))
        normal, offset = axes[:, 0], float(axes[:, 0] @ centre)
    return normal, offset


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
    normal, valid = _unit_normals(means[1] - means[0], means[2] - means[0], least_sine=1e-9)
    if not valid:
        raise _no_plane("the three image corners lie on one line or are empty; mode=robust needs no corners")
    return normal, float(normal @ means[0])


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
    for _ in range(passes):
        known = _box_sum((depth != 0).astype(depth.dtype))
        depth = np.where(depth == 0, _box_sum(depth) / np.maximum(known, 1), depth)
    return depth


def _measured_points(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the measured points, and those of them nearest to the image's edge, as (N, 3) float64 each."""
    height, width = xyz.shape[:2]
    rows, columns = np.arange(height), np.arange(width)
    ring = np.minimum(np.minimum(rows, height - 1 - rows)[:, None], np.minimum(columns, width - 1 - columns))
    measured = xyz[..., 2] != 0
    points, ring = xyz[measured].astype(np.float64), ring[measured]
    if len(points) < 3:
        raise _no_plane(f"{len(points)} of {height * width} pixels hold a measurement, and a plane needs 3")
    outermost = np.searchsorted(np.cumsum(np.bincount(ring)), max(3.0, _BORDER_SHARE * len(points)))
    return points, points[ring <= outermost]


def _thin_out(points: np.ndarray) -> np.ndarray:
    return points[np.linspace(0, len(points) - 1, min(_POINTS_SCORED, len(points))).astype(np.intp)]


def _along(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Return n . p over the last axis; no matrix product, whose threads would crowd those that decode."""
    products = (points[..., axis] * normals[..., axis] for axis in range(3))
    return np.asarray(sum(products))


def _unit_normals(first: np.ndarray, second: np.ndarray, *, least_sine: float) -> tuple[np.ndarray, np.ndarray]:
    crossed = np.cross(first, second)
    length = np.linalg.norm(crossed, axis=-1)
    valid = length > least_sine * np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return crossed / np.where(valid, length, 1.0)[..., None], valid


def _no_plane(why: str) -> DataError:
    return DataError(f"no background plane can be fit: {why}; leave the sample out, or measure it again")


def _dilate(mask: np.ndarray, times: int) -> np.ndarray:
    for _ in range(times):
        rows = mask.copy()
        rows[1:] |= mask[:-1]
        rows[:-1] |= mask[1:]
        mask = rows.copy()
        mask[:, 1:] |= rows[:, :-1]
        mask[:, :-1] |= rows[:, 1:]
    return mask


def _box_sum(values: np.ndarray) -> np.ndarray:
    """Sum over 3 x 3 neighbourhoods with zero padding; exact zeros stay zero, unlike with running sums."""
    padded = np.pad(values, 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return np.asarray(rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:])
