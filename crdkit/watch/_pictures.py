"""Small pictures of the last samples: what the first sensor saw, and beside it where the detector is surprised."""

from __future__ import annotations

import base64
import io
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from crdkit._core.files import write_bytes
from crdkit.detector import Prediction
from crdkit.report.gallery import Scale, heat
from crdkit.report.marks import mark_regions

SIDE = 192
"""Longest side of each of the two, pixels."""
_FINER = 2  # times SIDE, to which maps are brought before they are coloured
_QUALITY = 80
_REMEMBERED = 50  # samples that the colours follow
_AT_THRESHOLD = 0.65  # of the colours, at the pixel threshold


class Pictures:
    """Keeps one file for each of the last samples, so that they are there after a restart.

    Args:
        folder: of the files; created with the first.
        count: how many there are.
    """

    def __init__(self, folder: Path, *, count: int) -> None:
        self._folder, self._count = folder, count
        self._kept: dict[int, str] = {}
        self._medians: deque[float] = deque(maxlen=_REMEMBERED)
        self._peaks: deque[float] = deque(maxlen=_REMEMBERED)

    def add(self, number: int, sensors: Mapping[str, np.ndarray], found: Prediction) -> None:
        """Keep the picture of a sample, and remove the oldest.

        Raises:
            CrdkitError: the file cannot be written.
        """
        seen = _reduced(_picture(sensors))
        both = _jpeg(np.hstack([seen, self._overlay(seen, found)]))
        self._folder.mkdir(exist_ok=True)
        write_bytes(self._file(number), both)
        self._kept[number] = _data_url(both)
        self._kept.pop(number - self._count, None)
        self._file(number - self._count).unlink(missing_ok=True)

    def restore(self, number: int) -> None:
        """Read the picture that an earlier process kept of a sample, if it can be read."""
        try:
            self._kept[number] = _data_url(self._file(number).read_bytes())
        except OSError:  # a process was killed before it drew it
            return

    def source(self, number: int) -> str:
        """Return the picture of one of the last samples as a data URL; empty if there is none."""
        return self._kept.get(number, "")

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:08d}.jpg"

    def _overlay(self, picture: np.ndarray, found: Prediction) -> np.ndarray:
        values = _coarse(found.anomaly_map)
        self._medians.append(float(np.median(values)))
        self._peaks.append(float(values.max()))
        low, high = float(np.median(self._medians)), max(self._peaks)
        if found.pixel_threshold is not None and found.pixel_threshold > low:
            high = low + (found.pixel_threshold - low) / _AT_THRESHOLD
        drawn = heat(values, scale=Scale(low, high), underlay=picture, side=SIDE)
        drawn = _resized(drawn, picture.shape[0], picture.shape[1])
        if found.regions and found.mask is not None:
            drawn = mark_regions(drawn, found.regions, found.mask, modalities=list(found.maps), names=False)
        return drawn


def _picture(sensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return a picture that a person would recognise, (H, W, 3) uint8: the first image, else the first sensor."""
    array = next((array for array in sensors.values() if array.dtype == np.uint8), next(iter(sensors.values())))
    if array.dtype == np.uint8:
        return np.broadcast_to(array if array.ndim == 3 else array[..., None], (*array.shape[:2], 3))
    plane = array[..., -1] if array.ndim == 3 else array
    known = np.isfinite(plane) & ((plane != 0) | (plane.dtype.kind != "f"))
    low, high = np.quantile(plane[known], (0.02, 0.98)) if known.any() else (0.0, 1.0)
    level = np.clip((np.where(known, plane, low) - low) / max(high - low, 1e-12), 0, 1)
    return np.repeat((level * 255).astype(np.uint8)[..., None], 3, axis=2)


def _reduced(image: np.ndarray) -> np.ndarray:
    factor = SIDE / max(image.shape[:2])
    return _resized(image, *(max(1, round(length * factor)) for length in image.shape[:2]))


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))


def _coarse(values: np.ndarray) -> np.ndarray:
    """Return the highest value of each block of pixels, so that no peak is lost."""
    step = max(1, max(values.shape) // (_FINER * SIDE))
    if step == 1:
        return values
    height, width = (-(-length // step) for length in values.shape)
    padded = np.pad(values, ((0, height * step - values.shape[0]), (0, width * step - values.shape[1])), mode="edge")
    rows = np.maximum.reduce([padded[first::step] for first in range(step)])
    return np.asarray(np.maximum.reduce([rows[:, first::step] for first in range(step)]))


def _jpeg(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()


def _data_url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
