"""Files of organised scans in any unit of length."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crdkit.data.images import check_array, read_tiff
from crdkit.data.scans import measured_scan


def read_scan(path: Path, *, scale: float = 1.0, blank: bool = False) -> np.ndarray:
    """Decode a TIFF file with X, Y and Z, (H, W, 3) floats, to float32 metres with 0 for "not measured".

    Args:
        path: the file.
        scale: metres per stored unit.
        blank: whether a scan without any measurement is let through.

    Raises:
        DataError: the file is no such scan, or what `measured_scan` refuses.
    """
    xyz = read_tiff(path)
    check_array(xyz, source=path, channels=3, dtype=np.floating, hint="store X, Y and Z as 32-bit floats")
    metres = xyz.astype(np.float32, copy=False) * np.float32(scale)
    return measured_scan(metres, sensor="xyz", source=path, blank=blank)
