"""Pictures of samples on a page: inputs in colour, maps as grey levels that the browser colours, masks as outlines."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crdkit._core.progress import track
from crdkit.report.data import ReportData
from crdkit.report.gallery import Scale, colours, mask_to_rgb, resize, to_rgb
from crdkit.report.marks import MAX_MARKED
from crdkit.report.outlines import outline

BUDGET = 26_000_000
"""The most bytes of all pictures of a page; smaller ones are made if they do not fit."""
MASK_SIDE = 256  # pixels of an outlined mask, at most


@dataclass(frozen=True)
class Size:
    """How large pictures are, and how well they are kept."""

    side: int
    """Longest side of an input, in pixels."""
    map_side: int
    """Longest side of a map: smoothed, it holds less detail."""
    quality: int
    """Of a JPEG, 0 to 100."""


SIZES = (
    Size(256, 128, 82),
    Size(224, 112, 80),
    Size(192, 96, 78),
    Size(160, 80, 74),
    Size(128, 64, 70),
    Size(96, 48, 62),
    Size(64, 32, 50),
)


def pictures(data: ReportData, rows: Sequence[int], *, budget: int = BUDGET) -> list[Any]:
    """Return the pictures of some samples, in the order of ``rows``, as plain values.

    Each is a dictionary: ``inputs``, the JPEG of each modality as base64, None where the sample lacks it; ``maps``, the
    same of the fused map and then each branch's, in grey levels of its `Scale`; ``truth``, the outline of the mask;
    ``regions``, outline and number of the modality of each region; ``frame``, width and height of the outlines.

    Args:
        data: the samples.
        rows: which of them.
        budget: the most bytes that all pictures together may have; the smallest of `SIZES` may have more.
    """
    scales = scales_of(data)
    probe = list(rows)[:: max(1, len(rows) // 16)]

    def made(size: Size, chosen: Iterable[int]) -> list[Any]:
        return [_one(data, row, scales=scales, size=size) for row in chosen]

    found: list[Any] = []
    for size in SIZES:
        if size != SIZES[-1] and _bytes(made(size, probe)) * len(rows) > 0.95 * budget * len(probe):
            continue  # by what a few of them take
        found = made(size, track(rows, description="pictures of samples", total=len(rows)))
        if _bytes(found) <= budget:
            break
    return found


def scales_of(data: ReportData) -> list[Scale]:
    """Return the colour scale of the fused map and of each branch's, common to all samples."""
    return [Scale.of(maps) for maps in (data.maps, *data.branch_maps.values())]


def lacks(data: ReportData, row: int) -> list[str]:
    """Return the modalities that a sample does not have."""
    return [name for name, has in (data.present or {}).items() if not has[row]]


def heat_tables(count: int = 33) -> list[str]:
    """Return red, green and blue of the colour scale, as the tables of an SVG filter."""
    picked = colours()[np.linspace(0, 255, count).round().astype(int)] / 255
    return [" ".join(f"{value:.3f}".rstrip("0").rstrip(".") for value in channel) for channel in picked.T]


def _one(data: ReportData, row: int, *, scales: Sequence[Scale], size: Size) -> dict[str, Any]:
    missing = lacks(data, row)
    maps = [("", data.maps), *data.branch_maps.items()]
    levels = [
        None if name in missing else _grey(scale(values[row]), size)
        for (name, values), scale in zip(maps, scales, strict=True)
    ]
    shown = {name: None if name in missing else _colour(images[row], size) for name, images in data.inputs.items()}
    found = None if data.decided is None else data.decided[row]
    masks = data.maps.shape[1:] if found is None or found.mask is None else found.mask.shape
    height, width = _fit(masks, MASK_SIDE)
    names = list(data.branch_maps)
    regions = [] if found is None or found.mask is None else list(found.regions[:MAX_MARKED])
    return {
        "inputs": list(shown.values()),
        "maps": levels,
        "truth": "" if data.masks is None else outline(_shrunk(data.masks[row], (height, width))),
        "regions": [
            [outline(_shrunk(region.inside(found.mask), (height, width))), names.index(region.modality)]
            for region in regions
            if found is not None and found.mask is not None
        ],
        "frame": [width, height],
    }


def _bytes(found: Sequence[dict[str, Any]]) -> int:
    texts = [text for one in found for text in (*one["inputs"], *one["maps"], one["truth"])]
    texts += [path for one in found for path, _ in one["regions"]]
    return sum(len(text or "") + 8 for text in texts)


def _fit(shape: Sequence[int], side: int) -> tuple[int, int]:
    factor = min(1.0, side / max(shape))
    height, width = (max(1, round(length * factor)) for length in shape)
    return height, width


def _shrunk(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    mask = np.asarray(mask, dtype=bool)
    return mask if mask.shape == shape else resize(mask_to_rgb(mask), exact=shape)[..., 0] > 0


def _colour(image: np.ndarray, size: Size) -> str:
    picture = np.ascontiguousarray(to_rgb(image))
    picture = resize(picture, exact=_fit(picture.shape[:2], size.side))
    return _jpeg(picture if image.shape[0] == 3 else picture[..., 0], size.quality)


def _grey(level: np.ndarray, size: Size) -> str:
    values = np.repeat(np.round(level * 255).astype(np.uint8)[..., None], 3, axis=2)
    return _jpeg(resize(values, exact=_fit(level.shape, size.map_side))[..., 0], min(95, size.quality + 8))


def _jpeg(image: np.ndarray, quality: int) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, format="JPEG", quality=quality, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
