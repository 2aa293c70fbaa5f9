"""Exact image and pixel metrics, all of them from one sort of the normal scores.

AUROC, AP, F1-max and AU-PRO change their value only at the distinct scores of the *anomalous* pixels, and those are
few. So the normal scores are sorted once, the distinct anomalous scores are looked up in them, and every metric
follows from the counts. Between two anomalous scores a curve is horizontal; where normal scores tie with one, it is
a diagonal. NumPy sorts what lies on the CPU (several times faster there than torch), torch what lies on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from crdkit.errors import CrdkitError

Array: TypeAlias = NDArray[Any] | torch.Tensor
Curve: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]

LIMITS = (0.30, 0.10, 0.05, 0.01)
SAMPLED_THRESHOLDS = 100


@dataclass(frozen=True, eq=False)
class Regions:
    """The 8-connected anomalous regions of a stack of masks; see `label_regions`.

    ``shape`` is the masks' (N, H, W); ``ids`` (P,) holds the region of each anomalous pixel, in C order; ``sizes``
    (R,) holds the regions' pixel counts, ``pixels`` (N,) those of the images.
    """

    shape: tuple[int, ...]
    ids: NDArray[np.int64]
    sizes: NDArray[np.int64]
    pixels: NDArray[np.int64]

    def of(self, chosen: NDArray[np.bool_]) -> Regions:
        """Return the regions of the images that ``chosen`` (N,) marks, as labelling their masks would give them.

        Examples:
            >>> regions = label_regions(np.array([[[1, 0, 1]], [[0, 1, 1]]]))
            >>> regions.of(np.array([False, True])).sizes
            array([2])
        """
        ids = self.ids[np.repeat(chosen, self.pixels)]
        kept = np.bincount(ids, minlength=len(self.sizes)) > 0
        return Regions(
            shape=(int(np.count_nonzero(chosen)), *self.shape[1:]),
            ids=(np.cumsum(kept) - 1)[ids],
            sizes=self.sizes[kept],
            pixels=self.pixels[chosen],
        )


@dataclass(frozen=True, eq=False)
class _Ranking:
    """Counts at the K distinct anomalous scores, highest first."""

    scores: NDArray[Any]  # (K,)
    group: NDArray[np.int64]  # (P,) which of the K scores each anomalous element has
    hits: NDArray[np.int64]  # (K,) anomalous elements with that score or a higher one
    alarms: NDArray[np.int64]  # (K,) normal elements with that score or a higher one
    alarms_above: NDArray[np.int64]  # (K,) normal elements with a higher score
    normal: Array  # (n,) the sorted normal scores


def evaluate(
    maps: Array,
    masks: Array | None,
    scores: Array | Sequence[float] | None = None,
    *,
    labels: Array | Sequence[int] | None = None,
    regions: Regions | None = None,
    limits: Sequence[float] = LIMITS,
    sampled_thresholds: bool = False,
) -> dict[str, float | None]:
    """Compute image and pixel AUROC, AP and F1-max, and AU-PRO at several false-positive limits.

    AUROC and AP are scikit-learn's. F1-max is the best F1 over all thresholds. AU-PRO is that of the official MVTec
    code: one point per distinct score from (0, 0), trapezoids, linear interpolation at the limit, divided by the limit;
    false positives are counted over the normal pixels of *all* images, and every 8-connected region weighs the same.

    ``aupro100t_*`` is another metric, that of the public code of 3D-ADS, M3DM and TRD (CFM's default is 99 thresholds).
    Its thresholds are the normal scores at the positions ``linspace(0, n - 1, 100, dtype=int)`` of all n sorted normal
    scores, so they are spread evenly over ranks, not values; position p stands for the rate 1 - (p + 1) / n whether or
    not scores tie; a pixel is detected if its score is *above* the threshold; (1, 1) is added and (0, 0) is not. At a
    limit of 0.01 two points remain. Never compare its numbers with exact ones.

    Args:
        maps: (N, H, W) float anomaly maps. Numpy, or torch on any device; 64-bit maps are ranked as such.
        masks: (N, H, W) bool or integer, non-zero = anomalous. None leaves the pixel metrics None.
        scores: (N,) image scores. None takes each map's maximum.
        labels: (N,) 0 or 1. None takes "any anomalous pixel".
        regions: ``label_regions(masks)``, to share it between several sets of maps. None computes it.
        limits: False-positive rates in (0, 1] at which AU-PRO stops.
        sampled_thresholds: Adds ``aupro100t_*``.

    Returns:
        Fractions under ``{image,pixel}_{auroc,ap,f1_max}``, ``aupro_0.30``, ... and on demand ``aupro100t_0.30``, ...;
        None where a metric cannot be computed (one class only, no masks).

    Raises:
        CrdkitError: An argument has a wrong shape, length, type or value, such as a NaN in the maps.

    Examples:
        >>> maps = np.array([[[0.1, 0.2], [0.3, 0.1]], [[0.9, 0.1], [0.4, 0.8]]])
        >>> masks = np.array([[[0, 0], [0, 0]], [[1, 0], [0, 1]]])
        >>> metrics = evaluate(maps, masks)
        >>> metrics["image_auroc"], metrics["aupro_0.30"]
        (1.0, 1.0)
    """
    named_limits = _check_limits(limits)
    maps = _check_maps(maps)
    anomalous = None if masks is None else _check_masks(masks, maps)
    if regions is not None and anomalous is None:
        raise CrdkitError("regions is given without masks; pass the masks that it was computed from")
    if labels is None and anomalous is not None:
        labels = _image_max(anomalous)

    image_scores = _check_scores(_image_max(maps) if scores is None else scores, len(maps))
    image = None if labels is None else _rank(image_scores, _check_labels(labels, len(maps)))
    pixel = None if anomalous is None else _rank(maps, anomalous)

    metrics: dict[str, float | None] = {}
    for level, ranking in (("image", image), ("pixel", pixel)):
        metrics[f"{level}_auroc"] = _auroc(ranking) if ranking else None
        metrics[f"{level}_ap"] = _average_precision(ranking) if ranking else None
        metrics[f"{level}_f1_max"] = _f1_max(ranking) if ranking else None
    exact = sampled = None
    if pixel is not None and anomalous is not None:
        overlap = _region_overlap(pixel, anomalous, regions)
        exact, sampled = _curve(pixel, overlap), _sampled_curve(pixel, overlap)
    for name, limit in named_limits.items():
        metrics[f"aupro_{name}"] = _area(exact, limit) if exact else None
        if sampled_thresholds:
            metrics[f"aupro100t_{name}"] = _area(sampled, limit) if sampled else None
    return metrics


def label_regions(masks: Array) -> Regions:
    """Find the 8-connected regions of (N, H, W) masks, never joining neighbouring images.

    Raises:
        CrdkitError: The masks are not a stack of bool or integer images.
    """
    from scipy import ndimage

    anomalous = _host(_check_masks(masks))
    in_plane = np.zeros((3, 3, 3), dtype=bool)
    in_plane[1] = True
    labelled, _ = ndimage.label(anomalous, structure=in_plane)
    ids = labelled[anomalous].astype(np.int64) - 1
    return Regions(shape=anomalous.shape, ids=ids, sizes=np.bincount(ids), pixels=anomalous.sum(axis=(1, 2)))


def roc_curve(scores: Array | Sequence[float], labels: Array | Sequence[int], *, points: int = 500) -> Curve:
    """Draw the image-level ROC curve: false- and true-positive rates from (0, 0) to (1, 1), thinned to ``points``.

    ``scores`` and ``labels`` are (N,). Every vertex left out has a kept one within 2 / (points - 1), in |dx| + |dy|.

    Raises:
        CrdkitError: An argument has a wrong shape or value, or ``labels`` holds one class only.
    """
    image_scores = _check_scores(scores)
    ranking = _rank(image_scores, _check_labels(labels, len(image_scores)))
    if ranking is None:
        raise CrdkitError("labels holds one class only; a ROC curve needs normal and anomalous images")
    return _thin(_curve(ranking, ranking.hits / ranking.hits[-1]), points)


def pro_curve(maps: Array, masks: Array, *, regions: Regions | None = None, points: int = 500) -> Curve:
    """Draw the pixel-level PRO curve: false-positive rate and mean region overlap, thinned as in `roc_curve`.

    ``maps``, ``masks`` and ``regions`` are as in `evaluate`; the area under the curve up to a limit is its AU-PRO.

    Raises:
        CrdkitError: An argument has a wrong shape or value, or ``masks`` holds one class only.
    """
    maps = _check_maps(maps)
    anomalous = _check_masks(masks, maps)
    ranking = _rank(maps, anomalous)
    if ranking is None:
        raise CrdkitError("masks holds one class only; a PRO curve needs normal and anomalous pixels")
    return _thin(_curve(ranking, _region_overlap(ranking, anomalous, regions)), points)


def _rank(scores: Array, anomalous: Array) -> _Ranking | None:
    """Sort the normal scores once and count them at each distinct anomalous score; None if there is one class only."""
    normal: Array
    if isinstance(scores, torch.Tensor):
        distinct, inverse = torch.unique(scores[anomalous], return_inverse=True)
        normal = scores[~anomalous].sort().values
        counts = [torch.searchsorted(normal, distinct, right=right) for right in (False, True)]
        unique, group, below, up_to = map(_host, (distinct, inverse, *counts))
    else:
        unique, group = np.unique(scores[anomalous], return_inverse=True)
        normal = np.sort(scores[~anomalous])
        below, up_to = np.searchsorted(normal, unique, "left"), np.searchsorted(normal, unique, "right")
    if len(normal) == 0 or len(unique) == 0:
        return None
    group = len(unique) - 1 - group
    return _Ranking(
        scores=unique[::-1],
        group=group,
        hits=np.cumsum(np.bincount(group)),
        alarms=len(normal) - below[::-1],
        alarms_above=len(normal) - up_to[::-1],
        normal=normal,
    )


def _auroc(ranking: _Ranking) -> float:
    # Twice the number of (anomalous, normal) pairs in the right order, ties counting half: exact in integers.
    lower = 2 * len(ranking.normal) - ranking.alarms - ranking.alarms_above
    pairs = int(np.sum(np.diff(ranking.hits, prepend=0) * lower))
    return pairs / (2 * len(ranking.normal) * int(ranking.hits[-1]))


def _average_precision(ranking: _Ranking) -> float:
    precision = ranking.hits / (ranking.hits + ranking.alarms)
    return float(np.sum(np.diff(ranking.hits, prepend=0) * precision) / ranking.hits[-1])


def _f1_max(ranking: _Ranking) -> float:
    return float(np.max(2 * ranking.hits / (ranking.hits + ranking.alarms + ranking.hits[-1])))


def _region_overlap(ranking: _Ranking, anomalous: Array, regions: Regions | None) -> NDArray[np.float64]:
    """Average the regions' detected fractions at each of the K anomalous scores."""
    regions = regions or label_regions(anomalous)
    if regions.shape != tuple(anomalous.shape) or len(regions.ids) != len(ranking.group):
        raise CrdkitError(
            f"regions (shape {regions.shape}, {len(regions.ids)} anomalous pixels) must come from the same masks "
            f"(shape {tuple(anomalous.shape)}, {len(ranking.group)} anomalous pixels)"
        )
    overlap = np.cumsum(np.bincount(ranking.group, weights=1.0 / regions.sizes[regions.ids]))
    return np.asarray(overlap / overlap[-1])  # the last is the number of regions, up to rounding


def _curve(ranking: _Ranking, heights: NDArray[np.float64]) -> Curve:
    """List the vertices from (0, 0) to (1, 1) of the curve that reaches heights[k] at the k-th anomalous score."""
    x = np.stack([ranking.alarms_above, ranking.alarms], axis=1).ravel() / len(ranking.normal)
    y = np.stack([np.concatenate([[0.0], heights[:-1]]), heights], axis=1).ravel()
    return np.concatenate([[0.0], x, [1.0]]), np.concatenate([[0.0], y, [1.0]])


def _sampled_curve(ranking: _Ranking, overlap: NDArray[np.float64]) -> Curve:
    """List the points of the 100-threshold variant; `evaluate` says what it is."""
    ranks = np.linspace(0, len(ranking.normal) - 1, SAMPLED_THRESHOLDS, dtype=np.int64)
    thresholds = _host(ranking.normal[ranks.tolist()])
    above = len(overlap) - np.searchsorted(ranking.scores[::-1], thresholds, "right")
    x, y = 1.0 - (ranks + 1) / len(ranking.normal), np.concatenate([[0.0], overlap])[above]
    return np.concatenate([x[::-1], [1.0]]), np.concatenate([y[::-1], [1.0]])


def _area(curve: Curve, limit: float) -> float:
    """Integrate a curve that ends at x = 1 from 0 to the limit, and divide by the limit."""
    x, y = curve
    last = int(np.searchsorted(x, limit, side="right")) - 1
    area = float(np.sum(np.diff(x[: last + 1]) * (y[1 : last + 1] + y[:last]))) / 2
    if x[last] < limit:
        width = limit - x[last]
        slope = (y[last + 1] - y[last]) / (x[last + 1] - x[last])
        area += float(width * (y[last] + slope * width / 2))
    return min(area / limit, 1.0)


def _thin(curve: Curve, points: int) -> Curve:
    """Keep vertices at equal steps of |dx| + |dy| along the curve, so that steep and flat parts keep their shape."""
    if points < 2:
        raise CrdkitError(f"points (={points}) must be at least 2")
    x, y = curve
    length = np.cumsum(np.abs(np.diff(x, prepend=x[0])) + np.abs(np.diff(y, prepend=y[0])))
    _, keep = np.unique(length, return_index=True)
    if len(keep) > points:
        keep = keep[np.unique(np.searchsorted(length[keep], np.linspace(0.0, length[-1], points)))]
    return x[keep], y[keep]


def _array(values: Array | Sequence[float]) -> Array:
    """Return a GPU tensor as it is and all else as an array, without ever losing precision."""
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    values = values.detach()
    if values.is_floating_point() and values.element_size() < 4:  # NumPy has no bfloat16
        values = values.float()
    return values if values.is_cuda else values.cpu().numpy()


def _host(array: Array) -> NDArray[Any]:
    return array.cpu().numpy() if isinstance(array, torch.Tensor) else array


def _image_max(stack: Array) -> Array:
    return stack.amax((1, 2)) if isinstance(stack, torch.Tensor) else np.max(stack, axis=(1, 2))


def _check_maps(maps: Array) -> Array:
    maps = _array(maps)
    if "float" not in str(maps.dtype):
        raise CrdkitError(f"maps (dtype {maps.dtype}) must be floating point")
    if maps.ndim != 3 or 0 in maps.shape:
        raise CrdkitError(f"maps (shape {tuple(maps.shape)}) must be (N, H, W) with at least one pixel")
    finite = torch.isfinite(maps) if isinstance(maps, torch.Tensor) else np.isfinite(maps)
    if not finite.all():
        bad = np.argwhere(~_host(finite)).tolist()
        raise CrdkitError(f"maps{bad[0]} (={float(maps[tuple(bad[0])])}) must be finite; {len(bad)} values are not")
    return maps


def _check_masks(masks: Array, maps: Array | None = None) -> Array:
    """Return the masks as bool, on the maps' device."""
    masks = _array(masks)
    if not any(kind in str(masks.dtype) for kind in ("bool", "int")):
        raise CrdkitError(f"masks (dtype {masks.dtype}) must be bool or integer; write `masks > 0.5` for soft masks")
    if masks.ndim != 3:
        raise CrdkitError(f"masks (shape {tuple(masks.shape)}) must be (N, H, W)")
    if maps is not None and masks.shape != maps.shape:
        raise CrdkitError(f"masks (shape {tuple(masks.shape)}) must have the shape of maps, {tuple(maps.shape)}")
    if isinstance(maps, torch.Tensor):
        return (masks if isinstance(masks, torch.Tensor) else torch.tensor(masks != 0)).to(maps.device).bool()
    return _host(masks).astype(bool, copy=False)


def _check_scores(scores: Array | Sequence[float], length: int | None = None) -> NDArray[Any]:
    vector = _check_vector("scores", scores, length)
    if vector.dtype.kind not in "fiu" or not np.isfinite(vector).all():
        raise CrdkitError(f"scores (={vector}) must be finite numbers")
    return vector


def _check_labels(labels: Array | Sequence[int], length: int) -> NDArray[np.bool_]:
    vector = _check_vector("labels", labels, length)
    if vector.dtype.kind not in "biu" or not np.isin(vector, (0, 1)).all():
        raise CrdkitError(f"labels (={vector}) must be bools or integers, 0 = normal and 1 = anomalous")
    return vector.astype(bool)


def _check_vector(name: str, values: Array | Sequence[float], length: int | None) -> NDArray[Any]:
    vector = _host(_array(values))
    if vector.ndim != 1 or (length is not None and len(vector) != length):
        expected = "(N,)" if length is None else f"({length},), one value per image"
        raise CrdkitError(f"{name} (shape {vector.shape}) must be {expected}")
    return vector


def _check_limits(limits: Sequence[float]) -> dict[str, float]:
    """Name the limits: 0.3 is "0.30", but 0.005 stays itself."""
    if not all(0 < limit <= 1 for limit in limits):
        raise CrdkitError(f"limits (={tuple(limits)}) must be false-positive rates in (0, 1]")
    return {max(f"{limit:.2f}", f"{limit:g}", key=len): limit for limit in limits}
