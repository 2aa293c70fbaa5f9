"""From a mask to its regions: where they are, how high they reach, and which modality is most surprised there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, kw_only=True)
class Region:
    """A connected part of a mask, found by `find_regions`; all places are pixels of the input.

    Examples:
        >>> Region(box=(4, 10, 9, 16), area=21, peak=(6, 12), score=3.5, modality="rgb").to_dict()
        {'box': [4, 10, 9, 16], 'area': 21, 'peak': [6, 12], 'score': 3.5, 'modality': 'rgb'}
    """

    box: tuple[int, int, int, int]
    """(top, left, bottom, right), half-open as slices are: ``map[top:bottom, left:right]`` holds all of it."""
    area: int
    """Number of pixels."""
    peak: tuple[int, int]
    """(row, column) of its highest value in the fused map; of equal ones the first in reading order."""
    score: float
    """The fused map's value at the peak."""
    modality: str
    """The modality that is most surprised, on the mean over the region."""

    def inside(self, mask: ArrayLike) -> NDArray[np.bool_]:
        """Return the (H, W) mask of this region alone.

        Args:
            mask: the (H, W) mask that it was found in.

        Examples:
            >>> mask = np.array([[1, 0, 1, 1]], dtype=bool)
            >>> (largest, _) = find_regions(mask, mask * [1.0, 0.0, 2.0, 3.0], {"rgb": mask})
            >>> largest.inside(mask)
            array([[False, False,  True,  True]])
        """
        from scipy import ndimage

        top, left, bottom, right = self.box
        found = np.asarray(mask, dtype=bool)
        labels, _ = ndimage.label(found[top:bottom, left:right], structure=EIGHT_NEIGHBOURS)
        alone = np.zeros_like(found)
        alone[top:bottom, left:right] = labels == labels[self.peak[0] - top, self.peak[1] - left]
        return alone

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for `json.dumps`."""
        return {
            "box": list(self.box),
            "area": self.area,
            "peak": list(self.peak),
            "score": self.score,
            "modality": self.modality,
        }


def find_regions(mask: ArrayLike, anomaly_map: ArrayLike, surprise: Mapping[str, ArrayLike]) -> list[Region]:
    """Return the 8-connected regions of a mask, the highest first; of an empty mask none, at once.

    A region's modality is the one whose surprise has the largest *mean* over it: one pixel of a noisy branch can be
    its highest, but it seldom lifts a whole region.

    Args:
        mask: (H, W), true where the map is anomalous.
        anomaly_map: (H, W), the fused map.
        surprise: by modality, (H, W): how unusual it is, in the unit in which the modalities are fused
            (`Aggregation.surprise`).

    Examples:
        >>> mask = np.array([[1, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
        >>> fused = np.array([[4.0, 5.0, 0.0, 0.0], [0.0, 0.0, 0.0, 7.0]])
        >>> surprise = {"rgb": np.full((2, 4), 2.0), "depth": 4.0 * (fused == 7)}
        >>> for region in find_regions(mask, fused, surprise):
        ...     print(region.box, region.area, region.peak, region.score, region.modality)
        (1, 3, 2, 4) 1 (1, 3) 7.0 depth
        (0, 0, 1, 2) 2 (0, 1) 5.0 rgb
    """
    from scipy import ndimage

    mask = np.asarray(mask, dtype=bool)
    held = np.flatnonzero(mask.any(axis=1))
    if not len(held):
        return []
    first = int(held[0])  # only the rows that hold something are labelled
    labels, count = ndimage.label(mask[first : held[-1] + 1], structure=EIGHT_NEIGHBOURS)
    rows, columns = np.nonzero(labels)
    ids = labels[rows, columns] - 1
    rows = rows + first
    order = np.argsort(ids, kind="stable")  # region by region, each in reading order
    ids, rows, columns = ids[order], rows[order], columns[order]
    starts = np.searchsorted(ids, np.arange(count))
    areas = np.bincount(ids, minlength=count)
    values = np.asarray(anomaly_map)[rows, columns]
    highest = np.maximum.reduceat(values, starts)
    at_top = np.flatnonzero(values == highest[ids])
    peaks = at_top[np.searchsorted(ids[at_top], np.arange(count))]
    tops, lefts = (np.minimum.reduceat(places, starts).tolist() for places in (rows, columns))
    bottoms, rights = ((np.maximum.reduceat(places, starts) + 1).tolist() for places in (rows, columns))
    names = list(surprise)
    sums = [np.bincount(ids, np.asarray(surprise[name])[rows, columns], count) for name in names]
    strongest = np.argmax(sums, axis=0)
    found = [
        Region(
            box=(tops[index], lefts[index], bottoms[index], rights[index]),
            area=int(areas[index]),
            peak=(int(rows[peaks[index]]), int(columns[peaks[index]])),
            score=float(highest[index]),
            modality=names[strongest[index]],
        )
        for index in range(count)
    ]
    return sorted(found, key=lambda region: -region.score)
