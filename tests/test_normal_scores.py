"""The decision from good parts: threshold, p-value and label of a prediction, and their way through files."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdkit.cli import main
from crdkit.detector import Detector
from crdkit.scoring.normal_scores import NormalScores

SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@given(SCORES, st.floats(-1e6, 1e6))
def test_the_p_value_is_a_rank_among_the_normals(scores, score):
    found = NormalScores(scores)
    assert found.p_value(score) == (1 + sum(value >= score for value in scores)) / (1 + len(scores))
    assert (score > found.threshold) == (found.p_value(score) == 1 / (1 + len(scores)))


def test_a_new_normal_sample_is_called_anomalous_as_often_as_is_said():
    drawn = np.random.default_rng(0).gamma(2.0, size=(4000, 10))
    alarms = [score > NormalScores(normals).threshold for *normals, score in drawn]
    assert np.mean(alarms) == pytest.approx(1 / 10, abs=3 * np.sqrt(0.09 / 4000))


def test_without_normal_scores_nothing_is_decided():
    nothing = NormalScores([])
    assert (nothing.threshold, nothing.p_value(1.0), nothing.describe(), len(nothing)) == (None, None, "", 0)


def test_the_validation_samples_set_the_threshold(tiny, detector):
    from crdkit.config.build import build_dataset

    dataset = build_dataset(tiny)
    found = [detector.predict(dataset.read(record).sensors) for record in dataset.records("validation")]
    assert sorted(result.score for result in found) == pytest.approx(detector.normal_scores.values, rel=1e-4)
    assert detector.normal_scores.threshold == detector.normal_scores.values[-1]
    assert all(result.threshold == detector.normal_scores.threshold for result in found)


def test_a_prediction_is_judged(detector, samples):
    for result in (detector.predict(samples[0]), *detector.predict_batch(samples), *detector.predict_stream(samples)):
        assert result.p_value == detector.normal_scores.p_value(result.score)
        assert result.label is (result.score > result.threshold)
    above = replace(result, score=result.threshold + 1)
    assert (above.label, replace(above, threshold=None).label) == (True, None)
    assert above.to_dict()["pred_label"] is True


def test_the_decision_is_in_the_table_and_in_scores_csv(finished, scans, tmp_path, capsys):
    folder = str(scans / "biscuit")
    assert main(["-q", "predict", str(finished), folder, "--out", str(tmp_path / "found")]) == 0
    capsys.readouterr()
    assert main(["-q", "predict", str(finished), folder]) == 0
    table = capsys.readouterr().out.splitlines()
    normals = Detector.load(finished / "detector").normal_scores
    assert table[0].split() == ["image_path", "pred_score", "p_value", "pred_label"]
    assert table[-1] == normals.describe()
    with (tmp_path / "found/scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(table) - 2
    for row, line in zip(rows, table[1:-1], strict=True):
        score = float(row["pred_score"])
        assert float(row["threshold"]) == pytest.approx(normals.threshold)
        assert row["pred_label"] == str(int(score > normals.threshold))
        assert float(row["p_value"]) == pytest.approx(normals.p_value(score))
        assert line.split()[2:] == [f"{float(row['p_value']):.3g}", ("normal", "anomalous")[int(row["pred_label"])]]


def test_a_detector_of_before_decides_nothing(finished, samples, tmp_path, capsys):
    old = shutil.copytree(finished / "detector", tmp_path / "detector")
    header = json.loads((old / "config.json").read_text())
    (old / "config.json").write_text(json.dumps({key: header[key] for key in header if key != "normal_scores"}))
    result = Detector.load(old).predict(samples[0])
    assert (result.threshold, result.p_value, result.label) == (None, None, None)
