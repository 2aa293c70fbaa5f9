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


def check_finite(array: np.ndarray, *, source: object) -> None:
    """Refuse infinite values; NaN is allowed.

    Raises:
        DataError: some are infinite.
    """
    if not np.isfinite(array).all() and np.isinf(array).any():
        raise DataError(f"{source}: holds infinite values; set pixels without a measurement to NaN")
