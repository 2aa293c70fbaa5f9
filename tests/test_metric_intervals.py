"""Error rates, recall at few false alarms, bootstrap intervals and the comparison of two detectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_curve as sklearn_roc_curve

from crdkit import metrics
from crdkit.errors import CrdkitError
from crdkit.metrics import compare, error_rates, evaluate, intervals, recall_at
from crdkit.scoring.intervals import draw

few_examples = settings(max_examples=min(60, settings().max_examples), deadline=None)
labelled = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30).map(
    lambda pairs: (np.array([float(score) for score, _ in pairs]), np.array([int(label) for _, label in pairs]))
)


# --- rates at a threshold


@few_examples
@given(labelled, st.integers(-4, 4), st.sampled_from([0.5, 0.9, 0.95]))
def test_error_rates_are_counted_and_their_intervals_are_clopper_and_pearsons(drawn, threshold, level):
    scores, labels = drawn
    found = error_rates(scores, labels, threshold, level=level)
    expected = {
        "false_alarms": [score > threshold for score, label in zip(scores, labels, strict=True) if label == 0],
        "misses": [score <= threshold for score, label in zip(scores, labels, strict=True) if label == 1],
    }
    for name, wrong in expected.items():
        rate = getattr(found, name)
        assert (rate.count, rate.total) == (sum(wrong), len(wrong))
        if not wrong:
            assert rate.rate is rate.low is rate.high is None
            assert str(rate) == "no samples"
            continue
        assert rate.rate == sum(wrong) / len(wrong)
        exact = binomtest(sum(wrong), len(wrong)).proportion_ci(level, method="exact")
        assert (rate.low, rate.high) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_an_interval_covers_the_true_rate_as_often_as_it_says():
    true = 0.1
    covered = 0.0
    for count in range(21):
        rate = metrics.Rate.of_counts(count, 20)
        if rate.low <= true <= rate.high:
            covered += math.comb(20, count) * true**count * (1 - true) ** (20 - count)
    assert covered >= 0.95


@few_examples
@given(labelled, st.sampled_from([0.01, 0.05, 0.1, 0.25, 0.5, 1.0]))
def test_recall_is_the_best_of_all_thresholds_that_keep_the_rate(drawn, false_alarms):
    scores, labels = drawn
    found = recall_at(scores, labels, false_alarms)
    if len(set(labels)) < 2:
        assert found is None
        return
    normal, anomalous = scores[labels == 0], scores[labels == 1]
    kept = [t for t in [-math.inf, *scores] if (normal > t).mean() <= false_alarms + 1e-12]
    assert found == (anomalous > min(kept)).mean()
    x, y, _ = sklearn_roc_curve(labels, scores, drop_intermediate=False)
    assert found == pytest.approx(y[x <= false_alarms + 1e-12].max())
    name = f"image_recall_{false_alarms:.2f}"
    assert evaluate(scores[:, None, None], None, labels=labels, recalls=[false_alarms])[name] == found


def test_few_normal_samples_admit_no_false_alarm():
    scores, labels = [*range(11), 9.5, 10.0, 10.5], [0] * 11 + [1] * 3
    assert recall_at(scores, labels, 0.01) == recall_at(scores, labels, 0.05) == pytest.approx(1 / 3)
    assert recall_at(scores, labels, 0.1) == 1  # one of 11


def test_a_share_of_a_hundred_is_not_lost_to_rounding():
    scores, labels = [*range(100), 70.5], [0] * 100 + [1]
    assert 0.29 * 100 < 29
    assert recall_at(scores, labels, 0.29) == 1  # 29 normal samples are above 70


def test_evaluate_returns_no_more_than_it_did():
    assert not [key for key in evaluate(np.zeros((2, 1, 1)), None, labels=[0, 1]) if "recall" in key]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: error_rates([1.0], [0], math.nan), r"threshold \(=nan\) must be a number"),
        (lambda: error_rates([1.0], [0], "high"), r"threshold \(='high'\) must be a number"),
        (lambda: error_rates([1.0], [0], 0.5, level=95), r"level \(=95\) must be a confidence level above 0 and below"),
        (lambda: error_rates([1.0, 2.0], [0], 0.5), r"labels \(shape \(1,\)\) must be \(2,\), one value per image"),
        (lambda: error_rates([math.nan], [0], 0.5), r"scores .* must be finite numbers"),
        (lambda: metrics.Rate.of_counts(3, 2), r"count \(=3\) must be from 0 to total \(=2\)"),
        (lambda: recall_at([1.0], [0], 0), r"false_alarms \(=0\) must be a rate above 0 and at most 1"),
        (lambda: intervals(None, None), r"neither maps nor scores are given"),
        (lambda: intervals(np.zeros((2, 1, 1)), None), r"neither labels nor masks of the maps are given"),
        (lambda: intervals(None, None, [1.0], labels=[0], resamples=0), r"resamples \(=0\) must be an integer of at"),
        (lambda: intervals(None, None, [1.0], labels=[0], level=1), r"level \(=1\) must be a confidence level"),
        (lambda: compare(np.zeros((2, 1, 1)), None, None, labels=[0, 1]), r"maps of one detector only"),
        (
            lambda: compare(np.zeros((2, 1, 1)), np.zeros((3, 1, 1)), None, labels=[0, 1]),
            r"the maps of the two detectors \(shapes \(2, 1, 1\) and \(3, 1, 1\)\) must be of the same samples",
        ),
        (
            lambda: compare(None, None, None, ([1.0, 2.0], [1.0]), labels=[0, 1]),
            r"scores of 2 and of 1 samples; compare detectors on the same samples",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(CrdkitError, match=message):
        call()


# --- intervals


@st.composite
def stacks(draw_value):
    """Small stacks with ties: maps, masks and labels, of which some anomalous samples may have no mask."""
    count = draw_value(st.integers(2, 7))
    rng = np.random.default_rng(draw_value(st.integers(0, 10**6)))
    labels = (rng.random(count) < 0.6).astype(int)
    masks = (rng.random((count, 5, 5)) < 0.3) & (labels[:, None, None] == 1)
    maps = np.round(rng.random((count, 5, 5)) + 0.3 * masks, draw_value(st.sampled_from([1, 6])))
    return maps, masks, labels


@few_examples
@given(stacks(), st.integers(0, 100))
def test_intervals_are_those_of_stacks_drawn_image_by_image(drawn, seed):
    """Brute force: each resample is built and evaluated as a stack of its own."""
    maps, masks, labels = drawn
    options = {"recalls": (0.05, 0.5), "limits": (0.3, 0.01)}
    found = intervals(maps, masks, labels=labels, resamples=12, level=0.8, seed=seed, **options)
    values = {name: [] for name in found}
    for weights in draw(labels == 1, 12, seed=seed).astype(int):
        rows = np.repeat(np.arange(len(maps)), weights)
        for name, value in evaluate(maps[rows], masks[rows], labels=labels[rows], **options).items():
            values[name] += [] if value is None else [value]
    assert list(found) == list(evaluate(maps, masks, labels=labels, **options))
    for name, interval in found.items():
        if not values[name]:
            assert interval is None, name
            continue
        assert interval == pytest.approx(tuple(np.quantile(values[name], [0.1, 0.9])), abs=1e-12), name


def test_image_scores_alone_have_the_intervals_that_they_have_with_maps():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    masks = np.zeros((40, 4, 4), dtype=bool)
    masks[20:, 1, 1:3] = True
    maps = rng.random((40, 4, 4)) + 0.5 * masks
    scores = maps.max(axis=(1, 2))
    alone, together = (
        intervals(None, None, scores, labels=labels, resamples=50, seed=3),
        intervals(maps, masks, resamples=50, seed=3),
    )
    assert alone["image_auroc"] == together["image_auroc"]
    assert alone["pixel_auroc"] is alone["aupro_0.30"] is None
    assert together["pixel_auroc"] is not None


def test_samples_are_drawn_within_their_class():
    labels = np.array([True, False, True, True, False])
    weights = draw(labels, 400, seed=0)
    assert (weights[:, labels].sum(axis=1) == 3).all()
    assert (weights[:, ~labels].sum(axis=1) == 2).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(5), abs=0.15)
    assert np.array_equal(weights, draw(labels, 400, seed=0))
    assert not np.array_equal(weights, draw(labels, 400, seed=1))


def test_intervals_of_a_normal_difference_cover_the_true_auroc_about_as_often_as_they_say():
    true = 0.5 * (1 + math.erf(1 / 2))  # of scores that lie a standard deviation apart: Phi(1 / sqrt(2))
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    covered = 0
    for _ in range(100):
        found = intervals(None, None, labels + rng.normal(size=80), labels=labels, resamples=200, level=0.9)
        low, high = found["image_auroc"]
        covered += low <= true <= high
    assert 80 <= covered <= 99


# --- two detectors


def test_a_comparison_is_the_difference_on_the_same_resamples():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 12)
    masks = np.zeros((24, 5, 5), dtype=bool)
    masks[12:, 2:4, 1:3] = True
    first, second = (rng.random((24, 5, 5)) + gain * masks for gain in (0.2, 0.5))
    found = compare(first, second, masks, labels=labels, resamples=40, level=0.9, seed=5)
    whole = [evaluate(maps, masks, labels=labels) for maps in (first, second)]
    assert list(found) == list(whole[0])
    rows = [np.repeat(np.arange(24), w.astype(int)) for w in draw(labels == 1, 40, seed=5)]
    drawn = [[evaluate(maps[i], masks[i], labels=labels[i]) for maps in (first, second)] for i in rows]
    for name, result in found.items():
        differences = np.array([two[name] - one[name] for one, two in drawn])
        assert (result.first, result.second) == pytest.approx((whole[0][name], whole[1][name]), abs=1e-12)
        assert result.difference == pytest.approx(whole[1][name] - whole[0][name], abs=1e-12)
        assert (result.low, result.high) == pytest.approx(tuple(np.quantile(differences, [0.05, 0.95])), abs=1e-12)
        fewer = min((differences <= 0).sum(), (differences >= 0).sum())
        assert result.p_value == min(1, 2 * (1 + fewer) / 41)


def test_a_detector_does_not_differ_from_itself_whatever_the_scale_of_its_scores():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 15)
    scores = labels + rng.normal(size=30)
    found = compare(None, None, None, (scores, 1000 * scores + 7), labels=labels, resamples=60)
    for name in ("image_auroc", "image_ap", "image_f1_max"):
        result = found[name]
        assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1), name
    assert found["pixel_auroc"] is None


def test_equal_detectors_are_seldom_called_different_and_unequal_ones_mostly():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    p_values = {0.0: [], 1.5: []}
    for gain, found in p_values.items():
        for _ in range(60):
            shared = labels + rng.normal(size=80)
            scores = tuple(shared + rng.normal(size=80) + labels * extra for extra in (0, gain))
            result = compare(None, None, None, scores, labels=labels, resamples=200)["image_auroc"]
            found.append(result.p_value)
    assert np.mean(np.array(p_values[0.0]) < 0.1) <= 0.2
    assert np.mean(np.array(p_values[1.5]) < 0.1) > 0.8
