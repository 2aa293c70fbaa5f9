"""Split-conformal thresholds: what scores of normal samples say about a wanted rate of false alarms."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from crdkit.scoring.tails import Tail, exponential_tail

Rule = Literal["split", "cross-fitting", "jackknife", "mixed", "in-sample"]
"""How normal scores came about; `RULES` says it in words."""
RULES: Mapping[str, str] = {
    "split": "split-conformal: they fitted nothing",
    "cross-fitting": "cross-fitting: each was scored by a fit on other samples",
    "jackknife": "jackknife: each was scored by a fit on all others",
    "mixed": "mixed: some by cross-fitting, some fitted nothing",
    "in-sample": "in-sample: they also fitted how maps are fused, so the true rate can be higher",
}
_EXACT = 1e-9  # a rate of 0.05 is one of 20


def smallest_rate(count: int) -> float:
    """Return the smallest rate of false alarms that ``count`` normal samples support."""
    return 1 / (count + 1)


def normals_needed(rate: float) -> int:
    """Return how many normal samples support a rate of false alarms.

    Examples:
        >>> normals_needed(0.01), normals_needed(0.05)
        (99, 19)
    """
    return math.ceil(1 / rate - _EXACT) - 1


def allowed_above(count: int, rate: float) -> int:
    """Return how many of ``count`` + 1 exchangeable samples may score above a threshold; 0 if none: not supported.

    The threshold is the k-th smallest of ``count`` normal scores, k = ceil((count + 1) (1 - rate)) = count + 1 minus
    this number (Vovk et al., "Algorithmic Learning in a Random World", 2005; Bates et al., "Testing for outliers with
    conformal p-values", Annals of Statistics, 2023).
    """
    return math.floor((count + 1) * rate * (1 + _EXACT))


def true_rate_interval(count: int, rate: float, *, share: float = 0.9) -> tuple[float, float]:
    """Return between which rates the true one lies in ``share`` of all calibration sets of ``count`` normal samples.

    A threshold at the k-th of n scores has a rate with the distribution Beta(n + 1 - k, k), whatever that of continuous
    scores is: on average it is at most ``rate``, in one calibration set it can be more.

    Examples:
        >>> [round(value, 4) for value in true_rate_interval(99, 0.01)]
        [0.0005, 0.0298]
    """
    from scipy.special import betaincinv  # type: ignore[import-untyped, unused-ignore]

    above = max(allowed_above(count, rate), 1)
    low, high = betaincinv(above, count + 1 - above, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A threshold, and how often it is wrong."""

    value: float
    """A normal sample above it is a false alarm."""
    asked: float
    """The rate of false alarms that was wanted."""
    rate: float
    """The one that it is for: the wanted one, or the smallest that the normal samples support."""
    normals: int
    """Samples that it was made from."""
    rule: Rule
    tail: Tail | None = None
    """The extrapolation to ``asked``, where that is not supported; None for fewer than 10 normal samples too."""
    extrapolated: bool = False
    """Whether ``value`` is that of the tail."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The true rate lies between in 90 % of calibration sets; None if extrapolated."""
        return None if self.extrapolated else true_rate_interval(self.normals, self.rate)

    @property
    def needed(self) -> int:
        """How many more normal samples would support the wanted rate."""
        return max(normals_needed(self.asked) - self.normals, 0)

    def describe(self) -> str:
        """Return in one line what it is."""
        many = f"{self.normals} normal sample{'s' if self.normals > 1 else ''}"
        what = f"threshold {self.value:.6g} for {percent(self.rate)} false alarms, from {many}"
        if (interval := self.interval) is None:
            return f"{what}, extrapolated: no guarantee"
        low, high = interval
        return f"{what} ({RULES[self.rule]}); in 90 of 100 such sets the true rate is {percent(low)} to {percent(high)}"

    def note(self) -> str:
        """Return what is missing for the wanted rate, and what it would be extrapolated; empty if it is supported."""
        if not self.needed:
            return ""
        parts = "1 good part" if self.normals == 1 else f"{self.normals} good parts"
        smallest = percent(smallest_rate(self.normals))
        found = (
            f"{parts} set the threshold, so about 1 good part in {self.normals + 1} ({smallest}) raises a false alarm"
        )
        wanted = f"{percent(self.asked)} needs {self.needed} more good parts"
        if self.tail is None:
            return f"{found}; {wanted}"
        low, high = self.tail.interval
        span = f"90 % interval {low:.6g} to {high:.6g}, {self.tail.used} largest scores"
        return f"{found}; {wanted}, and the threshold for it is guessed at {self.tail.threshold:.6g} ({span})"


class Normals:
    """Scores of normal samples that were not trained on.

    Args:
        values: finite, in any order, at least one.
        rule: how they came about.

    Examples:
        >>> normals = Normals([2.0, 5.0, 3.0], rule="split")
        >>> normals.p_value(4.0), normals.p_value(9.0), normals.threshold(0.25).value, normals.threshold(0.5).value
        (0.5, 0.25, 5.0, 3.0)
    """

    def __init__(self, values: Iterable[float], *, rule: Rule) -> None:
        self.values = tuple(sorted(values))
        """Ascending."""
        self.rule = rule
        if not self.values or rule not in get_args(Rule):
            raise ValueError(f"needs scores and one of the rules {', '.join(get_args(Rule))}, got {rule!r}")

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Normals) and (self.values, self.rule) == (other.values, other.rule)

    __hash__ = None  # type: ignore[assignment]  # compared in tests only

    def p_value(self, score: float) -> float:
        """Return the share of normal samples, this one included, that score at least ``score``: 1/(n + 1) to 1.

        If a new normal sample is like these, its p-value is at most p with a probability of at most p.
        """
        at_least = len(self.values) - bisect_left(self.values, score)
        return (1 + at_least) / (1 + len(self.values))

    def threshold(self, false_alarms: float, *, extrapolate: bool = False) -> Threshold:
        """Return the threshold for a rate of false alarms, or for the smallest that so many samples support.

        Args:
            false_alarms: wanted rate, above 0 and at most 0.5.
            extrapolate: take the exponential tail where the rate is not supported and there are 10 samples.
        """
        count, above = len(self.values), allowed_above(len(self.values), false_alarms)
        if above:
            value, rate, tail = self.values[count - above], false_alarms, None
        else:
            value, rate, tail = self.values[-1], smallest_rate(count), exponential_tail(self.values, false_alarms)
        extrapolated = tail is not None and extrapolate
        if tail is not None and extrapolate:
            value, rate = tail.threshold, false_alarms
        return Threshold(
            value=value,
            asked=false_alarms,
            rate=rate,
            normals=count,
            rule=self.rule,
            tail=tail,
            extrapolated=extrapolated,
        )

    def joined(self, other: Normals) -> Normals:
        """Return both as one."""
        return Normals(self.values + other.values, rule=self.rule if self.rule == other.rule else "mixed")


def percent(rate: float) -> str:
    """Return a rate as text.

    Examples:
        >>> percent(0.01), percent(1 / 24)
        ('1 %', '4.17 %')
    """
    return f"{100 * rate:.3g} %"
