"""Prediction: the latency of one sample, and batches."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.baseline.predict import Predictor
from benchmarks.baseline.train import Baseline
from benchmarks.gpu_parts import prediction
from benchmarks.measurements import raw_samples, single_predictions, untrained
from crdkit.config import RunConfig


def test_one_sample(benchmark: Any, tiny: RunConfig) -> None:
    detector, (sample,) = untrained(tiny), raw_samples(tiny, 1)
    assert benchmark(detector.predict, sample).anomaly_map.shape == (64, 64)


def test_one_sample_baseline(benchmark: Any, tiny: RunConfig) -> None:
    predictor, (sample,) = Predictor(Baseline(tiny)), raw_samples(tiny, 1)
    assert benchmark(predictor.predict, sample)[0].shape == (64, 64)


def test_both_score_alike(tiny: RunConfig) -> None:
    found = single_predictions(tiny, samples=2, rounds=1)
    scores = found["score_of_first"]
    assert [scores["ours"], scores["compiled"]] == pytest.approx([scores["baseline"]] * 2, rel=1e-4)
    assert found["predictions"] == 2


def test_batches(benchmark: Any, tiny: RunConfig) -> None:
    found = benchmark.pedantic(prediction, args=(tiny,), kwargs={"batch": 4, "batches": 2, "singles": 1}, rounds=1)
    assert found["fp32"]["samples_per_second"] > 0
