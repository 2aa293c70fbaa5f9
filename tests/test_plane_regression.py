"""The plane of a consensus, and the estimator inside it, against scikit-learn's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, RANSACRegressor

from crdkit.views._plane_regression import PlaneRegression, consensus


def points(seed: int, count: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    positions = generator.normal(0.1, spread, (count, 2))
    return positions, 0.5 + positions @ generator.normal(size=2) + generator.normal(0, 1e-3, count)


@given(seed=st.integers(0, 10_000), count=st.integers(3, 400), spread=st.sampled_from([1e-4, 0.05, 2.0]))
@settings(deadline=None, max_examples=60)
def test_planes_are_those_of_linear_regression(seed: int, count: int, spread: float) -> None:
    positions, heights = points(seed, count, spread)
    ours, theirs = PlaneRegression().fit(positions, heights), LinearRegression().fit(positions, heights)
    assert ours.coef_ == pytest.approx(theirs.coef_, rel=1e-9)
    assert ours.intercept_ == pytest.approx(theirs.intercept_, rel=1e-9)
    assert ours.predict(positions) == pytest.approx(theirs.predict(positions), rel=1e-9)
    assert ours.score(positions, heights) == pytest.approx(theirs.score(positions, heights), abs=1e-9)


@pytest.mark.parametrize("positions", [[[0, 0], [1, 1], [2, 2]], [[1, 1], [1, 1], [1, 1]]], ids=["line", "point"])
def test_positions_without_a_plane_give_the_least_norm_solution(positions: list[list[float]]) -> None:
    corners, heights = np.array(positions, float), np.array([1.0, 2.0, 4.0])
    ours, theirs = PlaneRegression().fit(corners, heights), LinearRegression().fit(corners, heights)
    assert ours.coef_ == pytest.approx(theirs.coef_, abs=1e-9)
    assert ours.intercept_ == pytest.approx(theirs.intercept_, abs=1e-9)


@pytest.mark.parametrize(("heights", "expected"), [([2.0, 2.0, 2.0], 1.0), ([1.0, 2.0, 4.0], None)])
def test_score_of_level_heights_is_that_of_linear_regression(heights: list[float], expected: float | None) -> None:
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    level = np.full(3, 2.0)
    ours = PlaneRegression().fit(corners, np.array(heights))
    theirs = LinearRegression().fit(corners, np.array(heights))
    assert ours.score(corners, level) == theirs.score(corners, level)
    if expected is not None:
        assert ours.score(corners, level) == expected


def wide(corners: np.ndarray, _: object = None) -> bool:
    (a, b), (c, d) = corners[1:] - corners[0]
    return bool(abs(a * d - b * c) > 1e-3)


def shallow(model: PlaneRegression, *_: object) -> bool:
    return bool(np.abs(model.coef_).max() < 5)


@pytest.mark.parametrize("outliers", [0.0, 0.25, 0.6, 0.9])
@pytest.mark.parametrize("count", [3, 40, 384])
def test_the_consensus_is_that_of_scikit_learn(outliers: float, count: int) -> None:
    options = {"min_samples": 3, "residual_threshold": 0.004, "random_state": 0, "max_trials": 100}
    for seed in range(5):
        positions, heights = points(seed, count, 0.1)
        heights[: int(outliers * count)] += np.random.default_rng(seed).uniform(0.01, 0.5, int(outliers * count))
        cloud = np.column_stack([positions, heights])
        ours = consensus(cloud, tolerance=0.004, trials=100, confidence=0.9999, is_wide=wide, is_valid=shallow)
        theirs = RANSACRegressor(
            PlaneRegression(), is_data_valid=wide, is_model_valid=shallow, stop_probability=0.9999, **options
        )
        try:
            expected = theirs.fit(cloud[:, :2], cloud[:, 2]).estimator_
        except ValueError:  # each trial was refused
            assert ours is None
            continue
        assert (ours.coef_.tolist(), ours.intercept_) == (expected.coef_.tolist(), expected.intercept_)


def test_there_is_no_consensus_if_every_draw_is_refused() -> None:
    options = {"tolerance": 0.1, "trials": 20, "confidence": 0.99}
    cloud = np.random.default_rng(0).random((30, 3))
    assert consensus(cloud, **options, is_wide=lambda corners: False, is_valid=lambda model: True) is None
    assert consensus(cloud, **options, is_wide=lambda corners: True, is_valid=lambda model: False) is None


def test_ransac_finds_the_same_plane_with_either() -> None:
    positions, heights = points(7, 300, 0.1)
    heights[::4] += 0.3
    options = {"min_samples": 3, "residual_threshold": 0.004, "random_state": 0, "max_trials": 200}
    ours = RANSACRegressor(PlaneRegression(), **options).fit(positions, heights)
    theirs = RANSACRegressor(LinearRegression(), **options).fit(positions, heights)
    assert ours.inlier_mask_.tolist() == theirs.inlier_mask_.tolist()
    assert ours.estimator_.coef_ == pytest.approx(theirs.estimator_.coef_, rel=1e-9)
