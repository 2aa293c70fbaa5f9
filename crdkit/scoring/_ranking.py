"""Normal scores sorted once and counted at each distinct anomalous score, and what follows from the counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from crdkit.errors import CrdkitError

Array: TypeAlias = NDArray[Any] | torch.Tensor
Curve: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]

SAMPLED_THRESHOLDS = 100


@dataclass(frozen=True, eq=False)
class Ranking:
    """Counts at the K distinct anomalous scores, highest first."""

    scores: NDArray[Any]  # (K,)
    group: NDArray[np.int64]  # (P,) which of the K scores each anomalous element has
    hits: NDArray[np.int64]  # (K,) anomalous elements with that score or a higher one
    alarms: NDArray[np.int64]  # (K,) normal elements with that score or a higher one
    alarms_above: NDArray[np.int64]  # (K,) normal elements with a higher score
    normal: Array  # (n,) the sorted normal scores


def rank(scores: Array, anomalous: Array) -> Ranking | None:
    """Sort the normal scores once and count them at each distinct anomalous score; None if there is one class only."""
    normal: Array
    if isinstance(scores, torch.Tensor):
        distinct, inverse = torch.unique(scores[anomalous], return_inverse=True)
        normal = scores[~anomalous].sort().values
        counts = [torch.searchsorted(normal, distinct, right=right) for right in (False, True)]
        unique, group, below, up_to = map(to_host, (distinct, inverse, *counts))
    else:
        unique, group = np.unique(scores[anomalous], return_inverse=True)
        normal = np.sort(scores[~anomalous])
        below, up_to = np.searchsorted(normal, unique, "left"), np.searchsorted(normal, unique, "right")
    if len(normal) == 0 or len(unique) == 0:
        return None
    group = len(unique) - 1 - group
    return Ranking(
        scores=unique[::-1],
        group=group,
        hits=np.cumsum(np.bincount(group)),
        alarms=len(normal) - below[::-1],
        alarms_above=len(normal) - up_to[::-1],
        normal=normal,
    )


def auroc(ranking: Ranking) -> float:
    # Twice the number of (anomalous, normal) pairs in the right order, ties counting half: exact in integers.
    lower = 2 * len(ranking.normal) - ranking.alarms - ranking.alarms_above
    pairs = int(np.sum(np.diff(ranking.hits, prepend=0) * lower))
    return pairs / (2 * len(ranking.normal) * int(ranking.hits[-1]))


def average_precision(ranking: Ranking) -> float:
    precision = ranking.hits / (ranking.hits + ranking.alarms)
    return float(np.sum(np.diff(ranking.hits, prepend=0) * precision) / ranking.hits[-1])


def f1_max(ranking: Ranking) -> float:
    return float(np.max(2 * ranking.hits / (ranking.hits + ranking.alarms + ranking.hits[-1])))


def recall(ranking: Ranking, false_alarms: float) -> float:
    """Return the share of anomalous elements above the lowest threshold that at most this share of normals is above."""
    # one is above it if no more normal elements than allowed reach its score
    found = ranking.hits[ranking.alarms <= allowed(false_alarms, len(ranking.normal))]
    return float(found[-1] / ranking.hits[-1]) if len(found) else 0.0


def allowed(false_alarms: float, count: int) -> int:
    """Return how many of ``count`` normal elements a share admits: rounded down, but for the error of a product.

    Examples:
        >>> allowed(0.05, 11), allowed(0.29, 100)
        (0, 29)
    """
    return int(false_alarms * count + 1e-9)


def curve(ranking: Ranking, heights: NDArray[np.float64]) -> Curve:
    """List the vertices from (0, 0) to (1, 1) of the curve that reaches heights[k] at the k-th anomalous score."""
    x = np.stack([ranking.alarms_above, ranking.alarms], axis=1).ravel() / len(ranking.normal)
    y = np.stack([np.concatenate([[0.0], heights[:-1]]), heights], axis=1).ravel()
    return np.concatenate([[0.0], x, [1.0]]), np.concatenate([[0.0], y, [1.0]])


def sampled_curve(ranking: Ranking, overlap: NDArray[np.float64]) -> Curve:
    """List the points of the 100-threshold variant, which `evaluate` describes."""
    ranks = np.linspace(0, len(ranking.normal) - 1, SAMPLED_THRESHOLDS, dtype=np.int64)
    thresholds = to_host(ranking.normal[ranks.tolist()])
    above = len(overlap) - np.searchsorted(ranking.scores[::-1], thresholds, "right")
    x, y = 1.0 - (ranks + 1) / len(ranking.normal), np.concatenate([[0.0], overlap])[above]
    return np.concatenate([x[::-1], [1.0]]), np.concatenate([y[::-1], [1.0]])


def area(curve: Curve, limit: float) -> float:
    """Integrate a curve that ends at x = 1 from 0 to the limit, and divide by the limit."""
    x, y = curve
    last = int(np.searchsorted(x, limit, side="right")) - 1
    area = float(np.sum(np.diff(x[: last + 1]) * (y[1 : last + 1] + y[:last]))) / 2
    if x[last] < limit:
        width = limit - x[last]
        slope = (y[last + 1] - y[last]) / (x[last + 1] - x[last])
        area += float(width * (y[last] + slope * width / 2))
    return min(area / limit, 1.0)


def thin(curve: Curve, points: int) -> Curve:
    """Keep vertices at equal steps of |dx| + |dy| along the curve, so that steep and flat parts keep their shape."""
    if not isinstance(points, (int, np.integer)) or points < 2:
        raise CrdkitError(f"points (={points}) must be an integer of at least 2")
    x, y = curve
    length = np.cumsum(np.abs(np.diff(x, prepend=x[0])) + np.abs(np.diff(y, prepend=y[0])))
    _, keep = np.unique(length, return_index=True)
    if len(keep) > points:
        keep = keep[np.unique(np.searchsorted(length[keep], np.linspace(0.0, length[-1], points)))]
    return x[keep], y[keep]


def to_host(array: Array) -> NDArray[Any]:
    return array.cpu().numpy() if isinstance(array, torch.Tensor) else array
