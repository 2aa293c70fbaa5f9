"""The part of a detector that tells good from bad: its thresholds, and how they are set from normal samples."""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

import torch

from crdkit.config.run_config import RunConfig
from crdkit.detector._calibration import calibrate, sets_of_modalities
from crdkit.detector._changes import Changes
from crdkit.detector._engine import Engine
from crdkit.detector._normals import GivenNormals, measure, merged
from crdkit.detector._splits import raw_maps
from crdkit.errors import ConfigError, FewNormalsWarning
from crdkit.model.crd import CRD
from crdkit.scoring.conformal import percent
from crdkit.scoring.scorer import Scorer
from crdkit.scoring.tails import Tail
from crdkit.scoring.thresholds import Modalities, Thresholds
from crdkit.views import View
from crdkit.views.split import LoadedSplit

if TYPE_CHECKING:
    from crdkit.detector.detector import Detector

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Decided:
    """The thresholds that a detector decides with, for samples that lack nothing; it prints those of all others too."""

    false_alarms: float
    """The rate that was asked for."""
    rate: float
    """The one that the thresholds are for: the smallest that the normal samples support, if that is larger."""
    normals: int
    """Normal samples that the image threshold was made from."""
    needed: int
    """How many more would support the rate that was asked for."""
    threshold: float
    pixel_threshold: float | None
    rule: str
    """How the scores of the normal samples came about; see `crdkit.scoring.conformal.RULES`."""
    interval: tuple[float, float] | None
    """The true rate lies between in 90 % of such sets of normal samples; None if extrapolated."""
    extrapolated: bool
    """Whether the threshold is beyond all normal scores, by an exponential tail."""
    tail: Mapping[str, float] | None
    """The extrapolation to the rate that was asked for: threshold, low and high (90 %), used; None if it is supported,
    and for fewer than 10 normal samples."""
    thresholds: Thresholds
    """Of all sets of modalities."""

    @classmethod
    def of(cls, thresholds: Thresholds) -> Decided:
        """Return what there is to say of thresholds."""
        complete = thresholds.complete
        image, pixel = thresholds.images[complete], thresholds.pixels.get(complete)
        return cls(
            false_alarms=image.asked,
            rate=image.rate,
            normals=image.normals,
            needed=image.needed,
            threshold=image.value,
            pixel_threshold=None if pixel is None else pixel.value,
            rule=image.rule,
            interval=image.interval,
            extrapolated=image.extrapolated,
            tail=None if image.tail is None else _tail(image.tail),
            thresholds=thresholds,
        )

    def __str__(self) -> str:
        note = self.thresholds.note()
        return self.thresholds.describe() + (f"\nnote: {note}" if note else "")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for `json.dumps`: the fields, and as ``sets`` the thresholds by modalities."""
        own = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "thresholds"}
        return own | {"sets": [_brief(names, self.thresholds) for names in self.thresholds.images]}


def _tail(found: Tail) -> dict[str, float]:
    low, high = found.interval
    return {"threshold": found.threshold, "low": low, "high": high, "used": found.used}


def _brief(names: Modalities, thresholds: Thresholds) -> dict[str, Any]:
    image, pixel = thresholds.images[names], thresholds.pixels.get(names)
    return {
        "modalities": list(names),
        "threshold": image.value,
        "pixel_threshold": None if pixel is None else pixel.value,
        "rate": image.rate,
        "normals": image.normals,
        "rule": image.rule,
    }


class Decides(ABC):
    """The part of a detector that tells good from bad."""

    config: RunConfig
    model: CRD
    scorer: Scorer
    _changes: Changes
    _thresholds: Thresholds | None
    _set_after: int

    @property
    @abstractmethod
    def views(self) -> Mapping[str, View]:
        """The view of every modality."""

    @abstractmethod
    def _engine(self) -> Engine: ...

    @property
    def thresholds(self) -> Thresholds | None:
        """What predictions are judged by; None if no normal samples are known, or weights were changed since."""
        if self._thresholds is not None and self._changes.count() != self._set_after:
            _logger.warning("the scorer or the model was changed after the thresholds were set: they are dropped")
            self._thresholds = None
        return self._thresholds

    @thresholds.setter
    def thresholds(self, thresholds: Thresholds | None) -> None:
        self._thresholds, self._set_after = thresholds, self._changes.count(model=True)

    def keep_thresholds(self, move: Callable[[], None] = lambda: None) -> Thresholds | None:
        """Look for changed weights, ``move`` them, which is no change, and return the thresholds that are left."""
        self._changes.count(model=True)
        kept = self.thresholds
        move()
        self._changes.moved()
        return kept

    def thresholds_for(self, config: RunConfig) -> Thresholds | None:
        """Return the thresholds for a run with the same weights, where its scoring has the same maps and scores."""
        here, there = _scoring(self.config), _scoring(config)
        if self.thresholds is None or here != there:
            return None
        rate = config.scoring.false_alarms
        return self.thresholds if rate == self.config.scoring.false_alarms else self.thresholds.at(rate)

    @torch.no_grad()
    def calibrate(self, normals: LoadedSplit) -> None:
        """Fit the scorer to anomaly-free samples, and set thresholds for ``scoring.false_alarms`` by cross-fitting.

        Samples that lack a modality are left out. Each of the others is scored by a scorer that was fitted without it:
        to all others up to 25 samples (jackknife), else to those of nine in ten folds. With ``modality_dropout`` each
        is also scored without some of its sensors, for a threshold of every set of modalities, 16 at most.

        Raises:
            CrdkitError: a map is not finite.
        """
        engine, normals = self._engine(), normals.complete()
        options = self.config.training
        sets = sets_of_modalities(self.views, spares=options.modality_dropout > 0)
        self.thresholds = calibrate(
            engine,
            normals,
            raw_maps(engine, normals, batch_size=options.batch_size),
            sets=sets,
            batch_size=options.batch_size,
            false_alarms=self.config.scoring.false_alarms,
        )

    def decide(
        self,
        false_alarms: float = 0.01,
        normals: GivenNormals | None = None,
        extrapolate: bool = False,
        *,
        add: bool = False,
    ) -> Decided:
        """Set the image and pixel thresholds for a wanted rate of false alarms; nothing is trained.

        Predictions are judged by them from now on, and `save` writes them.

        Args:
            false_alarms: the share of normal samples that may be called anomalous, above 0 and at most 0.5. If the
                normal samples do not support it (n of them support 1/(n + 1)), the smallest that they do is taken.
            normals: normal samples that were neither trained nor calibrated on, instead of those that the detector has
                kept: samples as `predict` takes them, predictions of this detector, or image scores of samples that
                lack nothing, which leave the pixel thresholds to the kept ones. With ``training.modality_dropout``
                samples also count without some of their sensors. Sets of modalities that none of them has keep theirs.
                None: those that are kept.
            extrapolate: where the rate is not supported, take a threshold from an exponential tail, from 10 samples on.
            add: add ``normals`` to the kept ones: only if both are from the same process.

        Raises:
            ConfigError: the rate is not allowed, or there are no normal samples.
            DataError: a normal sample cannot be used; the message gives its place.

        Warns:
            FewNormalsWarning: the rate is not supported; the message says how many more normal samples it needs.
        """
        if isinstance(false_alarms, (bool, str)) or not 0 < false_alarms <= 0.5:
            raise ConfigError(f"false_alarms (={false_alarms!r}) must be a rate above 0 and at most 0.5, e.g. 0.01")
        known = self.thresholds
        if normals is not None:
            found = measure(cast("Detector", self), normals)
            known = merged(known, found, add=add)
        if known is None or not known.scores:
            raise ConfigError("this detector has no normal samples to set thresholds from; give some (normals=...)")
        self.thresholds = known.at(float(false_alarms), extrapolate=extrapolate)
        decided = Decided.of(self.thresholds)
        if note := self.thresholds.note():
            taken = "the extrapolated threshold" if decided.extrapolated else percent(decided.rate)
            warnings.warn(f"{note}; {taken} is taken", FewNormalsWarning, stacklevel=2)
        return decided


def _scoring(config: RunConfig) -> tuple[Any, ...]:
    """Return the options that decide how maps are fused and scored."""
    scoring = config.scoring.model_dump(exclude={"false_alarms", "sampled_thresholds"})
    return config.aggregation.model_dump(), scoring, config.data.image_size
