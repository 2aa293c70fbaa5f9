"""Normal samples that are given later: their scores, and the peaks of their maps, by the modalities that are seen."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from crdkit._core.parallel import in_order
from crdkit.detector._calibration import sets_of_modalities
from crdkit.detector._inputs import SensorData
from crdkit.detector._samples import PreparedSample
from crdkit.detector.prediction import Prediction
from crdkit.errors import DataError
from crdkit.scoring.conformal import Normals
from crdkit.scoring.thresholds import DEFAULT_RATE, Modalities, Thresholds

if TYPE_CHECKING:
    from crdkit.detector.detector import Detector

GivenNormals: TypeAlias = (
    "Iterable[Mapping[str, SensorData] | PreparedSample] | Iterable[Prediction] | Iterable[float] | np.ndarray"
)
"""Normal samples as `Detector.decide` takes them: sensors, prepared or not, predictions, or scores."""


@dataclass
class Measured:
    """What is known of normal samples."""

    scores: dict[Modalities, list[float]] = field(default_factory=dict)
    peaks: dict[Modalities, list[float]] = field(default_factory=dict)
    """Empty if only scores were given."""
    sha256: str = ""

    def add(self, modalities: Modalities, score: float, peak: float) -> None:
        """Add a sample."""
        self.scores.setdefault(modalities, []).append(score)
        self.peaks.setdefault(modalities, []).append(peak)


def measure(detector: Detector, given: GivenNormals) -> Measured:
    """Return what ``detector`` finds in normal samples, also without some of their sensors where those may be missing.

    Raises:
        DataError: there are none, they are of several kinds, or one cannot be used; the message gives its place.
    """
    if isinstance(given, (str, bytes, Mapping, Prediction, Real)) or not isinstance(given, Iterable):
        raise DataError(
            f"normals: expected several samples, predictions or scores in a list, found {type(given).__name__}"
        )
    items = iter(given if getattr(given, "ndim", 1) else ())
    first = next(items, None)
    if first is None:
        raise DataError("normals: there are none; give normal samples, their predictions or their scores")
    all_items = chain([first], items)
    if isinstance(first, (Mapping, PreparedSample)):
        return _of_samples(detector, all_items)
    if isinstance(first, Prediction):
        return _of_predictions(detector, all_items)
    return _of_scores(detector, all_items)


def merged(known: Thresholds | None, found: Measured, *, add: bool) -> Thresholds:
    """Return thresholds from samples that fitted nothing, at the rate of those that are ``known``.

    Args:
        known: those of before; what ``found`` does not have stays theirs.
        found: of the new samples.
        add: keep the known samples beside the new ones, instead of replacing them.
    """
    if known is None:
        known = Thresholds(scores={}, peaks={}, false_alarms=DEFAULT_RATE)
    scores, peaks = dict(known.scores), dict(known.peaks)
    for kept, values in ((scores, found.scores), (peaks, found.peaks)):
        for names, new in values.items():
            normals = Normals(new, rule="split")
            kept[names] = kept[names].joined(normals) if add and names in kept else normals
    together = hashlib.sha256(f"{known.sha256} {found.sha256}".encode()).hexdigest()
    replaced = not add and scores.keys() == found.scores.keys() and peaks.keys() == found.peaks.keys()
    return Thresholds(
        scores=scores,
        peaks=peaks,
        false_alarms=known.false_alarms,
        sha256=found.sha256 if replaced else together,
    )


def _of_scores(detector: Detector, given: Iterable[Any]) -> Measured:
    scores = []
    for place, score in enumerate(given):
        value = score.item() if isinstance(score, (np.generic, np.ndarray, torch.Tensor)) and _is_one(score) else score
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise DataError(f"normals: {_kind(value)} at place {place}; expected finite scores, all of them numbers")
        scores.append(float(value))
    return Measured(scores={tuple(detector.views): scores}, sha256=_sha256_of(scores))


def _of_predictions(detector: Detector, given: Iterable[Any]) -> Measured:
    found, names = Measured(), tuple(detector.views)
    for place, prediction in enumerate(given):
        if not isinstance(prediction, Prediction):
            raise DataError(f"normals: {_kind(prediction)} at place {place}; expected predictions, all of them")
        if not set(prediction.missing) < set(names) or set(prediction.maps) != set(names) - set(prediction.missing):
            raise DataError(
                f"normals: the prediction at place {place} is of another detector: it has maps of "
                f"{sorted(prediction.maps)}, and this one's modalities are {list(names)}"
            )
        seen = tuple(name for name in names if name not in prediction.missing)
        found.add(seen, float(prediction.score), float(prediction.anomaly_map.max()))
    found.sha256 = _sha256_of([[*names, found.scores[names], found.peaks[names]] for names in found.scores])
    return found


def _of_samples(detector: Detector, given: Iterable[Any]) -> Measured:
    found, digest = Measured(), hashlib.sha256()
    sets = sets_of_modalities(detector.views, spares=detector.config.training.modality_dropout > 0)
    with closing(in_order(_Prepare(detector), enumerate(given), workers=None)) as prepared:
        while batch := list(islice(prepared, detector.config.training.batch_size)):
            for sample in batch:
                for name, view in sample.views.items():
                    digest.update(name.encode() + view.contiguous().numpy().tobytes())
            for seen in sets:
                shown = list(_only(batch, seen, detector))
                for prediction in detector.predict_prepared(shown):
                    found.add(seen, prediction.score, float(prediction.anomaly_map.max()))
    found.sha256 = digest.hexdigest()
    return found


class _Prepare:
    """Prepares samples in threads."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def __call__(self, numbered: tuple[int, Any]) -> PreparedSample:
        place, sample = numbered
        if isinstance(sample, PreparedSample):
            return sample
        if not isinstance(sample, Mapping):
            raise DataError(f"normals: {_kind(sample)} at place {place}; expected samples, all of them")
        try:
            return self._detector.prepare(sample, name=f"normal sample {place}")
        except DataError as error:
            raise DataError(f"normal sample {place}: {error}") from error


def _only(batch: Sequence[PreparedSample], seen: Modalities, detector: Detector) -> Iterator[PreparedSample]:
    """Yield the samples that have all of ``seen``, without the rest, at the size of the detector's maps."""
    size, missing = detector.config.data.image_size, tuple(name for name in detector.views if name not in seen)
    for sample in batch:
        if all(name in sample.views for name in seen):
            views = {name: sample.views[name] for name in seen}
            yield replace(sample, views=views, missing=missing, height=size, width=size)


def _is_one(value: np.generic | np.ndarray | torch.Tensor) -> bool:
    return (value.numel() if isinstance(value, torch.Tensor) else value.size) == 1


def _kind(value: object) -> str:
    return repr(value) if isinstance(value, Real) else type(value).__name__


def _sha256_of(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
