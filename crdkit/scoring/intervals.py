"""How far metrics would move with other samples: bootstrap intervals, and a paired test of two detectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from crdkit.errors import CrdkitError, shorten
from crdkit.scoring._checks import (
    as_array,
    check_labels,
    check_limits,
    check_maps,
    check_masks,
    check_scores,
    check_share,
    image_max,
)
from crdkit.scoring._ranking import Array, Ranking, area, auroc, average_precision, curve, f1_max, recall, to_host
from crdkit.scoring._weighted import WeightedRanking
from crdkit.scoring.metrics import LIMITS, Regions, label_regions

RESAMPLES = 1000
Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """One metric of two detectors on the same samples; see `compare`. Fractions."""

    first: float
    second: float
    difference: float
    """Of the second to the first: above 0, the second is better."""
    low: float
    high: float
    p_value: float

    def to_dict(self) -> dict[str, float]:
        """Return the values by name, for JSON."""
        return asdict(self)


def intervals(
    maps: Array | None,
    masks: Array | None,
    scores: Array | Sequence[float] | None = None,
    *,
    labels: Array | Sequence[int] | None = None,
    regions: Regions | None = None,
    limits: Sequence[float] = LIMITS,
    recalls: Sequence[float] = (),
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """Return a bootstrap interval of every metric of `evaluate`: how far it would move with other test samples.

    Samples are drawn with replacement, images with all their pixels, and separately from the normal and the anomalous
    ones, so that every resample has as many of each. Each metric is computed exactly on each resample, and the interval
    is that between the (1 - level) / 2 and (1 + level) / 2 quantiles (Efron's percentile interval). It stays within 0
    and 1 and exists at the ends of that range, where the correction of BCa is not defined. With few samples it is too
    narrow, and where normal and anomalous scores do not overlap at all it is [1, 1]: see `Rate` for what counts of few
    samples say. It tells nothing about another training; for that, train with several seeds.

    Args:
        maps: as in `evaluate`; None: only image metrics, of ``scores`` and ``labels``.
        masks: as in `evaluate`.
        scores: as in `evaluate`.
        labels: as in `evaluate`.
        regions: as in `evaluate`.
        limits: as in `evaluate`.
        recalls: as in `evaluate`.
        resamples: number of resamples; quantiles of fewer than 200 are coarse.
        level: of the intervals.
        seed: of the drawing. The same samples and seed give the same resamples, whatever the scores are.

    Returns:
        (low, high) as fractions, under the names of `evaluate`; None where the metric cannot be computed. Resamples
        that lack a class of pixels are left out.

    Raises:
        CrdkitError: an argument has a wrong shape, length, type or value.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> labels = np.repeat([0, 1], 30)
        >>> low, high = intervals(None, None, labels + rng.normal(size=60), labels=labels, resamples=200)["image_auroc"]
        >>> 0.5 < low < high < 1
        True
    """
    measured = _Measured(maps, masks, scores, labels=labels, regions=regions, limits=limits, recalls=recalls)
    _check_resampling(resamples, level, seed)
    found = measured.at(draw(measured.labels, resamples, seed=seed))
    return {name: _interval(values, level) for name, values in found.items()}


def compare(
    first: Array | None,
    second: Array | None,
    masks: Array | None,
    scores: tuple[Array | Sequence[float], Array | Sequence[float]] | None = None,
    *,
    labels: Array | Sequence[int] | None = None,
    regions: Regions | None = None,
    limits: Sequence[float] = LIMITS,
    recalls: Sequence[float] = (),
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Difference | None]:
    """Compare two detectors on the same samples: the difference of each metric, its interval and its p-value.

    Both are measured on the same resamples (see `intervals`), so that what is hard for both does not blur the
    difference. The p-value is two-sided, from these differences d: 2 (1 + min(#{d <= 0}, #{d >= 0})) / (1 + R), at most
    1. It turns the interval around: below 0.05 roughly where the 95 % interval leaves out 0. One rule serves every
    metric. It needs no common scale of the two detectors' scores, which a permutation of scores between them would, and
    like every bootstrap it is valid for many samples; with few it is a guide. Differences between metrics, or between
    many pairs of detectors, need a correction for the number of comparisons.

    Args:
        first: (N, H, W) maps of one detector, None if there are ``scores`` only.
        second: (N, H, W) maps of the other, on the same samples in the same order.
        masks: as in `evaluate`, of both.
        scores: (N,) image scores of both. None takes each map's maximum.
        labels: as in `evaluate`, of both.
        regions: as in `evaluate`.
        limits: as in `evaluate`.
        recalls: as in `evaluate`.
        resamples: number of resamples; the smallest p-value is 2 / (resamples + 1).
        level: of the intervals.
        seed: of the drawing.

    Returns:
        A `Difference` under each name of `evaluate`; None where the metric cannot be computed.

    Raises:
        CrdkitError: an argument has a wrong shape, length, type or value, or the two are of different samples.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> labels = np.repeat([0, 1], 50)
        >>> good, poor = 3 * labels + rng.normal(size=100), labels + rng.normal(size=100)
        >>> found = compare(None, None, None, (poor, good), labels=labels, resamples=200)["image_auroc"]
        >>> found.difference > 0, found.p_value < 0.05
        (True, True)
    """
    if (first is None) != (second is None):
        raise CrdkitError("maps of one detector only; give those of both, or scores of both and no maps")
    if scores is not None and (not isinstance(scores, (tuple, list)) or len(scores) != len(("first", "second"))):
        raise CrdkitError(f"scores (={shorten(repr(scores))}) must be a pair, those of both detectors")
    if first is not None and second is not None:
        first, second = as_array(first), as_array(second)
        if tuple(first.shape) != tuple(second.shape):
            raise CrdkitError(
                f"the maps of the two detectors (shapes {tuple(first.shape)} and {tuple(second.shape)}) must be of "
                "the same samples"
            )
    pair = None if scores is None else [check_scores(values) for values in scores]
    if pair is not None and len(pair[0]) != len(pair[1]):
        raise CrdkitError(
            f"scores of {len(pair[0])} and of {len(pair[1])} samples; compare detectors on the same samples"
        )
    _check_resampling(resamples, level, seed)
    both = []
    for index, maps in enumerate((first, second)):
        of = None if pair is None else pair[index]
        part = _Measured(maps, masks, of, labels=labels, regions=regions, limits=limits, recalls=recalls)
        weights = np.concatenate([np.ones((1, len(part.labels))), draw(part.labels, resamples, seed=seed)])
        both.append(part.at(weights))
    return {name: _difference(values, both[1][name], level) for name, values in both[0].items()}


def draw(labels: NDArray[np.bool_], resamples: int, *, seed: int) -> NDArray[np.float64]:
    """Return how often each of N samples is drawn in each resample, (R, N): with replacement, within each class.

    Examples:
        >>> drawn = draw(np.array([False, True, True, True]), 2, seed=0)
        >>> drawn[:, 0].tolist(), drawn.sum(axis=1).tolist()
        ([1.0, 1.0], [4.0, 4.0])
    """
    rng = np.random.default_rng(seed)
    weights = np.zeros((resamples, len(labels)))
    for group in (np.flatnonzero(~labels), np.flatnonzero(labels)):
        if len(group):
            weights[:, group] = rng.multinomial(len(group), np.full(len(group), 1 / len(group)), size=resamples)
    return weights


class _Measured:
    """What `evaluate` gets, checked and sorted once, and its metrics at any weights of the samples."""

    def __init__(
        self,
        maps: Array | None,
        masks: Array | None,
        scores: Array | Sequence[float] | None,
        *,
        labels: Array | Sequence[int] | None,
        regions: Regions | None,
        limits: Sequence[float],
        recalls: Sequence[float],
    ) -> None:
        self._limits, self._recalls = check_limits(limits), check_limits(recalls, name="recalls")
        maps = None if maps is None else check_maps(maps)
        anomalous = None if masks is None or maps is None else to_host(check_masks(masks, maps))
        if scores is None:
            if maps is None:
                raise CrdkitError("neither maps nor scores are given; there is nothing to measure")
            scores = image_max(maps)
        if labels is None:
            if anomalous is None:
                raise CrdkitError("neither labels nor masks of the maps are given; samples are drawn within each class")
            labels = image_max(anomalous)
        image_scores = check_scores(scores, None if maps is None else len(maps))
        count = len(image_scores)
        self.labels = check_labels(labels, count)
        rows = np.arange(count)
        self._image = WeightedRanking(to_host(image_scores), self.labels, rows, images=count)
        self._pixel = None
        if anomalous is not None and maps is not None:
            regions = regions or label_regions(anomalous)
            if regions.shape != anomalous.shape or len(regions.ids) != np.count_nonzero(anomalous):
                raise CrdkitError(f"regions (shape {regions.shape}) must come from the same masks {anomalous.shape}")
            pixels = anomalous[0].size
            self._pixel = WeightedRanking(
                to_host(maps).ravel(),
                anomalous.ravel(),
                np.repeat(rows, pixels),
                images=count,
                region_shares=1.0 / regions.sizes[regions.ids],
            )

    def at(self, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the (R,) values of each metric for weights (R, N); NaN where it cannot be computed."""
        names = [f"{kind}_{name}" for kind in ("image", "pixel") for name in ("auroc", "ap", "f1_max")]
        names += [f"image_recall_{name}" for name in self._recalls] + [f"aupro_{name}" for name in self._limits]
        values = {name: np.full(len(weights), np.nan) for name in names}
        for kind, place in (("image", self._image), ("pixel", self._pixel)):
            if place is None:
                continue
            for row, found in enumerate(place.at(weights)):
                if found is not None:
                    for name, value in self._metrics(kind, *found).items():
                        values[name][row] = value
        return values

    def _metrics(self, kind: str, ranking: Ranking, overlap: NDArray[np.float64] | None) -> dict[str, float]:
        found = {
            f"{kind}_auroc": auroc(ranking),
            f"{kind}_ap": average_precision(ranking),
            f"{kind}_f1_max": f1_max(ranking),
        }
        if overlap is None:
            return found | {f"{kind}_recall_{name}": recall(ranking, rate) for name, rate in self._recalls.items()}
        drawn = curve(ranking, overlap)
        return found | {f"aupro_{name}": area(drawn, limit) for name, limit in self._limits.items()}


def _check_resampling(resamples: int, level: float, seed: int) -> None:
    for name, value, least in (("resamples", resamples, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise CrdkitError(f"{name} (={shorten(repr(value))}) must be an integer of at least {least}")
    check_share("level", level, what="a confidence level")


def _interval(values: NDArray[np.float64], level: float) -> Interval | None:
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return low, high


def _difference(first: NDArray[np.float64], second: NDArray[np.float64], level: float) -> Difference | None:
    """Compare values of which the first is that of the samples themselves, the others those of the resamples."""
    differences = (second - first)[1:]
    interval = _interval(differences, level)
    if interval is None or np.isnan(first[0]) or np.isnan(second[0]):
        return None
    known = differences[~np.isnan(differences)]
    fewer = int(min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0)))
    return Difference(
        first=float(first[0]),
        second=float(second[0]),
        difference=float(second[0] - first[0]),
        low=interval[0],
        high=interval[1],
        p_value=min(1.0, 2 * (1 + fewer) / (1 + len(known))),
    )
