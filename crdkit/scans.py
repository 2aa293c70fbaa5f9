"""Organised scans as views need them: checked, back-projected, scaled, holes filled."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crdkit.errors import DataError
from crdkit.images import check_array, describe

FARTHEST_METRES = 100.0


def check_sensors(sensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return one sample's raw sensors with NaN in scans and depth images set to 0, which means "not measured".

    Args:
        sensors: (H, W) or (H, W, C) arrays of one height and width, by sensor name.

    Raises:
        DataError: a value is no such array, sizes differ, or a scan is empty, infinite or in millimetres.
    """
    checked: dict[str, np.ndarray] = {}
    for name, array in sensors.items():
        if not isinstance(array, np.ndarray) or array.ndim not in (2, 3) or array.size == 0:
            found = describe(array) if isinstance(array, np.ndarray) else type(array).__name__
            raise DataError(f"sensor {name!r}: expected a numpy array (H, W) or (H, W, C), found {found}")
        floats = np.issubdtype(array.dtype, np.floating)
        checked[name] = without_nan(array, source=f"sensor {name!r}") if floats else array
    sizes = {name: array.shape[:2] for name, array in checked.items()}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{name} {height} x {width}" for name, (height, width) in sizes.items())
        raise DataError(f"all sensors must have one height x width, found {found}; resample them to one another")
    return checked


def without_nan(array: np.ndarray, *, source: object) -> np.ndarray:
    """Return a float scan (H, W, 3) or image (H, W) in which NaN has become 0, which means "not measured".

    A pixel of a scan with one NaN is 0 in all channels.

    Raises:
        DataError: a value is infinite, or a scan is empty or in millimetres.
    """
    missing = np.isnan(array)
    known = array
    if missing.any():
        if array.ndim == 3:
            missing = np.broadcast_to(missing.any(axis=2, keepdims=True), array.shape)
        known = np.where(missing, array.dtype.type(0), array)
    if not np.isfinite(known).all():
        raise DataError(f"{source}: holds infinite values; set pixels without a measurement to 0 or NaN")
    if array.ndim == 3:
        check_metres(known, source=source)
        if not known[..., -1].any():
            raise DataError(f"{source}: no pixel holds a measurement (Z is 0 or NaN everywhere)")
    return known


def check_metres(xyz: np.ndarray, *, source: object) -> None:
    """Refuse a scan (H, W, 3) with a coordinate beyond 100 m, which looks like millimetres.

    Raises:
        DataError: there is one.
    """
    farthest = float(np.abs(xyz).max())
    if farthest > FARTHEST_METRES:
        raise DataError(
            f"{source}: a coordinate of {farthest:.0f} m; expected metres, and this looks like millimetres; "
            "divide by 1000"
        )


def check_scan(xyz: np.ndarray, *, source: object) -> None:
    """Refuse an array that is no scan (H, W, 3) of finite floats, in metres, with 0 where nothing was measured.

    Raises:
        DataError: another shape or dtype, or a value that is NaN or infinite.
    """
    check_array(xyz, source=source, channels=3, dtype=np.floating, hint="give X, Y and Z in metres")
    _check_finite(xyz, source=source)


def check_depth_image(depth: np.ndarray, *, source: object) -> None:
    """Refuse an array that is no depth image (H, W) of finite floats, in metres, with 0 where nothing was measured.

    Raises:
        DataError: another shape or dtype, or a value that is NaN or infinite.
    """
    if depth.ndim == 2 and np.issubdtype(depth.dtype, np.integer):
        raise DataError(
            f"{source}: expected float (H, W) in metres, found {describe(depth)}; convert the stored integers "
            "with the file's own range, or view them as 'single_channel'"
        )
    check_array(depth, source=source, channels=None, dtype=np.floating, hint="give the depth in metres")
    _check_finite(depth, source=source)


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

    A constant Z becomes the middle; without any measured pixel inside ``mask`` all is 0.
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


def _check_finite(array: np.ndarray, *, source: object) -> None:
    if not np.isfinite(array).all():
        raise DataError(f"{source}: holds NaN or infinite values; set pixels without a measurement to 0")
