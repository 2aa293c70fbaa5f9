"""Thresholds beyond the highest normal score: an exponential tail, extrapolated, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 10
"""Normal samples below which nothing is extrapolated."""
_DRAWS = 10_000


@dataclass(frozen=True, kw_only=True)
class Tail:
    """A threshold that normal samples alone do not support."""

    threshold: float
    """Normal samples of an exponential tail exceed it at the wanted rate, on average over calibration sets."""
    rate: float
    count: int
    """Of all scores."""
    used: int
    """How many of the largest scores the tail was fitted to, above the next one."""
    start: float
    """That next one."""
    excess: float
    """Mean of what they exceed it by."""

    @property
    def interval(self) -> tuple[float, float]:
        """The threshold that has exactly the wanted rate lies between in 90 % of calibration sets."""
        rng = np.random.default_rng(0)  # the same interval each time
        share = rng.beta(self.used + 1, self.count - self.used, _DRAWS)  # of normal samples above the start
        scale = self.excess * self.used / rng.gamma(self.used, size=_DRAWS)
        low, high = np.quantile(self.start + scale * np.log(share / self.rate), [0.05, 0.95])
        return float(low), float(high)


def exponential_tail(scores: Sequence[float], rate: float) -> Tail | None:
    """Extrapolate ascending normal scores to a rate of false alarms that they do not support.

    Excesses over the (n - m)-th score, with m about 2 sqrt(n), are taken for exponential, as those of maxima of light
    tails are (Pickands, "Statistical inference using extreme order statistics", Annals of Statistics, 1975, with shape
    0). Then the spacings are independent (Renyi), the mean excess s is a Gamma variable, and a threshold u + c s with
    ``c = m (((m + 1) / ((n + 1) rate)) ** (1 / m) - 1)`` is exceeded at exactly ``rate``, on average over calibration
    sets: how uncertain s is counts. A heavier tail is exceeded more often.

    Args:
        scores: of normal samples, ascending.
        rate: wanted.

    Returns:
        None for fewer than 10 scores.

    Examples:
        >>> scores = sorted(-math.log(1 - (i + 0.5) / 50) for i in range(50))  # an exponential distribution
        >>> found = exponential_tail(scores, 0.001)
        >>> found.used, round(found.threshold, 1), [round(value, 1) for value in found.interval]
        (14, 8.3, [5.1, 10.8])
        >>> exponential_tail(scores[:9], 0.001)
    """
    count = len(scores)
    if count < FEWEST:
        return None
    used = min(count // 2, round(2 * math.sqrt(count)))
    start = scores[count - used - 1]
    excess = sum(score - start for score in scores[count - used :]) / used
    factor = used * (((used + 1) / ((count + 1) * rate)) ** (1 / used) - 1)
    return Tail(threshold=start + factor * excess, rate=rate, count=count, used=used, start=start, excess=excess)
