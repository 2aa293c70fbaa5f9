"""Checks of raw sensors of any kind; those of scans and depth images are in `crdkit.data.scans`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crdkit.data.images import describe
from crdkit.errors import DataError


def check_sensors(sensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Return one sample's raw sensors as they are; what their values mean is for the views that read them.

    Args:
        sensors: (H, W) or (H, W, C) arrays of one height and width, by sensor name.

    Raises:
        DataError: a value is not such an array, or sizes differ.
    """
    for name, array in sensors.items():
        if not isinstance(array, np.ndarray) or array.ndim not in (2, 3) or array.size == 0:
            found = describe(array) if isinstance(array, np.ndarray) else type(array).__name__
            raise DataError(f"sensor {name!r}: expected a numpy array (H, W) or (H, W, C), found {found}")
    sizes = {name: array.shape[:2] for name, array in sensors.items()}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{name} {height} x {width}" for name, (height, width) in sizes.items())
        raise DataError(f"all sensors must have the same height x width, found {found}; resample them to one size")
    return sensors


def without_blank(sensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the sensors that measured something: those that are 0 or NaN everywhere, as if they failed, are left out.

    Examples:
        >>> list(without_blank({"rgb": np.ones((4, 5, 3), np.uint8), "xyz": np.full((4, 5, 3), np.nan)}))
        ['rgb']
    """
    return {name: array for name, array in sensors.items() if not _is_blank(array)}


def _is_blank(array: np.ndarray) -> bool:
    floats = np.issubdtype(array.dtype, np.floating)
    if floats and array.ndim == 3:
        array = array[..., -1]  # Z

    def measured(part: np.ndarray) -> bool:
        return bool(((part != 0) & ~np.isnan(part)).any() if floats else part.any())

    return not measured(array[::16, ::16]) and not measured(array)  # a few pixels tell in nearly every case


def check_finite(array: np.ndarray, *, source: object) -> None:
    """Refuse infinite values; NaN is allowed.

    Raises:
        DataError: some are infinite.
    """
    if not np.isfinite(array).all() and np.isinf(array).any():
        raise DataError(f"{source}: holds infinite values; set pixels without a measurement to NaN")
