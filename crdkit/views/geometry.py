"""Array operations that views share: back-project depth, scale Z inside a mask, fill holes, resize floats."""

from __future__ import annotations

import numpy as np


def back_project(depth: np.ndarray) -> np.ndarray:
    """Return the points (H, W, 3) float32 of a depth image (H, W) under a focal length of one image side.

    The true focal length need not be known to find a plane: a pin-hole camera's depth of a plane has the form
    Z (a u + b v + c) = 1 in the pixel coordinates u and v, and a focal length only scales a and b.
    """
    rows, columns = (((np.arange(n) + 0.5) / n - 0.5).astype(np.float32) for n in depth.shape)
    z = depth.astype(np.float32, copy=False)
    return np.stack([columns * z, rows[:, None] * z, z], axis=-1)


def scale_inside(z: np.ndarray, mask: np.ndarray, *, low: float, high: float) -> np.ndarray:
    """Scale the measured Z (H, W) inside ``mask`` linearly to [``low``, ``high``], the rest to 0, as float32.

    A constant Z becomes the middle; without any measured pixel inside ``mask`` everything is 0.
    """
    scaled = np.zeros(z.shape, np.float32)
    inside = mask & (z != 0)
    values = z[inside]
    if values.size:
        nearest, farthest = values.min(), values.max()
        share = (values - nearest) / (farthest - nearest) if farthest > nearest else 0.5
        scaled[inside] = share * np.float32(high - low) + np.float32(low)
    return scaled


def fill_holes(depth: np.ndarray, *, passes: int) -> np.ndarray:
    """Set every zero of (H, W), ``passes`` times, to the mean of the non-zero values in its 3 x 3 neighbourhood."""
    from scipy import ndimage  # type: ignore[import-untyped, unused-ignore]

    def box_sum(values: np.ndarray) -> np.ndarray:
        """Return sums, not uniform_filter's running means, which leave remainders where all is zero."""
        rows = ndimage.correlate1d(values, np.ones(3), axis=0, output=np.float64, mode="constant")
        return np.asarray(ndimage.correlate1d(rows, np.ones(3), axis=1, output=depth.dtype, mode="constant"))

    for _ in range(passes):
        known = box_sum(depth != 0)
        depth = np.where(depth == 0, box_sum(depth) / np.maximum(known, 1), depth)
    return depth


def resize_float(array: np.ndarray, size: int) -> np.ndarray:
    """Squash (H, W) or (H, W, C) to ``size`` x ``size`` float32 with Pillow's antialiased bilinear filter, unrounded.

    Examples:
        >>> resize_float(np.array([[0, 1], [65535, 65534]], np.uint16), 1)
        array([[32767.5]], dtype=float32)
    """
    from PIL import Image

    planes = np.moveaxis(np.atleast_3d(array), 2, 0).astype(np.float32)
    resized = [Image.fromarray(plane).resize((size, size), Image.Resampling.BILINEAR) for plane in planes]
    return np.stack([np.asarray(image) for image in resized], axis=-1).reshape(size, size, *array.shape[2:])


def resize_bilinear(planes: np.ndarray, size: int) -> np.ndarray:
    """Squash (C, H, W) float32 to ``size`` x ``size`` without antialiasing, pixel centres at halves.

    The published code resizes so with PyTorch. These are its bytes for the usual sizes of scans, and its values to the
    last bit for others: each product and sum is rounded as its fused instructions round.

    Examples:
        >>> resize_bilinear(np.array([[[0, 1], [2, 3]]], np.float32), 1)
        array([[[1.5]]], dtype=float32)
    """
    (above, below, up, down), (left, right, west, east) = (_two_pixels(n, size) for n in planes.shape[1:])

    def across(rows: np.ndarray) -> np.ndarray:
        return _fused(rows.take(left, axis=2), west, rows.take(right, axis=2) * east)

    upper, lower = (across(planes.take(rows, axis=1)) for rows in (above, below))
    return _fused(upper, up[:, None], lower * down[:, None])


def _two_pixels(length: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the two source pixels of every new one along an axis, and their weights, float32."""
    pitch = float(np.float32(length) / np.float32(size))
    place = np.maximum((pitch * (np.arange(size) + 0.5) - 0.5).astype(np.float32), np.float32(0))
    first = np.minimum(place.astype(np.intp), length - 1)
    weight = place - first.astype(np.float32)
    return first, np.minimum(first + 1, length - 1), np.float32(1) - weight, weight


def _fused(factor: np.ndarray, weight: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Return factor * weight + rest of float32, rounded once, as float32."""
    return np.asarray(factor.astype(np.float64) * weight + rest).astype(np.float32)
