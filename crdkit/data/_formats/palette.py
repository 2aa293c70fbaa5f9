"""Masks that are stored as palette images: what is normal is decided by colour."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crdkit.errors import DataError

if TYPE_CHECKING:
    from PIL import Image


def normal_indices(image: Image.Image, *, path: Path) -> np.ndarray:
    """Return which of the 256 palette indices stand for a normal pixel, (256,) bool: those whose colour is black.

    Raises:
        DataError: colour and index contradict each other: no pixel is black but some have index 0, or all pixels are
            black but have several indices.
    """
    used = np.flatnonzero(image.histogram()[:256])
    palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    black = np.asarray(~colours.any(axis=1))
    if not black[used].any() and 0 in used:
        named = f"index 0 is the colour {tuple(colours[0].tolist())}"
    elif black[used].all() and len(used) > 1:
        named = f"the indices {', '.join(map(str, used[:4]))} are all black"
    else:
        return black
    raise DataError(
        f"{path}: in a palette mask black is normal and every other colour is anomalous, but {named}: "
        "it is unclear what is normal; save the mask as a greyscale PNG in which 0 is normal"
    )
