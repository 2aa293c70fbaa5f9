"""Regions drawn into a picture: an outline in the colour of the modality that is most surprised there, and its name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crdkit.scoring.regions import Region

COLOURS = ((46, 230, 130), (255, 120, 240), (90, 180, 255), (255, 255, 255), (200, 255, 60), (255, 170, 140))
"""Of the modalities, in order: light, and none of them in the colour scale of the maps or the outline of masks."""
MAX_MARKED = 30  # the highest; more would hide the picture


def colour_of(modality: str, modalities: Sequence[str]) -> tuple[int, int, int]:
    """Return the colour of a modality, RGB."""
    return COLOURS[list(modalities).index(modality) % len(COLOURS)]


def mark_regions(
    image: np.ndarray, regions: Sequence[Region], mask: np.ndarray, *, modalities: Sequence[str], names: bool = True
) -> np.ndarray:
    """Return the picture with an outline just outside each region.

    Args:
        image: (h, w, 3) uint8.
        regions: of the mask, the highest first.
        mask: (H, W) bool; it may be larger or smaller than the picture.
        modalities: of the detector, in order, which sets the colours.
        names: whether each region's modality is written beside it, for readers who cannot tell the colours apart.

    Examples:
        >>> mask = np.zeros((40, 60), bool)
        >>> mask[10:20, 30:40] = True
        >>> region = Region(box=(10, 30, 20, 40), area=100, peak=(12, 31), score=3.0, modality="depth")
        >>> picture = np.zeros((80, 120, 3), np.uint8)
        >>> marked = mark_regions(picture, [region], mask, modalities=["rgb", "depth"], names=False)
        >>> tuple(marked[19, 70].tolist()) == colour_of("depth", ["rgb", "depth"]), int(marked[20:40, 60:80].sum())
        (True, 0)
    """
    drawn = image.copy()
    shown = list(regions[:MAX_MARKED])
    width = max(1, max(image.shape[:2]) // 256)
    for region in reversed(shown):  # the highest on top
        inside = _resized(region.inside(mask), image.shape[:2])
        outer = grown(inside, width)
        drawn[grown(outer, width) & ~outer] //= 3
        drawn[outer & ~inside] = colour_of(region.modality, modalities)
    if names:
        for region in reversed(shown):
            drawn = _written(drawn, region, scale=image.shape[0] / mask.shape[0], modalities=modalities)
    return drawn


def grown(mask: np.ndarray, by: int = 1) -> np.ndarray:
    """Return the mask and the four neighbours of each of its pixels, ``by`` times."""
    found = mask
    for _ in range(by):
        before, found = found, found.copy()
        found[1:] |= before[:-1]
        found[:-1] |= before[1:]
        found[:, 1:] |= before[:, :-1]
        found[:, :-1] |= before[:, 1:]
    return found


def _resized(mask: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return a (H, W) mask as (h, w); every pixel that holds some of it counts."""
    height, width = shape
    if mask.shape == (height, width):
        return mask
    from PIL import Image

    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX)) > 0


def _written(image: np.ndarray, region: Region, *, scale: float, modalities: Sequence[str]) -> np.ndarray:
    """Write the region's modality above its box, or below where there is no room."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = image.shape[:2]
    size = max(9, max(height, width) // 28)
    picture = Image.fromarray(image)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    left, top, right, bottom = draw.textbbox((0, 0), region.modality, font=font)
    gap = 3 * max(1, max(height, width) // 256)
    x = min(max(region.box[1] * scale - left, 1), max(width - right - 2, 1))
    y = region.box[0] * scale - bottom - gap
    if y < 0:
        y = min(region.box[2] * scale - top + gap, height - bottom - 1)
    colour = colour_of(region.modality, modalities)
    draw.text((x, y), region.modality, fill=colour, font=font, stroke_width=max(1, size // 8), stroke_fill=(0, 0, 0))
    return np.asarray(picture)
