"""Least squares for a plane, and the consensus of points on one (RANSAC), with the values that scikit-learn gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.linalg import lstsq  # type: ignore[import-untyped, unused-ignore]
from sklearn.linear_model import LinearRegression  # type: ignore[import-untyped, unused-ignore]

_MIN_SINGULAR = 1e-6  # relative to the largest singular value, as in scikit-learn


class PlaneRegression(LinearRegression):  # type: ignore[misc, unused-ignore]
    """z = a x + b y + c, as `LinearRegression` fits it, without its input checks.

    RANSAC asks for many fits of three points each, and the checks took most of their time.

    Examples:
        >>> corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> plane = PlaneRegression().fit(corners, np.array([1.0, 2.0, 0.0]))
        >>> plane.coef_.round(6).tolist(), round(plane.intercept_, 6)
        ([1.0, -1.0], 1.0)
    """

    def fit(self, X: np.ndarray, y: np.ndarray) -> PlaneRegression:  # noqa: N803 - scikit-learn's names
        """Fit the plane to (N, 2) positions and their (N,) heights, float64 and finite."""
        centre, height = X.mean(axis=0), y.mean()
        self.coef_ = lstsq(X - centre, y - height, cond=_MIN_SINGULAR, check_finite=False)[0]
        self.intercept_ = float(height - centre @ self.coef_)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:  # noqa: N803
        """Return the plane's (N,) heights at (N, 2) positions."""
        return np.asarray(X @ self.coef_ + self.intercept_)

    def score(self, X: np.ndarray, y: np.ndarray) -> float:  # noqa: N803
        """Return R squared, by which RANSAC decides between planes with equally many inliers."""
        left, total = np.square(y - self.predict(X)).sum(), np.square(y - y.mean()).sum()
        return float(1 - left / total) if total > 0 else float(left == 0)


def consensus(
    points: np.ndarray,
    *,
    tolerance: float,
    trials: int,
    confidence: float,
    is_wide: Callable[[np.ndarray], bool],
    is_valid: Callable[[PlaneRegression], bool],
) -> PlaneRegression | None:
    """Return the plane that most of the (N, 3) points support, fit to all of those; None if every trial was refused.

    It draws and decides as scikit-learn's ``RANSACRegressor`` does with ``random_state=0``, without what that spends on
    options and checks, which took most of its time.

    Args:
        points: (N, 3) float64, N at least 3.
        tolerance: distance along z within which a point supports a plane.
        trials: at most so many draws of three points.
        confidence: stop when, with the support found so far, three points on the plane were drawn as surely.
        is_wide: whether three (3, 2) positions determine a plane.
        is_valid: whether a plane may be one.
    """
    from sklearn.utils.random import sample_without_replacement  # type: ignore[import-untyped, unused-ignore]

    positions, heights = points[:, :2], points[:, 2]
    draw = partial(sample_without_replacement, len(points), 3, random_state=np.random.RandomState(0))
    model, best, supporters, quality, trial = PlaneRegression(), None, 1, -np.inf, 0
    enough: float = trials
    while trial < enough:
        trial += 1
        drawn = draw()
        if not is_wide(positions[drawn]):
            continue
        model.fit(positions[drawn], heights[drawn])
        if not is_valid(model):
            continue
        supports = np.abs(heights - model.predict(positions)) <= tolerance
        count = int(np.sum(supports))
        if count < supporters:
            continue
        score = model.score(positions[supports], heights[supports])
        if count == supporters and score < quality:
            continue
        best, supporters, quality = supports, count, score
        enough = min(enough, _trials_needed(count / len(points), confidence))
    return None if best is None else model.fit(positions[best], heights[best])


def _trials_needed(share: float, confidence: float) -> float:
    """Return how many draws find three points of the ``share`` that lies on the plane with that confidence."""
    tiny = np.spacing(1)
    missed, bad = max(tiny, 1 - confidence), max(tiny, 1 - share**3)
    return float("inf") if bad == 1 else abs(float(np.ceil(np.log(missed) / np.log(bad))))
