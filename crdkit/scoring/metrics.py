"""Exact image and pixel metrics, all of them from one sort of the normal scores.

AUROC, AP, F1-max and AU-PRO change their value only at the distinct scores of the *anomalous* pixels, and those are
few. So the normal scores are sorted once, the distinct anomalous scores are looked up in them, and every metric
follows from the counts. Between two anomalous scores a curve is horizontal; where normal scores tie with one, it is
a diagonal. NumPy sorts what lies on the CPU (several times faster there than torch), torch what lies on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crdkit.errors import CrdkitError
from crdkit.scoring._checks import (
    check_labels,
    check_limits,
    check_maps,
    check_masks,
    check_scores,
    image_max,
)
from crdkit.scoring._ranking import (
    Array,
    Curve,
    Ranking,
    area,
    auroc,
    average_precision,
    curve,
    f1_max,
    rank,
    recall,
    sampled_curve,
    thin,
    to_host,
)

LIMITS = (0.30, 0.10, 0.05, 0.01)


@dataclass(frozen=True, eq=False)
class Regions:
    """The 8-connected anomalous regions of a stack of masks; see `label_regions`.

    ``shape`` is the masks' (N, H, W); ``ids`` (P,) holds the region of each anomalous pixel, in C order; ``sizes``
    (R,) holds the regions' pixel counts, ``pixels`` (N,) those of the images.

    Examples:
        >>> regions = label_regions(np.array([[[1, 0, 1], [1, 0, 0]]]))
        >>> regions.shape, regions.sizes, regions.pixels
        ((1, 2, 3), array([2, 1]), array([3]))
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


def evaluate(
    maps: Array,
    masks: Array | None,
    scores: Array | Sequence[float] | None = None,
    *,
    labels: Array | Sequence[int] | None = None,
    regions: Regions | None = None,
    limits: Sequence[float] = LIMITS,
    sampled_thresholds: bool = False,
    recalls: Sequence[float] = (),
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
        labels: (N,) 0 or 1. None takes "any anomalous pixel", as the published code does; runs give the folders'.
        regions: ``label_regions(masks)``, to share it between several sets of maps. None computes it.
        limits: False-positive rates in (0, 1] at which AU-PRO stops.
        sampled_thresholds: Adds ``aupro100t_*``.
        recalls: False-alarm rates in (0, 1] of normal images; adds ``image_recall_0.05``, ..., see `recall_at`.

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
    named_limits, named_recalls = check_limits(limits), check_limits(recalls, name="recalls")
    maps = check_maps(maps)
    anomalous = None if masks is None else check_masks(masks, maps)
    if regions is not None and anomalous is None:
        raise CrdkitError("regions is given without masks; pass the masks that it was computed from")
    if labels is None and anomalous is not None:
        labels = image_max(anomalous)

    image_scores = check_scores(image_max(maps) if scores is None else scores, len(maps))
    image = None if labels is None else rank(image_scores, check_labels(labels, len(maps)))
    pixel = None if anomalous is None else rank(maps, anomalous)

    metrics: dict[str, float | None] = {}
    for level, ranking in (("image", image), ("pixel", pixel)):
        metrics[f"{level}_auroc"] = auroc(ranking) if ranking else None
        metrics[f"{level}_ap"] = average_precision(ranking) if ranking else None
        metrics[f"{level}_f1_max"] = f1_max(ranking) if ranking else None
    for name, rate in named_recalls.items():
        metrics[f"image_recall_{name}"] = recall(image, rate) if image else None
    exact = sampled = None
    if pixel is not None and anomalous is not None:
        overlap = _region_overlap(pixel, anomalous, regions)
        exact = curve(pixel, overlap)
        sampled = sampled_curve(pixel, overlap) if sampled_thresholds else None
    for name, limit in named_limits.items():
        metrics[f"aupro_{name}"] = area(exact, limit) if exact else None
        if sampled_thresholds:
            metrics[f"aupro100t_{name}"] = area(sampled, limit) if sampled else None
    return metrics


def label_regions(masks: Array) -> Regions:
    """Find the 8-connected regions of (N, H, W) masks, never joining neighbouring images.

    Raises:
        CrdkitError: The masks are not a stack of bool or integer images.

    Examples:
        >>> label_regions(np.array([[[1, 0, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 1]]])).sizes  # corners touch
        array([2, 1])
    """
    from scipy import ndimage

    anomalous = to_host(check_masks(masks))
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

    Examples:
        >>> false_positives, true_positives = roc_curve([0.1, 0.4, 0.3, 0.9], [0, 0, 1, 1])
        >>> false_positives.tolist(), true_positives.tolist()
        ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """
    image_scores = check_scores(scores)
    ranking = rank(image_scores, check_labels(labels, len(image_scores)))
    if ranking is None:
        raise CrdkitError("labels holds one class only; a ROC curve needs normal and anomalous images")
    return thin(curve(ranking, ranking.hits / ranking.hits[-1]), points)


def pro_curve(maps: Array, masks: Array, *, regions: Regions | None = None, points: int = 500) -> Curve:
    """Draw the pixel-level PRO curve: false-positive rate and mean region overlap, thinned as in `roc_curve`.

    ``maps``, ``masks`` and ``regions`` are as in `evaluate`; the area under the curve up to a limit is its AU-PRO.

    Raises:
        CrdkitError: An argument has a wrong shape or value, or ``masks`` holds one class only.

    Examples:
        >>> false_positives, overlap = pro_curve(np.array([[[0.1, 0.9], [0.4, 0.3]]]), np.array([[[0, 1], [0, 1]]]))
        >>> false_positives.tolist(), overlap.tolist()
        ([0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
    """
    maps = check_maps(maps)
    anomalous = check_masks(masks, maps)
    ranking = rank(maps, anomalous)
    if ranking is None:
        raise CrdkitError("masks holds one class only; a PRO curve needs normal and anomalous pixels")
    return thin(curve(ranking, _region_overlap(ranking, anomalous, regions)), points)


def _region_overlap(ranking: Ranking, anomalous: Array, regions: Regions | None) -> NDArray[np.float64]:
    """Average the regions' detected fractions at each of the K anomalous scores."""
    regions = regions or label_regions(anomalous)
    if regions.shape != tuple(anomalous.shape) or len(regions.ids) != len(ranking.group):
        raise CrdkitError(
            f"regions (shape {regions.shape}, {len(regions.ids)} anomalous pixels) must come from the same masks "
            f"(shape {tuple(anomalous.shape)}, {len(ranking.group)} anomalous pixels)"
        )
    overlap = np.cumsum(np.bincount(ranking.group, weights=1.0 / regions.sizes[regions.ids]))
    return np.asarray(overlap / overlap[-1])  # the last is the number of regions, up to rounding
