"""What the pages' programs work on: outlines, thresholds, intervals, and JSON that cannot end its script."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_report import make

from crdkit.report.explorer import _intervals, assemble, best_threshold, explore, in_script
from crdkit.report.outlines import outline
from crdkit.scoring.rates import Rate


def filled(path: str, shape: tuple[int, int]) -> np.ndarray:
    """Fill a path of `outline` by the rule ``evenodd``: a pixel is inside if an odd number of lines is left of it."""
    crossed = np.zeros((shape[0], shape[1] + 1), dtype=int)
    for loop in path.split("z")[:-1]:
        x, y, runs = re.fullmatch(r"M(\d+) (\d+)((?:[hv]-?\d+)*)", loop).groups()
        x, y = int(x), int(y)
        begin = x, y
        for kind, length in re.findall(r"([hv])(-?\d+)", runs):
            if kind == "v":
                low, high = sorted((y, y + int(length)))
                crossed[low:high, x] += 1
                y += int(length)
            else:
                x += int(length)
        assert begin[0] == x or begin[1] == y  # the last line is straight
        low, high = sorted((y, begin[1]))
        crossed[low:high, x] += 1
    return crossed.cumsum(axis=1)[:, :-1] % 2 == 1


@given(mask=arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_an_outline_holds_exactly_its_mask(mask):
    np.testing.assert_array_equal(filled(outline(mask), mask.shape), mask)


def test_an_outline_joins_straight_runs():
    mask = np.zeros((50, 50), dtype=bool)
    mask[10:40, 5:45] = True
    mask[20:30, 20:30] = False
    assert outline(mask) == "M5 10h40v30h-40zM20 20v10h10v-10z"
    assert outline(np.zeros((3, 3), dtype=bool)) == ""


@pytest.mark.parametrize("total", [1, 7, 40])
def test_intervals_are_those_of_rates(total):
    rates = [Rate.of_counts(count, total) for count in range(total + 1)]
    assert _intervals(total) == [[round(100 * rate.low, 1), round(100 * rate.high, 1)] for rate in rates]
    assert _intervals(0) == []


@given(
    scores=arrays(np.float64, 9, elements=st.integers(0, 5).map(float)),
    labels=arrays(np.int64, 9, elements=st.integers(0, 1)).filter(lambda labels: labels.any()),
)
@example(scores=np.zeros(9), labels=np.ones(9, dtype=np.int64))
def test_the_best_threshold_has_the_highest_f1(scores, labels):
    def f1(cut):
        alarms = scores > cut
        return 2 * labels[alarms].sum() / (alarms.sum() + labels.sum())

    assert f1(best_threshold(labels, scores)) == max(f1(cut) for cut in np.arange(-0.5, 6))


@given(text=st.text())
def test_json_in_a_script_neither_ends_it_nor_loses_a_character(text):
    written = in_script({text: [text, 1.5, float("nan")]})
    assert not set("<>&") & set(written)
    assert written.isascii()
    assert json.loads(written) == {text: [text, 1.5, None]}


def test_scores_keep_every_bit():
    data = make(labels=[0, 1, 1])
    document = json.loads(assemble([explore(data)])["document"])
    written = {sample["id"]: sample["runs"][0]["score"] for sample in document["samples"]}
    assert written == {name: float(score) for name, score in zip(data.sample_ids, data.scores, strict=True)}


def test_runs_side_by_side_share_inputs_and_keep_their_own_maps():
    one, two = make(("rgb",), labels=[0, 1]), make(("depth", "rgb"), labels=[0, 1])
    first = explore(one, name="one", rows=[1, 0])
    page = assemble([first, explore(two, name="two", rows=[1, 0])])
    document = json.loads(page["document"])
    assert document["inputs"] == ["rgb", "depth"]
    assert page["layers"] == ["fused", "rgb", "depth"]
    assert [run["layers"] for run in document["runs"]] == [["fused", "rgb"], ["fused", "depth", "rgb"]]
    assert [sample["id"] for sample in document["samples"]] == [one.sample_ids[1], one.sample_ids[0]]
    picture = json.loads(page["pictures"][0])
    assert [len(run["maps"]) for run in picture["runs"]] == [2, 3]
    assert picture["inputs"][0] == first.pictures[0]["inputs"][0]
    assert page["types"] == {"good": 1, "scratch": 1}
