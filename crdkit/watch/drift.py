"""Whether what arrives is still like what a detector was calibrated on: exact tests on the last samples.

Scores are compared with those of the normal samples that set the threshold, sensors with the ranges that a detector
keeps of its training. Both tests are of samples that are exchangeable under the hypothesis, whatever their
distribution, and say how often they would be wrong.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from crdkit.data.statistics import SensorStatistics, SensorSummary

LEVEL = 0.001
"""Of every test: how often it warns although nothing has moved."""
WINDOW = 100
"""Samples that a test looks back on."""
FEWEST = 20
"""Samples before the first test."""
EVERY = 10
"""New samples between two tests."""
_SIDES = (  # as `beyond` counts them
    "fewer measured pixels",
    "a lower 5 % quantile",
    "a higher 95 % quantile",
    "a narrower range",
    "a wider range",
    "smaller values",
    "larger values",
)


class Moved(NamedTuple):
    """The outcome of a test."""

    p_value: float
    level: float
    samples: int
    """New ones that were looked at."""
    detail: str
    """What was found, in words."""

    @property
    def is_moved(self) -> bool:
        """Whether the warning is given."""
        return self.p_value <= self.level


def compare_scores(normals: Sequence[float], scores: Sequence[float], *, threshold: float) -> Moved:
    """Compare the scores that passed with those of the calibration, by Kolmogorov and Smirnov's test of two samples.

    Both are cut off below the threshold, so that alarms, which may be defects, do not count.

    Args:
        normals: of the calibration.
        scores: of the last samples.
        threshold: what is above raises an alarm.

    Examples:
        >>> calm = [place / 50 for place in range(50)]
        >>> compare_scores(calm, calm, threshold=2.0).is_moved
        False
        >>> compare_scores(calm, [0.9 + score / 20 for score in calm], threshold=2.0).detail
        'their median is 0.924, that of the calibration 0.48'
    """
    from scipy.stats import ks_2samp

    before = [score for score in normals if score < threshold]
    passed = [score for score in scores if score < threshold]
    if not before or not passed:
        return Moved(1.0, LEVEL, len(passed), "too few scores below the threshold to compare")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it falls back to the asymptotic distribution by itself
        p_value = float(ks_2samp(before, passed, method="exact" if len(before) <= 10_000 else "asymp").pvalue)
    medians = (f"{sorted(values)[(len(values) - 1) // 2]:.4g}" for values in (passed, before))
    detail = "their median is {}, that of the calibration {}".format(*medians)
    return Moved(p_value, LEVEL, len(passed), detail)


def beyond(statistics: SensorStatistics, found: Mapping[str, float]) -> tuple[bool, ...]:
    """Return on which sides a sample's sensor lies beyond all training samples.

    Args:
        statistics: of the training.
        found: `numbers` of the sample.
    """
    return (
        found["measured"] < statistics.measured,
        found["low"] < statistics.low,
        found["high"] > statistics.high,
        found["high"] - found["low"] < statistics.spread[0],
        found["high"] - found["low"] > statistics.spread[1],
        found["magnitude"] < statistics.magnitude[0],
        found["magnitude"] > statistics.magnitude[1],
    )


def numbers(summary: SensorSummary) -> dict[str, float]:
    """Return what `beyond` looks at, as plain values."""
    return {name: float(getattr(summary, name)) for name in ("measured", "low", "high", "magnitude")}


def compare_ranges(trained: int, sides: Sequence[Sequence[bool]]) -> Moved:
    """Say whether more samples lie beyond the range of the training than chance allows.

    Of m new samples, k or more exceed the highest of n earlier ones with a probability of C(m, k) / C(n + m, k), since
    all orders are equally likely (tests of exceedances; Gumbel and von Schelling, Annals of Mathematical Statistics,
    1950). The level is shared out among the sides that are looked at.

    Args:
        trained: n, the number of training samples.
        sides: `beyond`, of the last samples.

    Examples:
        >>> inside, outside = (False,) * 7, (False, False, True) + (False,) * 4
        >>> compare_ranges(50, [inside] * 99 + [outside]).is_moved
        False
        >>> found = compare_ranges(50, [inside] * 50 + [outside] * 50)
        >>> found.is_moved, found.detail
        (True, '50 of 100 have a higher 95 % quantile than any of the 50 training samples')
    """
    counts = [sum(column) for column in zip(*sides, strict=True)]
    most = max(range(len(counts)), key=lambda side: counts[side])
    p_value = exceedance(trained, len(sides), counts[most])
    detail = f"{counts[most]} of {len(sides)} have {_SIDES[most]} than any of the {trained} training samples"
    return Moved(p_value, LEVEL / len(counts), len(sides), detail if counts[most] else "all within its range")


def exceedance(before: int, after: int, count: int) -> float:
    """Return the probability that ``count`` or more of ``after`` new samples exceed the highest of ``before``.

    Examples:
        >>> exceedance(1, 1, 1), exceedance(9, 1, 1), exceedance(5, 3, 0)
        (0.5, 0.1, 1.0)
    """
    return math.comb(after, count) / math.comb(before + after, count)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What later samples are compared with.

    Examples:
        >>> Calibration(normals=(0.1, 0.4, 0.2), threshold=0.4, rate=0.25, sensors={}).threshold
        0.4
    """

    normals: tuple[float, ...]
    """Scores of the normal samples with all modalities; empty without thresholds."""
    threshold: float | None
    rate: float | None
    """Of false alarms, for which the threshold is."""
    sensors: Mapping[str, SensorStatistics]


class Drift:
    """The tests, on the last samples only.

    Args:
        calibration: what they are compared with.

    Examples:
        >>> normals = tuple(place / 50 for place in range(50))
        >>> drift = Drift(Calibration(normals=normals, threshold=0.98, rate=0.02, sensors={}))
        >>> for _ in range(20):
        ...     drift.add(0.9, {}, complete=True)
        >>> drift.warnings()  # doctest: +ELLIPSIS
        ['The scores of good samples have moved: their median is 0.9, that of the calibration 0.48 (20 samples, ...).']
    """

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration
        self._scores: deque[float] = deque(maxlen=WINDOW)
        self._sides: dict[str, deque[tuple[bool, ...]]] = {name: deque(maxlen=WINDOW) for name in calibration.sensors}
        self._labels: deque[bool] = deque(maxlen=WINDOW)
        self._since = 0
        self.scores: Moved | None = None
        """The last test of the scores; None before the first."""
        self.sensors: dict[str, Moved] = {}
        """The last test of each sensor."""

    @property
    def window(self) -> list[float]:
        """Return the last scores that passed."""
        return list(self._scores)

    def add(
        self, score: float, sensors: Mapping[str, Mapping[str, float]], *, complete: bool, test: bool = True
    ) -> None:
        """Take one more sample, and test if it is time.

        Args:
            score: of the sample.
            sensors: `numbers` of each of its sensors.
            complete: whether it had all sensors; scores without one are others.
            test: whether there may be a test; without, `test` has to be called at the end.
        """
        threshold = self._calibration.threshold
        if threshold is not None:
            self._labels.append(score > threshold)
        if threshold is not None and complete and score < threshold:
            self._scores.append(score)
        for name, found in sensors.items():
            if name in self._sides:
                self._sides[name].append(beyond(self._calibration.sensors[name], found))
        self._since += 1
        if test and self._since >= EVERY:
            self.test()

    def test(self) -> None:
        """Test the last samples, if there are enough."""
        self._since = 0
        threshold = self._calibration.threshold
        if threshold is not None and len(self._scores) >= FEWEST:
            self.scores = compare_scores(self._calibration.normals, self._scores, threshold=threshold)
        for name, sides in self._sides.items():
            if len(sides) >= FEWEST:
                self.sensors[name] = compare_ranges(self._calibration.sensors[name].samples, sides)

    @property
    def share_of_alarms(self) -> tuple[int, int]:
        """How many of the last samples raised an alarm, and how many those are."""
        return sum(self._labels), len(self._labels)

    def warnings(self) -> list[str]:
        """Return what has moved, in words; empty if nothing has."""
        alarms, judged = self.share_of_alarms
        texts = {
            "alarms": f"{alarms} of the last {judged} samples raised an alarm: look at the sensors and the fixture.",
            "scores": f"The scores of good samples have moved: {self.scores and _in_words(self.scores)}.",
            **{
                f"sensor {name}": f"Sensor {name!r} has moved: {_in_words(moved)}."
                for name, moved in self.sensors.items()
            },
        }
        return [texts[name] for name in self.moved()]

    def moved(self) -> tuple[str, ...]:
        """Return the names of what has moved: "alarms", "scores", sensors."""
        alarms, judged = self.share_of_alarms
        found = ["alarms"] if judged >= FEWEST and 2 * alarms > judged else []
        found += ["scores"] if self.scores is not None and self.scores.is_moved else []
        return (*found, *(f"sensor {name}" for name, moved in self.sensors.items() if moved.is_moved))


def _in_words(found: Moved) -> str:
    return f"{found.detail} ({found.samples} samples, p {found.p_value:.2g}, level {found.level:.2g})"
