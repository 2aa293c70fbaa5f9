"""The baseline computes what crdkit computes: a ratio between two different things would mean nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.baseline.predict import Predictor, evaluate
from benchmarks.baseline.train import Baseline
from crdkit.config import RunConfig
from crdkit.config.build import build_dataset
from crdkit.detector import Detector
from crdkit.runs.directory import read_metrics
from crdkit.runs.fit import fit


@pytest.fixture(scope="module")
def ours(tiny: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the folder and the detector of crdkit's own run."""
    folder = tmp_path_factory.mktemp("ours") / "run"
    return folder, fit(tiny, folder)


@pytest.fixture(scope="module")
def trained(tiny: RunConfig) -> Any:
    """Return the baseline after its two epochs, and their logs."""
    baseline = Baseline(tiny)
    return baseline, baseline.train()


def test_losses_of_two_epochs_are_equal(ours: Any, trained: Any) -> None:
    import json

    lines = (ours[0] / "log.jsonl").read_text(encoding="utf-8").splitlines()
    for expected, found in zip(map(json.loads, lines), trained[1], strict=True):
        for name, terms in expected["losses"].items():
            assert found["losses"][name] == pytest.approx(terms, rel=1e-4, abs=1e-6)


def test_metrics_and_scores_are_equal(ours: Any, trained: Any) -> None:
    predictor = Predictor(trained[0])
    predictor.calibrate()
    found = evaluate(predictor)
    expected = read_metrics(ours[0])["aggregate"]
    assert found["metrics"] == pytest.approx({key: expected[key] for key in found["metrics"]}, abs=2e-3)
    scores = np.genfromtxt(ours[0] / "scores.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    np.testing.assert_allclose(found["scores"], scores["pred_score"], rtol=1e-3)


def test_a_prediction_is_equal(ours: Any, trained: Any, tiny: RunConfig) -> None:
    detector: Detector = ours[1]
    predictor = Predictor(trained[0])
    predictor.calibrate()
    dataset = build_dataset(tiny)
    sample = dataset.read(dataset.records("test")[-1])
    anomaly_map, score = predictor.predict(sample.sensors)
    expected = detector.predict(sample.sensors)
    assert score == pytest.approx(expected.score, rel=1e-3)
    np.testing.assert_allclose(anomaly_map, expected.anomaly_map, rtol=2e-3, atol=1e-3)
