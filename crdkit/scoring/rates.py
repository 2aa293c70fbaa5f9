"""How often decisions at a threshold are wrong, and how many defects are found at a rate of false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crdkit.errors import CrdkitError
from crdkit.scoring._checks import check_labels, check_number, check_scores, check_share
from crdkit.scoring._ranking import Array, rank, recall


@dataclass(frozen=True)
class Rate:
    """A share of samples, with its Clopper-Pearson interval; None where there is no sample to count.

    Examples:
        >>> print(Rate.of_counts(1, 20))
        1 of 20 (5.0 %; 0.1 to 24.9 % at 95 % confidence)
    """

    count: int
    total: int
    rate: float | None
    low: float | None
    high: float | None
    level: float = 0.95

    @classmethod
    def of_counts(cls, count: int, total: int, *, level: float = 0.95) -> Rate:
        """Return the rate of ``count`` in ``total`` samples, and the exact interval of Clopper and Pearson (1934).

        Both tails have (1 - level) / 2 at most: whatever the true rate is, the interval holds it in at least ``level``
        of all samplings. It is one-sided in effect where all or none are counted: 0 of 20 still allows 16.8 %.

        Raises:
            CrdkitError: the counts are no integers from 0 to the total, or the level is not between 0 and 1.
        """
        from scipy.stats import beta

        check_share("level", level, what="a confidence level")
        if not 0 <= count <= total:
            raise CrdkitError(f"count (={count}) must be from 0 to total (={total})")
        if total == 0:
            return cls(count, total, None, None, None, level)
        tail = (1 - level) / 2
        low = float(beta.ppf(tail, count, total - count + 1)) if count else 0.0
        high = float(beta.ppf(1 - tail, count + 1, total - count)) if count < total else 1.0
        return cls(count, total, count / total, low, high, level)

    def __str__(self) -> str:
        if self.rate is None or self.low is None or self.high is None:
            return "no samples"
        interval = f"{100 * self.low:.1f} to {100 * self.high:.1f} % at {100 * self.level:g} % confidence"
        return f"{self.count} of {self.total} ({100 * self.rate:.1f} %; {interval})"


@dataclass(frozen=True)
class ErrorRates:
    """What goes wrong at a threshold: see `error_rates`."""

    false_alarms: Rate
    """Normal samples above the threshold."""
    misses: Rate
    """Anomalous samples that are not."""


def error_rates(
    scores: Array | Sequence[float], labels: Array | Sequence[int], threshold: float, *, level: float = 0.95
) -> ErrorRates:
    """Count the false alarms and the misses of decisions at a threshold: a score *above* it is an alarm.

    The intervals hold for a threshold that was set on other samples. One that was chosen on these very samples reads
    better than it is.

    Args:
        scores: (N,) image scores.
        labels: (N,) 0 or 1.
        threshold: a number, infinite ones included.
        level: confidence level of the Clopper-Pearson intervals.

    Raises:
        CrdkitError: an argument has a wrong shape, length, type or value.

    Examples:
        >>> rates = error_rates([0.1, 0.4, 0.3, 0.9], [0, 0, 1, 1], threshold=0.35)
        >>> print(rates.false_alarms)
        1 of 2 (50.0 %; 1.3 to 98.7 % at 95 % confidence)
        >>> rates.misses.count, rates.misses.rate
        (1, 0.5)
    """
    values = check_scores(scores)
    anomalous = check_labels(labels, len(values))
    cut = check_number("threshold", threshold, what="a number")
    alarms = values > cut
    return ErrorRates(
        false_alarms=Rate.of_counts(int(alarms[~anomalous].sum()), int((~anomalous).sum()), level=level),
        misses=Rate.of_counts(int((~alarms[anomalous]).sum()), int(anomalous.sum()), level=level),
    )


def recall_at(
    scores: Array | Sequence[float], labels: Array | Sequence[int], false_alarms: float = 0.01
) -> float | None:
    """Return the share of anomalous samples that are found if at most a share of the normal ones may raise an alarm.

    Of n normal samples floor(n false_alarms) may score above the threshold, which is the lowest that admits no more:
    the next highest normal score. Found is what scores *above* it, so a tie with that normal sample is a miss. Few
    normal samples admit no false alarm at all: fewer than 100 at 1 %, fewer than 20 at 5 %. Then only defects above the
    highest normal score are found. The threshold comes from the test samples, so this measures how well scores rank;
    for the errors of a threshold set beforehand see `error_rates`.

    Returns:
        A fraction; None if there is one class only.

    Raises:
        CrdkitError: an argument has a wrong shape, length, type or value.

    Examples:
        >>> scores, labels = [1.0, 2.0, 3.0, 4.0, 2.5, 3.5, 4.0, 5.0], [0, 0, 0, 0, 1, 1, 1, 1]
        >>> recall_at(scores, labels), recall_at(scores, labels, false_alarms=0.25)
        (0.25, 0.75)
    """
    values = check_scores(scores)
    rate = check_number("false_alarms", false_alarms, what="a rate above 0 and at most 1")
    if not 0 < rate <= 1:
        raise CrdkitError(f"false_alarms (={rate:g}) must be a rate above 0 and at most 1")
    ranking = rank(values, check_labels(labels, len(values)))
    return None if ranking is None else recall(ranking, rate)
