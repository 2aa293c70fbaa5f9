"""Heat maps, the order of samples by their mistakes, and the picture of a few samples that a run writes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crdkit.report.marks import grown, mark_regions
from crdkit.report.wording import count_in_words

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from crdkit.report.data import ReportData

COLOURS = "inferno"  # its brightness rises evenly: readable with any colour vision and in greyscale print
UNDERLAY = 0.3  # brightness of the input that shows through where there is no heat
OUTLINE = (0, 229, 255)
SIZE = 500
"""The most samples that a page shows pictures of."""


@dataclass(frozen=True)
class Scale:
    """The map values that get the first and the last colour, the same for every sample."""

    low: float
    high: float

    @classmethod
    def of(cls, maps: np.ndarray, *, limit: int = 4_000_000) -> Scale:
        """Return the median to the 99.8th percentile of all pixels; from a regular subset if there are very many."""
        flat = maps.reshape(-1)
        step = flat.size // limit * 2 + 1  # odd: visits every column of an even-sided map
        low, high = np.quantile(flat[::step].astype(np.float64), (0.5, 0.998))
        return cls(float(low), float(high))

    def __call__(self, maps: np.ndarray) -> np.ndarray:
        """Map values to [0, 1], clipped; all 0 if the scale has no extent."""
        extent = self.high - self.low
        if not extent > 0:
            return np.zeros(maps.shape)
        return np.clip((maps.astype(np.float64) - self.low) / extent, 0, 1)


def mistakes(labels: np.ndarray | None, scores: np.ndarray) -> np.ndarray:
    """Return for each sample the share of the other class that it is ranked on the wrong side of; ties count half.

    Examples:
        >>> mistakes(np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.5, 0.9]))
        array([0. , 0.5, 0.5, 0. ])
    """
    wrong = np.zeros(len(scores))
    for own, sign in ((0, 1), (1, -1)):
        if labels is None or not (labels == own).any() or not (labels != own).any():
            continue
        others = np.sort(sign * scores[labels != own])
        values = sign * scores[labels == own]
        below = np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")
        wrong[labels == own] = below / (2 * len(others))
    return wrong


def order(labels: np.ndarray | None, scores: np.ndarray) -> list[int]:
    """Return the samples' indices, worst mistakes first, then closest calls; without two classes by falling score."""
    scores = np.asarray(scores, dtype=np.float64)
    if labels is None or len(np.unique(labels)) < 2:
        rising = labels is not None and bool(labels.any())
        return [int(index) for index in np.argsort(scores if rising else -scores, kind="stable")]
    normal, anomalous = scores[labels == 0], scores[labels != 0]
    margin = np.where(labels != 0, scores - normal.max(), anomalous.min() - scores)
    return [int(index) for index in np.lexsort((np.arange(len(scores)), margin, -mistakes(labels, scores)))]


def most_telling(labels: np.ndarray | None, scores: torch.Tensor, *, size: int) -> list[int]:
    """Return at most ``size`` samples, in the order of `order`."""
    return order(labels, scores.cpu().numpy())[: max(size, 0)]


def qualitative(data: ReportData, *, limit: int = 8, side: int = 256, gap: int = 8) -> Figure:
    """Draw samples as columns; inputs, mask, branch maps and fused map as rows. One of each defect type in turn."""
    from crdkit.report.figures import shorten

    chosen = _pick_across_types(data, limit=limit)
    scales = [Scale.of(maps) for _, maps in _all_maps(data)]
    columns = [_images(data, index, scales=scales, side=side) for index in chosen]
    pitch = side + gap
    canvas = np.full((len(columns[0]) * pitch, len(columns) * pitch, 3), 255, dtype=np.uint8)
    for column, images in enumerate(columns):
        for row, (_, image, _) in enumerate(images):
            height, width = image.shape[:2]
            top, left = row * pitch + (side - height) // 2, column * pitch + (side - width) // 2
            canvas[top : top + height, left : left + width] = image
    heads = [f"{shorten(data.defect_types[index], 16)}\n{data.scores[index]:.3g}" for index in chosen]
    return _labelled(canvas, heads=heads, rows=[shorten(name, 16) for name, _, _ in columns[0]])


def _labelled(
    canvas: np.ndarray, *, heads: Sequence[str], rows: Sequence[str], left: int = 60, top: int = 90
) -> Figure:
    """Return a figure that shows every pixel of the canvas once, with a head over each column and names of rows."""
    from crdkit.report.figures import DPI, new_figure, style

    height, width = canvas.shape[0] + top, canvas.shape[1] + left
    with style():
        figure = new_figure(width / DPI, height / DPI)
        figure.set_layout_engine(None)
        axes = figure.add_axes((left / width, 0, canvas.shape[1] / width, canvas.shape[0] / height))
        axes.imshow(canvas, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        for column, text in enumerate(heads):
            middle = (column + 0.5) * canvas.shape[1] / len(heads)
            axes.text(middle, -10, text, horizontalalignment="center", verticalalignment="bottom")
        for row, text in enumerate(rows):
            middle = (row + 0.5) * canvas.shape[0] / len(rows)
            axes.text(-10, middle, text, rotation=90, horizontalalignment="right", verticalalignment="center")
    return figure


def _pick_across_types(data: ReportData, *, limit: int) -> list[int]:
    """Return the first sample of every defect type, then the second, ...: chosen by order, not by appearance."""
    seen: dict[str, int] = {}
    rank = []
    for name in data.defect_types:
        seen[name] = seen.get(name, 0) + 1
        rank.append(seen[name])
    taken = sorted(range(len(rank)), key=lambda index: (rank[index], index))[:limit]
    return sorted(taken, key=lambda index: (data.defect_types[index] == "good", index))


def _all_maps(data: ReportData) -> list[tuple[str, np.ndarray]]:
    return [*data.branch_maps.items(), ("fused", data.maps)]


def _images(data: ReportData, index: int, *, scales: Sequence[Scale], side: int) -> list[tuple[str, np.ndarray, str]]:
    """Return name, (h, w, 3) uint8 image and description of every tile of one sample, in reading order."""
    pictures = {name: to_rgb(images[index]) for name, images in data.inputs.items()}
    tiles = [(name, resize(picture, side), f"{name} input") for name, picture in pictures.items()]
    mask = None if data.masks is None else np.asarray(data.masks[index], dtype=bool)
    if mask is not None:
        text = f"mask ({100 * mask.mean():.1f}% of the pixels)" if mask.any() else "mask (empty)"
        tiles.append(("mask", resize(mask_to_rgb(mask), side), text))
    first = next(iter(pictures.values()), None)
    for (name, maps), scale in zip(_all_maps(data), scales, strict=True):
        coloured = heat(maps[index], scale=scale, underlay=pictures.get(name, first), side=side)
        tiles.append((f"{name} map", coloured, f"{name} anomaly map"))
    name, fused, text = tiles[-1]
    if mask is not None and mask.any():
        fused, text = _outline(fused, mask), f"{text}, mask outlined,"
    found = None if data.decided is None else data.decided[index]
    if found is not None and found.mask is not None and found.regions:
        modalities = list(data.branch_maps)
        fused = mark_regions(fused, found.regions, found.mask, modalities=modalities, names=False)
        text = f"{text}, {count_in_words(found)} outlined,"
    tiles[-1] = (name, fused, text)
    return tiles


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Convert (C, H, W) floats in [0, 1], or uint8, to (H, W, 3) uint8."""
    if image.dtype != np.uint8:
        image = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    picture: np.ndarray = np.broadcast_to(image.transpose(1, 2, 0), (*image.shape[1:], 3))
    return picture


def heat(values: np.ndarray, *, scale: Scale, underlay: np.ndarray | None, side: int) -> np.ndarray:
    """Colour the map; the input shows through in dim grey where there is little heat."""
    level = np.round(scale(values) * 255).astype(np.uint8)
    level = resize(np.repeat(level[..., None], 3, axis=2), side)[..., 0]
    picture = colours()[level].astype(np.float64)
    if underlay is not None:
        grey = resize(np.ascontiguousarray(underlay), side, exact=level.shape).mean(axis=2)
        picture += ((1 - level / 255) ** 2 * UNDERLAY * grey)[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def _outline(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draw a cyan line and a dark seam around the mask, clear of it so that thin defects stay visible."""
    inside = grown(resize(mask_to_rgb(mask), exact=image.shape[:2])[..., 0] > 0, 2)
    outer = grown(inside, max(1, max(inside.shape) // 128))
    line, seam = outer & ~inside, grown(outer) & ~outer
    drawn = image.copy()
    drawn[seam] = drawn[seam] // 3
    drawn[line] = OUTLINE
    return drawn


def mask_to_rgb(mask: np.ndarray) -> np.ndarray:
    """Convert an (H, W) mask to (H, W, 3) uint8, white where it is true."""
    return np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)


def resize(image: np.ndarray, side: int = 1, *, exact: Sequence[int] | None = None) -> np.ndarray:
    """Bring the longer side of (h, w, 3) uint8 to ``side`` pixels, or the image to ``exact`` (height, width)."""
    from PIL import Image

    factor = side / max(image.shape)
    height, width = exact or [max(1, round(length * factor)) for length in image.shape[:2]]
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def encode(image: np.ndarray, *, quality: int, sharp: bool) -> str:
    """Return the image as a JPEG data URL; ``sharp`` keeps the full resolution of colour."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality, subsampling=0 if sharp else 2, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def colours() -> np.ndarray:
    """Return the (256, 3) uint8 table of the colour map."""
    import matplotlib

    return np.asarray(matplotlib.colormaps[COLOURS](np.arange(256), bytes=True))[:, :3]
