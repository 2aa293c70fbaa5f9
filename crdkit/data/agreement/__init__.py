"""Whether the edges of two sensors lie on each other, measured over the normal samples of a dataset that is checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from crdkit.data import Dataset, RawSample, SampleRecord
from crdkit.data.agreement._edges import REACH, correlation, edge_map, reduction, spectrum
from crdkit.data.findings import Finding

ENOUGH = 4
"""Samples without which nothing is said."""
TOLERATED = 0.01
"""Shift that nothing is said about, of the longer side of the images; one of a pixel is never told."""
_FAINTEST = 0.1  # correlation of edges that have to do with each other
_SLOPE = 3  # pixels at the border of what is tried, where a peak may be a slope towards one that lies beyond
_SURE = 4.0  # standard errors by which the edges agree better when moved
_MOST_IN_PAIRS = 4  # sensors up to which each is compared with each; more are compared with the first

Pair = tuple[str, str]
Size = tuple[int, int]
_Surfaces = Mapping[Pair, tuple[np.ndarray, Size]]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How the edges of two sensors lie on each other.

    Examples:
        >>> pair = {"first": "rgb", "second": "xyz", "agreement": 0.44, "unmoved": 0.31, "samples": 20, "size": 256}
        >>> found = Agreement(shift=(4, 0), certain=True, **pair)
        >>> found.is_shifted
        True
    """

    first: str
    second: str
    shift: tuple[int, int]
    """Pixels down and right by which the second sensor lies away from the first, where their edges agree best."""
    agreement: float
    """Correlation of the edges there, averaged over the samples: 1 if they are the same."""
    unmoved: float
    """Correlation as the sensors are."""
    samples: int
    certain: bool
    """Whether nearly every sample agrees better there, by far more than they differ."""
    size: int
    """Longer side of the images, pixels."""

    @property
    def is_shifted(self) -> bool:
        """Whether the sensors surely lie apart: by more than a pixel, and than `TOLERATED` of the longer side."""
        return self.certain and not self._is_small

    @property
    def _is_small(self) -> bool:
        return max(map(abs, self.shift)) <= max(TOLERATED * self.size, 1)

    def in_words(self) -> str:
        """Return it as a sentence.

        Examples:
            >>> pair = {"first": "rgb", "second": "xyz", "agreement": 0.44, "unmoved": 0.31, "samples": 20, "size": 256}
            >>> print(Agreement(shift=(1, 0), certain=True, **pair).in_words())
            the edges of 'rgb' and 'xyz' lie on each other (20 samples, correlation 0.31)
        """
        both = f"the edges of {self.first!r} and {self.second!r}"
        if not self.is_shifted:
            known = self._is_small and self.unmoved >= _FAINTEST
            said = "lie on each other" if known else "do not say whether these sensors lie on each other"
            return f"{both} {said} ({self.samples} samples, correlation {self.unmoved:.2f})"
        down, right = self.shift
        return (
            f"sensor {self.second!r} lies {abs(down)} pixels {'below' if down >= 0 else 'above'} and {abs(right)} "
            f"{'right' if right >= 0 else 'left'} of {self.first!r}: there the edges of {self.samples} samples agree "
            f"best, {self.agreement:.2f} instead of {self.unmoved:.2f}"
        )


class EdgeAgreement:
    """Measures how well the edges of sensors agree; for `crdkit.data.check.check_dataset`.

    For every normal training sample the edges of two sensors are correlated over all shifts of up to 16 pixels (of
    images of up to 320 pixels a side). The sum over the samples has its peak where the sensors lie on each other.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from crdkit.data.check import check_dataset
        >>> from crdkit.data.adapters.mvtec3d import MVTec3D
        >>> from crdkit.data.synthetic import write_mvtec3d
        >>> edges = EdgeAgreement()
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = write_mvtec3d(Path(scratch, "scans"), categories=["gear"], train=4, test_per_defect=0, size=64)
        ...     found = check_dataset(MVTec3D(MVTec3D.Config(root=root, category="gear")), look=edges)
        >>> [(pair.first, pair.second, pair.shift) for pair in edges.found]
        [('rgb', 'xyz', (0, 0))]
    """

    def __init__(self) -> None:
        self.found: Sequence[Agreement] = ()
        """After `findings`: of every pair of sensors that could be compared."""
        self._first: SampleRecord | None = None

    def sample(self, sample: RawSample) -> _Surfaces:
        """Return the correlations of one sample's sensors, and the size of their images; none but of training."""
        if sample.record.split != "train":
            return {}
        edges = _edges_of(sample)
        spectra = {name: spectrum(found) for name, found in edges.items()}
        height, width = next(iter(sample.sensors.values())).shape[:2]
        return {
            (first, second): (correlation(spectra[first], spectra[second], shape=edges[first].shape), (height, width))
            for first, second in _pairs(edges)
        }

    def findings(self, dataset: Dataset, kept: Sequence[tuple[SampleRecord, _Surfaces]]) -> Iterator[Finding]:
        """Iterate over a warning for each pair of sensors that surely lie apart."""
        by_pair: dict[Pair, list[tuple[np.ndarray, Size]]] = {}
        for record, surfaces in kept:
            self._first = self._first or (record if surfaces else None)
            for pair, found in surfaces.items():
                by_pair.setdefault(pair, []).append(found)
        self.found = [measure_shift(pair, several) for pair, several in by_pair.items()]
        for agreement in self.found:
            if self._first is not None and agreement.is_shifted:
                path = self._first.files.get(agreement.second, self._first.image_path)
                registered = dataset.config.registration is not None
                yield Finding(severity="warning", path=path, message=_remedy(agreement, registered=registered))

    def pictures(self, dataset: Dataset) -> dict[str, np.ndarray]:
        """Return a picture of each pair of sensors of the first sample: (h, w, 3) uint8 by ``<first>-<second>``.

        Edges of the first sensor are red, those of the second cyan, and white where they agree. If the sensors lie
        apart, the same follows on the right with the second one moved back.
        """
        if self._first is None:
            return {}
        edges = _edges_of(dataset.read(self._first))
        return {
            f"{pair.first}-{pair.second}": _overlay(edges[pair.first], edges[pair.second], pair)
            for pair in self.found
            if pair.first in edges and pair.second in edges
        }


def measure_shift(pair: Pair, samples: Sequence[tuple[np.ndarray, Size]]) -> Agreement:
    """Return how two sensors lie on each other, from the correlations of several samples and their sizes."""
    surfaces = np.stack([surface for surface, _ in samples])
    mean = surfaces.mean(axis=0)
    row, column = np.unravel_index(mean.argmax(), mean.shape)
    down, right = int(row) - REACH, int(column) - REACH
    gains = surfaces[:, row, column] - surfaces[:, REACH, REACH]
    error = float(gains.std(ddof=1)) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    certain = (
        len(gains) >= ENOUGH
        and mean.max() >= _FAINTEST
        and max(abs(down), abs(right)) <= REACH - _SLOPE
        and float(gains.mean()) > _SURE * error
        and float((gains > 0).mean()) >= 0.9
    )
    size = max(max(size) for _, size in samples)
    factor = reduction((size,))
    return Agreement(
        first=pair[0],
        second=pair[1],
        shift=(down * factor, right * factor),
        agreement=float(mean[row, column]),
        unmoved=float(mean[REACH, REACH]),
        samples=len(gains),
        certain=bool(certain),
        size=size,
    )


def _edges_of(sample: RawSample) -> dict[str, np.ndarray]:
    """Return the edges of each sensor that sees some; of those that one file serves, of the first."""
    record = sample.record
    by_origin: dict[str, str] = {}
    for name in sample.sensors:
        by_origin.setdefault(f"{record.files.get(name, name)}{record.parts.get(name, '')}", name)
    return {name: edges for name in by_origin.values() if (edges := edge_map(sample.sensors[name])) is not None}


def _pairs(sensors: Iterable[str]) -> list[Pair]:
    first, *others = names = [*sensors] or [""]
    return [*combinations(names, 2)] if len(names) <= _MOST_IN_PAIRS else [(first, name) for name in others]


def _remedy(found: Agreement, *, registered: bool) -> str:
    down, right = found.shift
    move = f"{{method: affine, matrix: [[1, 0, {-right}], [0, 1, {-down}]]}}"
    remedy = f"move it back with data.registration={{reference: {found.first}, sensors: {{{found.second}: {move}}}}}"
    remedy = "correct data.registration" if registered else remedy
    return f"{found.in_words()}; look at the pictures that --out FOLDER writes, and {remedy}"


def _overlay(first: np.ndarray, second: np.ndarray, found: Agreement) -> np.ndarray:
    panels = [second]
    if found.is_shifted:
        down, right = (pixels // reduction((found.size,)) for pixels in found.shift)
        panels.append(np.roll(second, (-down, -right), axis=(0, 1)))
    shown = np.hstack([np.stack([first, panel, panel], axis=-1) for panel in panels])
    return np.asarray(np.rint(255 * shown), dtype=np.uint8)
