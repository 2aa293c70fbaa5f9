"""A decision from good parts alone: a score is judged against those of normal samples that were not trained on."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

_ENOUGH = 20  # held-out normal samples: one in 21 is then called anomalous


def warn_of_few(count: int) -> str:
    """Return what decisions from so few held-out normal samples mean; empty for 20 and more, and for none.

    Examples:
        >>> warn_of_few(2).partition(";")[0]
        'only 2 good parts are held out, so about 1 in 3 good parts will be called anomalous by mistake'
        >>> warn_of_few(20)
        ''
    """
    if not 0 < count < _ENOUGH:
        return ""
    parts = "1 good part is" if count == 1 else f"{count} good parts are"
    return (
        f"only {parts} held out, so about 1 in {count + 1} good parts will be called anomalous by mistake; hold out "
        f"{_ENOUGH} or more if you can (data.validation_share, or a larger validation split)"
    )


class NormalScores:
    """Scores of held-out normal samples.

    Split-conformal p-values, as in Bates et al., "Testing for outliers with conformal p-values" (Annals of
    Statistics, 2023), equation 2: if a new normal sample is like these, its p-value is at most 1/(n + 1) with at most
    that probability. The maps of the same samples calibrate the aggregation, so the true rate can be a little higher.

    Args:
        scores: finite, in any order.

    Examples:
        >>> normals = NormalScores([2.0, 5.0, 3.0])
        >>> normals.threshold, normals.p_value(4.0), normals.p_value(9.0)
        (5.0, 0.5, 0.25)
        >>> print(normals.describe())
        threshold 5: the highest score of 3 held-out normal samples; about 1 in 4 normal samples scores above it
    """

    def __init__(self, scores: Iterable[float]) -> None:
        self.values = tuple(sorted(scores))
        """Ascending."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def threshold(self) -> float | None:
        """The highest score; a sample above it is anomalous. None if there are no scores."""
        return self.values[-1] if self.values else None

    def p_value(self, score: float) -> float | None:
        """Return the share of normal samples, this one included, that score at least ``score``; None without scores."""
        if not self.values:
            return None
        at_least = len(self.values) - bisect_left(self.values, score)
        return (1 + at_least) / (1 + len(self.values))

    def describe(self) -> str:
        """Return in one line what the threshold is and how often it is wrong; empty if there are no scores."""
        if not self.values:
            return ""
        count = len(self.values)
        return (
            f"threshold {self.threshold:.6g}: the highest score of {count} held-out normal sample"
            f"{'s' if count > 1 else ''}; about 1 in {count + 1} normal samples scores above it"
        )
