"""NumPy files: what the header declares must be what follows it, to the byte."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import numpy as np

from crdkit.data._formats.encoded import check_declared


def npy_view(data: bytes, path: Path) -> np.ndarray:
    """Return the array in the bytes of a NumPy file, without a copy; nothing is unpickled.

    Raises:
        DataError: it declares too many pixels.
        ValueError: it is not such a file, holds no numbers, or is longer or shorter than its header says.
    """
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    end = 10 + int.from_bytes(data[8:10], "little") if version == (1, 0) else 12 + int.from_bytes(data[8:12], "little")
    if re.search(rb"\d[A-Za-z_]", re.sub(rb"'[^']*'", b"", data[8:end][2:])):
        raise ValueError("its header is damaged")  # Python's parser would warn of such a number
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded")
    if dtype.kind not in "biufc":
        raise ValueError(f"it holds {dtype}, not numbers")
    if any(side < 0 for side in shape):
        raise ValueError(f"its shape is {shape}")
    height, width, *channels = *shape, 1, 1
    check_declared(path, height=height, width=width, pixel_bytes=math.prod(channels) * dtype.itemsize)
    declared, stored = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if declared != stored:
        raise ValueError(f"its header declares {declared} bytes of {dtype} {shape}, {stored} follow")
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if fortran else "C")
