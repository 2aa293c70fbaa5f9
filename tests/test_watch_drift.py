"""Tests for drift: right about how often they are wrong, and quick to notice what has moved."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import betabinom

from crdkit.data.statistics import merge, summarise
from crdkit.watch.drift import LEVEL, Calibration, Drift, beyond, compare_scores, exceedance, numbers


def drift_of(normals, rate=0.05, sensors=None):
    count = len(normals)
    threshold = sorted(normals)[count - max(int((count + 1) * rate), 1)]
    return Drift(Calibration(normals=tuple(normals), threshold=threshold, rate=rate, sensors=sensors or {}))


@pytest.mark.parametrize(("before", "after", "count"), [(5, 10, 3), (50, 100, 7), (1, 20, 20)])
def test_exceedances_have_the_probability_of_a_beta_binomial_distribution(before, after, count):
    expected = betabinom(after, 1, before).sf(count - 1)
    assert exceedance(before, after, count) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [10, 40, 200])
def test_the_test_of_scores_is_wrong_no_more_often_than_its_level(count):
    rng, level, wrong, trials = np.random.default_rng(0), 0.05, 0, 400
    for _ in range(trials):
        normals = rng.gumbel(size=count)
        threshold = float(np.sort(normals)[count - max(int((count + 1) * 0.05), 1)])
        wrong += compare_scores(normals.tolist(), rng.gumbel(size=60).tolist(), threshold=threshold).p_value <= level
    assert wrong / trials < level + 3 * np.sqrt(level * (1 - level) / trials)


def test_alarms_do_not_count_as_drift_of_the_scores_that_passed():
    rng = np.random.default_rng(1)
    drift = drift_of(rng.normal(size=99))
    for place in range(100):
        drift.add(50.0 if place % 3 == 0 else float(rng.normal()), {}, complete=True)
    assert drift.share_of_alarms[0] > 33
    assert drift.moved() == ()


def test_scores_that_creep_up_below_the_threshold_are_noticed():
    rng = np.random.default_rng(2)
    drift = drift_of(rng.normal(size=99))
    for _ in range(60):
        drift.add(float(rng.normal(0.9, 0.4)), {}, complete=True)
    assert drift.moved() == ("scores",)
    assert "The scores of good samples have moved: their median is" in drift.warnings()[0]


def test_what_moves_back_is_no_longer_warned_of():
    rng = np.random.default_rng(3)
    drift = drift_of(rng.normal(size=99))
    for centre in (1.2, 0.0):
        for _ in range(120):
            drift.add(float(rng.normal(centre, 0.3 if centre else 1.0)), {}, complete=True)
        assert drift.moved() == (("scores",) if centre else ())


def test_if_most_samples_raise_alarms_that_is_said():
    drift = drift_of([1.0, 2.0, 3.0])
    for _ in range(20):
        drift.add(100.0, {}, complete=True)
    assert drift.warnings() == ["20 of the last 20 samples raised an alarm: look at the sensors and the fixture."]


def test_scores_of_samples_that_lack_a_sensor_are_not_compared():
    drift = drift_of([1.0, 2.0, 3.0])
    for _ in range(40):
        drift.add(0.0, {}, complete=False)
    assert drift.scores is None
    assert drift.window == []


def test_nothing_is_tested_before_there_are_enough_samples():
    drift = drift_of([1.0, 2.0, 3.0])
    for _ in range(19):
        drift.add(-9.0, {}, complete=True)
    assert drift.scores is None


def darker(rng, factor):
    image = (rng.uniform(80, 160, size=(32, 32, 3)) * rng.uniform(0.97, 1.03) * factor).astype(np.uint8)
    return summarise({"rgb": image})


def test_a_sensor_that_darkens_is_noticed_and_one_that_does_not_is_not():
    rng = np.random.default_rng(4)
    sensors = merge([darker(rng, 1.0) for _ in range(60)])
    for factor, moved in ((1.0, ()), (0.93, ("sensor rgb",))):
        drift = drift_of([1.0, 2.0, 3.0], sensors=sensors)
        for _ in range(60):
            drift.add(0.0, {"rgb": numbers(darker(rng, factor)["rgb"])}, complete=False)
        assert drift.moved() == moved
    assert drift.sensors["rgb"].level == pytest.approx(LEVEL / 7)


def test_each_side_of_a_range_counts_for_itself():
    trained = merge([summarise({"depth": np.linspace(1, 2, 64).reshape(8, 8)})])["depth"]
    found = {"measured": 0.5, "low": trained.low, "high": 9.0, "magnitude": trained.magnitude[1]}
    assert beyond(trained, found) == (True, False, True, False, True, False, False)
