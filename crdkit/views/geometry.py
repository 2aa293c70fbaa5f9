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
    """Set every zero of (H, W), ``passes`` times, to the mean of the non-zero values in its 3 x 3 neighbourhood.

    Only zeros beside a measurement change, so only their neighbours are summed: a column's in float64, then its row's.
    """
    height, width = depth.shape
    padded = np.zeros((height + 2, width + 2), depth.dtype)
    padded[1:-1, 1:-1] = depth
    flat, row = padded.reshape(-1), width + 2

    def column_sum(places: np.ndarray) -> np.ndarray:
        centre, above, below = (flat[places + down].astype(np.float64) for down in (0, -row, row))
        return np.asarray(centre + (above + below))

    for _ in range(passes):
        known = padded != 0
        beside = slide(known, 1, np.logical_or)[1:-1, 1:-1] & ~known[1:-1, 1:-1]
        places = np.flatnonzero(beside)
        places += 2 * (places // width) + row + 1
        counts = sum(known.reshape(-1)[places + down + right] for down in (-row, 0, row) for right in (-1, 0, 1))
        sums = column_sum(places) + (column_sum(places - 1) + column_sum(places + 1))
        flat[places] = sums.astype(depth.dtype) / counts.astype(depth.dtype)
    return np.ascontiguousarray(padded[1:-1, 1:-1])


def slide(mask: np.ndarray, reach: int, join: np.ufunc) -> np.ndarray:
    """Join every pixel of a bool mask (H, W) with those at most ``reach`` away along each axis; outside there is none.

    Args:
        mask: (H, W).
        reach: pixels.
        join: ``np.logical_or``, a dilation, or ``np.logical_and``, an erosion.

    Examples:
        >>> slide(np.eye(3, dtype=bool), 1, np.logical_and)
        array([[False, False, False],
               [False, False, False],
               [False, False, False]])
    """
    height, width = mask.shape
    joined = np.full((height + 2 * reach, width + 2 * reach), join is np.logical_and)
    joined[reach : reach + height, reach : reach + width] = mask
    length = 1
    while length <= 2 * reach:  # windows of twice the length are two windows side by side
        step = min(length, 2 * reach + 1 - length)
        joined = join(joined[:-step], joined[step:])
        joined = join(joined[:, :-step], joined[:, step:])
        length += step
    return joined


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


def resize_known(values: np.ndarray, known: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Average (H, W, C) over the known pixels that each new pixel covers; half of it must be known.

    Args:
        values: (H, W, C).
        known: (H, W) bool.
        size: side of the result, pixels.

    Returns:
        (size, size, C) float32, 0 where not known, and where it is known, (size, size) bool.

    Examples:
        >>> resize_known(np.array([[[4.0], [9.0]]]), np.array([[True, False]]), 1)[0]
        array([[[4.]]], dtype=float32)
    """
    share = resize_float(known, size)
    inside = share >= 0.5
    averaged = resize_float(np.where(known[..., None], values, 0), size)
    return np.where(inside[..., None], averaged / np.where(inside, share, 1)[..., None], 0), inside


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
