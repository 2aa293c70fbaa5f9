"""Least squares for a plane, as the estimator inside scikit-learn's RANSAC."""

from __future__ import annotations

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
