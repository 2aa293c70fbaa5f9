"""Bytes of a file before anything is decoded: read whole, their size checked by the header, and told if damaged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from crdkit.errors import ConfigError, DataError

VARIABLE = "CRDKIT_MAX_MEGAPIXELS"
"""Environment variable with the largest image that is decoded, in millions of pixels."""
DEFAULT_MEGAPIXELS = 64.0
_MAX_PIXEL_BYTES = 32  # a scan in 64-bit floats has 24

_DAMAGED_HINT = "copy the file again or leave the sample out"


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        DataError: it is missing, cannot be opened or is empty.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: the file does not exist; check the path or restore the file") from error
    except OSError as error:
        raise DataError(f"{path}: the file cannot be opened: {error.strerror or error}") from error
    if not data:
        raise DataError(f"{path}: the file is empty (0 bytes); {_DAMAGED_HINT}")
    return data


def check_declared(path: Path, *, height: int, width: int, pixel_bytes: int = 1) -> None:
    """Refuse an image by the size that its header declares, before memory is taken for it.

    Raises:
        DataError: it has more pixels than `VARIABLE` allows, or no plausible number of bytes a pixel.
        ConfigError: the variable is not a positive number.
    """
    megapixels = _max_megapixels()
    if height * width > megapixels * 1e6:
        raise DataError(
            f"{path}: its header declares {height} x {width} pixels, more than {megapixels:g} megapixels; if that is "
            f"its true size, set the environment variable {VARIABLE} to {height * width / 1e6:.0f} or more"
        )
    if pixel_bytes > _MAX_PIXEL_BYTES:
        raise DataError(f"{path}: its header declares {pixel_bytes} bytes a pixel; {_DAMAGED_HINT}")


def _max_megapixels() -> float:
    text = os.environ.get(VARIABLE) or DEFAULT_MEGAPIXELS
    try:
        megapixels = float(text)
    except ValueError:
        megapixels = -1.0
    if not megapixels > 0:
        raise ConfigError(f"{VARIABLE}={text}: expected millions of pixels, e.g. {DEFAULT_MEGAPIXELS:g}")
    return megapixels


def not_readable(path: Path, data: bytes, formats: Mapping[str, bytes], reason: str) -> DataError:
    """Return the error for a file that cannot be decoded.

    Args:
        path: the file.
        data: its content.
        formats: the first bytes of each format that is read, by its name.
        reason: what the decoder said.
    """
    found = f"found {len(data)} bytes that start with {data[:8]!r}"
    for name, magic in formats.items():
        if data.startswith(magic):
            reason = " ".join(reason.split()).removesuffix(".")[:200]
            # Pillow's reason may name the buffer in memory
            why = f": {reason}" if reason and "BytesIO" not in reason else ""
            return DataError(f"{path}: the {name} file is truncated or damaged{why}; {found}; {_DAMAGED_HINT}")
    return DataError(f"{path}: expected a {' or '.join(formats)} file, {found}; replace it, or correct its name")
