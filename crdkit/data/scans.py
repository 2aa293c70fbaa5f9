"""Checks of organised scans and depth images: shapes, metres, missing measurements."""

from __future__ import annotations

import numpy as np

from crdkit.data.images import check_array, describe
from crdkit.data.invalid import fill_hint, fill_value
from crdkit.data.sensors import check_finite
from crdkit.errors import DataError

MAX_METRES = 100.0


def measured_scan(xyz: np.ndarray, *, sensor: str, source: object = None, blank: bool = False) -> np.ndarray:
    """Return an organised scan (H, W, 3) of floats, metres, in which NaN has become 0, which means "not measured".

    A pixel with one NaN is 0 in all channels.

    Args:
        xyz: what was read or handed over.
        sensor: its name, for the remedy in messages.
        source: what messages start with, such as the file; None for the sensor's name.
        blank: whether a scan without any measurement is let through.

    Raises:
        DataError: another shape or dtype, infinite values, coordinates beyond 100 m, or no measurement at all.
    """
    source = source or f"sensor {sensor!r}"
    check_array(xyz, source=source, channels=3, dtype=np.floating, hint="give X, Y and Z in metres")
    xyz = without_nan(xyz, source=source)
    check_metres(xyz, source=source, sensor=sensor)
    if not blank and not xyz[..., -1].any():
        raise DataError(f"{source}: no pixel holds a measurement (Z is 0 or NaN everywhere)")
    return xyz


def measured_depth(depth: np.ndarray, *, sensor: str) -> np.ndarray:
    """Return a depth image (H, W) of floats, metres, in which NaN has become 0, which means "not measured".

    Raises:
        DataError: another shape or dtype, infinite values, a depth beyond 100 m, or no measurement at all.
    """
    source = f"sensor {sensor!r}"
    if depth.ndim == 2 and np.issubdtype(depth.dtype, np.integer):
        raise DataError(
            f"{source}: expected float (H, W) in metres, found {describe(depth)}; for millimetres "
            f"{_scale_hint(sensor)}, or view them as 'single_channel'"
        )
    check_array(depth, source=source, channels=None, dtype=np.floating, hint="give the depth in metres")
    depth = without_nan(depth, source=source)
    check_metres(depth, source=source, sensor=sensor)
    if not depth.any():
        raise DataError(f"{source}: no pixel holds a measurement (it is 0 or NaN everywhere)")
    return depth


def check_metres(array: np.ndarray, *, source: object, sensor: str) -> None:
    """Refuse a scan or depth image with a coordinate beyond 100 m: millimetres, or a value for "not measured".

    Raises:
        DataError: it has such a coordinate; the message names the option that reads it right.
    """
    farthest = max(float(array.max()), -float(array.min()))
    if farthest > MAX_METRES:
        raise DataError(
            f"{source}: {fill_hint(array, sensor=sensor)}"
            if fill_value(array) is not None
            else f"{source}: a coordinate of {farthest:.0f} m; expected metres, and this looks like millimetres; "
            f"{_scale_hint(sensor)}; an image in colour must hold 8 bits"
        )


def without_nan(array: np.ndarray, *, source: object) -> np.ndarray:
    """Return a scan (H, W, 3) or image (H, W) of floats with 0 for NaN, and in all channels of such a pixel.

    Raises:
        DataError: some values are infinite.
    """
    if np.isfinite(array).all():
        return array
    check_finite(array, source=source)
    missing = np.isnan(array)
    if array.ndim == 3:
        missing = missing.any(axis=2, keepdims=True)
    return np.where(missing, array.dtype.type(0), array)


def _scale_hint(sensor: str) -> str:
    return f"divide by 1000, or read the files with data.scale.{sensor}=0.001"
