"""Checks of organised scans and depth images: shapes, metres, missing measurements."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crdkit.data.images import check_array, describe
from crdkit.errors import DataError

MAX_METRES = 100.0


def check_sensors(sensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return one sample's raw sensors with NaN in scans and depth images set to 0, which means "not measured".

    Args:
        sensors: (H, W) or (H, W, C) arrays of one height and width, by sensor name.

    Raises:
        DataError: a value is not such an array, sizes differ, or a scan is empty, infinite or in millimetres.
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
        raise DataError(f"all sensors must have the same height x width, found {found}; resample them to one size")
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
        DataError: it has such a coordinate.
    """
    farthest = float(np.abs(xyz).max())
    if farthest > MAX_METRES:
        raise DataError(
            f"{source}: a coordinate of {farthest:.0f} m; expected metres, and this looks like millimetres; "
            "divide by 1000"
        )


def check_scan(xyz: np.ndarray, *, source: object) -> None:
    """Refuse an array that is not a scan (H, W, 3) of finite floats, in metres, with 0 where nothing was measured.

    Raises:
        DataError: another shape or dtype, or a value that is NaN or infinite.
    """
    check_array(xyz, source=source, channels=3, dtype=np.floating, hint="give X, Y and Z in metres")
    _check_finite(xyz, source=source)


def check_depth_image(depth: np.ndarray, *, source: object) -> None:
    """Refuse an array that is not a depth image (H, W) of finite floats, in metres, 0 where nothing was measured.

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


def _check_finite(array: np.ndarray, *, source: object) -> None:
    if not np.isfinite(array).all():
        raise DataError(f"{source}: holds NaN or infinite values; set pixels without a measurement to 0")
