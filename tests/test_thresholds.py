"""Split-conformal thresholds: ranks, what n samples support, how the true rate is spread, and the extrapolated tail."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from crdkit.scoring.conformal import (
    Normals,
    allowed_above,
    normals_needed,
    percent,
    smallest_rate,
    true_rate_interval,
)
from crdkit.scoring.tails import exponential_tail
from crdkit.scoring.thresholds import Thresholds, warn_of_few

SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)
RATES = st.integers(1, 500).map(lambda mille: mille / 1000)


@given(SCORES, st.floats(-1e6, 1e6))
def test_the_p_value_is_a_rank_among_the_normals(scores, score):
    found = Normals(scores, rule="split")
    assert found.p_value(score) == (1 + sum(value >= score for value in scores)) / (1 + len(scores))


@given(SCORES, RATES)
def test_the_threshold_is_the_rank_of_the_definition_in_exact_numbers(scores, rate):
    count, asked = len(scores), Fraction(round(rate * 1000), 1000)
    rank = math.ceil((count + 1) * (1 - asked))
    found = Normals(scores, rule="split").threshold(rate)
    assert found.value == sorted(scores)[min(rank, count) - 1]
    supported = asked >= Fraction(1, count + 1)
    assert supported == (rank <= count)
    assert found.rate == (rate if supported else smallest_rate(count))
    assert count + found.needed == (count if supported else math.ceil(1 / asked) - 1)
    assert (found.note() == "") == supported
    assert allowed_above(count, rate) == count + 1 - rank


@given(SCORES, RATES)
def test_a_score_above_the_threshold_has_a_p_value_of_the_rate_at_most(scores, rate):
    normals = Normals(scores, rule="split")
    found = normals.threshold(rate)
    above = np.nextafter(found.value, np.inf)
    assert normals.p_value(above) <= found.rate + 1e-9
    assert normals.p_value(found.value) > found.rate - 1e-9


@pytest.mark.parametrize(("count", "rate"), [(23, 0.05), (23, 1 / 24), (99, 0.01), (100, 0.1), (1000, 0.01)])
def test_the_true_rate_of_calibration_sets_has_the_beta_distribution(count, rate):
    drawn = np.sort(np.random.default_rng(0).random((4000, count)), axis=1)
    true = 1 - np.array([Normals(row, rule="split").threshold(rate).value for row in drawn])
    above = allowed_above(count, rate)
    assert stats.kstest(true, stats.beta(above, count + 1 - above).cdf).pvalue > 0.001
    assert true.mean() <= rate + 2 * true.std() / math.sqrt(len(true))
    low, high = true_rate_interval(count, rate)
    assert np.mean((low <= true) & (true <= high)) == pytest.approx(0.9, abs=0.015)


@pytest.mark.parametrize(("needed", "rate"), [(99, 0.01), (19, 0.05), (9, 0.1), (999, 0.001), (1, 0.5), (33, 0.03)])
def test_the_fewest_normal_samples_for_a_rate(needed, rate):
    assert normals_needed(rate) == needed
    assert allowed_above(needed, rate) == 1
    assert allowed_above(needed - 1, rate) == 0


@pytest.mark.parametrize("count", [10, 23, 60])
def test_the_extrapolated_threshold_of_an_exponential_tail_keeps_its_rate_and_its_interval(count):
    drawn = np.sort(np.random.default_rng(1).exponential(3.0, (2000, count)) + 5, axis=1)
    tails = [exponential_tail(row.tolist(), 0.01) for row in drawn]
    true = np.exp(-(np.array([tail.threshold for tail in tails]) - 5) / 3)
    assert true.mean() == pytest.approx(0.01, abs=3 * true.std() / math.sqrt(len(true)))
    exact = 5 - 3 * math.log(0.01)
    covered = np.mean([tail.interval[0] <= exact <= tail.interval[1] for tail in tails])
    assert covered == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (0.25, "about 1 good part in 4 (25 %) raises a false alarm, as asked for; it comes from 9 good parts"),
        (
            0.01,
            "1 % needs 90 more good parts; it will do for a trial, and `crdkit decide RUN --normals FOLDER` takes more",
        ),
    ],
)
def test_the_end_of_a_training_says_what_the_threshold_is_good_for(rate, words):
    found = Thresholds(scores={("rgb",): Normals(range(9), rule="split")}, peaks={}, false_alarms=rate)
    assert found.summary().startswith(f"threshold {found.images['rgb',].value:.6g} between good and defective: ")
    assert words in found.summary()


def test_a_rate_that_is_not_supported_takes_the_smallest_or_the_tail_and_says_so():
    scores = np.random.default_rng(0).exponential(size=23)
    normals = Normals(scores, rule="jackknife")
    plain, beyond = normals.threshold(0.01), normals.threshold(0.01, extrapolate=True)
    assert (plain.value, plain.rate, plain.extrapolated) == (max(scores), 1 / 24, False)
    assert (beyond.value, beyond.rate, beyond.extrapolated, beyond.interval) == (plain.tail.threshold, 0.01, True, None)
    assert beyond.value > plain.value
    assert "extrapolated: no guarantee" in beyond.describe()
    few = "23 good parts set the threshold, so about 1 good part in 24 (4.17 %) raises a false alarm; 1 % needs 76 more"
    assert few in plain.note()
    assert f"the threshold for it is guessed at {beyond.value:.6g}" in plain.note()
    assert normals.threshold(0.1, extrapolate=True).extrapolated is False  # supported: no need
    few = Normals(scores[:9], rule="split").threshold(0.01, extrapolate=True)
    assert (few.tail, few.extrapolated, few.value) == (None, False, max(scores[:9]))


def test_equal_scores_make_no_tail():
    found = exponential_tail([2.0] * 30, 0.001)
    assert (found.threshold, *found.interval) == (2.0, 2.0, 2.0)


def test_every_set_of_modalities_has_its_own_threshold_and_an_unknown_one_none():
    both, alone = ("rgb", "depth"), ("rgb",)
    found = Thresholds(
        scores={both: Normals(range(10), rule="split"), alone: Normals(range(100, 120), rule="split")},
        peaks={both: Normals(range(20, 30), rule="split")},
        false_alarms=0.2,
    )
    assert found.decide(both, 8.5) == (8, 28, 2 / 11)
    assert found.decide(alone, 118.5) == (116, None, 2 / 21)
    assert found.decide(("depth",), 1.0) == (None, None, None)
    assert found.complete == both
    assert found.describe().splitlines()[1].startswith("without depth: threshold 116 for 20 % false alarms")
    assert found.at(0.1).images[alone].value == 118


def test_nothing_known_says_nothing():
    nothing = Thresholds(scores={}, peaks={}, false_alarms=0.01)
    assert (nothing.describe(), nothing.note(), nothing.complete) == ("", "", ())
    with pytest.raises(ValueError, match="needs scores"):
        Normals([], rule="split")


def test_words():
    assert [percent(rate) for rate in (0.01, 1 / 24, 0.5)] == ["1 %", "4.17 %", "50 %"]
    assert warn_of_few(1).startswith("only 1 good part is held out, so about 1 in 2 good parts")
    assert [warn_of_few(count) for count in (0, 20, 1000)] == [""] * 3
