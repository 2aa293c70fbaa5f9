"""The metrics of a stack of images at many sets of integer weights of the images, from one sort.

A resample with replacement is a weight per image: how often it was drawn. Its metrics are those of a stack in which
each image stands as often. Scores do not change, so nothing is sorted again: every element keeps its place among the
distinct anomalous scores, and the counts at these are sums of the images' counts, weighted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crdkit.scoring._ranking import Ranking

Weights = NDArray[np.float64]
_AT_ONCE = 16  # sets of weights; more save no time, and each holds three arrays as long as the distinct scores


class WeightedRanking:
    """Rankings of the elements of N images for any weights of the images.

    Args:
        scores: (E,) of all elements.
        anomalous: (E,) bool.
        image: (E,) the image of each element.
        images: N.
        region_shares: (P,) for each anomalous element 1 / the size of its region; None: no region overlap.
    """

    def __init__(
        self,
        scores: NDArray[Any],
        anomalous: NDArray[np.bool_],
        image: NDArray[np.int64],
        *,
        images: int,
        region_shares: NDArray[np.float64] | None = None,
    ) -> None:
        unique, group = np.unique(scores[anomalous], return_inverse=True)
        normal = scores[~anomalous]
        self._count = len(unique)
        self._scores = unique[::-1]
        # of 2K + 1 places from the highest down: even ones between two distinct scores, odd ones tie with a score
        place = 2 * self._count - (np.searchsorted(unique, normal, "left") + np.searchsorted(unique, normal, "right"))
        group = self._count - 1 - group
        self._normal = _table(place, image[~anomalous], (2 * self._count + 1, images))
        self._hits = _table(group, image[anomalous], (self._count, images))
        self._shares = None
        if region_shares is not None:
            self._shares = _table(group, image[anomalous], (self._count, images), region_shares)

    def at(self, weights: Weights) -> Iterator[tuple[Ranking, NDArray[np.float64] | None] | None]:
        """Yield the ranking and the mean region overlap (K,) for each row of weights (R, N); None with one class."""
        for first in range(0, len(weights), _AT_ONCE):
            chosen = np.ascontiguousarray(weights[first : first + _AT_ONCE].T)
            alarms = np.cumsum(self._normal @ chosen, axis=0)
            hits = np.cumsum(self._hits @ chosen, axis=0)
            overlap = None if self._shares is None else np.cumsum(self._shares @ chosen, axis=0)
            for row in range(chosen.shape[1]):
                kept = np.flatnonzero(np.diff(hits[:, row], prepend=0))  # the distinct scores that were drawn
                if not len(kept) or not alarms[-1, row]:
                    yield None
                    continue
                heights = None if overlap is None else overlap[kept, row] / overlap[-1, row]
                yield self._ranking(alarms[:, row], hits[:, row], kept), heights

    def _ranking(self, alarms: Weights, hits: Weights, kept: NDArray[np.int64]) -> Ranking:
        counts = alarms.astype(np.int64)
        return Ranking(
            scores=self._scores[kept],
            group=np.empty(0, np.int64),  # nothing reads it
            hits=hits[kept].astype(np.int64),
            alarms=counts[2 * kept + 1],
            alarms_above=counts[2 * kept],
            normal=np.broadcast_to(np.float32(0), (int(counts[-1]),)),  # only its length is read
        )


def _table(rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int], values: Any = None) -> Any:
    """Count the elements at each (place, image), or add up their values, as a sparse matrix."""
    from scipy.sparse import coo_array

    amounts = np.ones(len(rows)) if values is None else values
    return coo_array((amounts, (rows.astype(np.int32), columns.astype(np.int32))), shape=shape).tocsr()
