"""One epoch of training: on what is resident, and as the baseline does it."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.baseline.data import training_loader
from benchmarks.baseline.train import Baseline
from benchmarks.measurements import load, step_share
from crdkit.config import RunConfig


def test_ours(benchmark: Any, tiny: RunConfig) -> None:
    loaded = load(tiny)
    losses: list[float] = []
    benchmark(lambda: loaded.train(epochs=1, on_epoch=lambda log: losses.append(log["loss"])))
    assert losses[-1] <= losses[0]


def test_baseline(benchmark: Any, tiny: RunConfig) -> None:
    baseline, loader = Baseline(tiny), training_loader(tiny)
    log = benchmark.pedantic(baseline.train_epoch, args=(loader, 0), rounds=3)
    assert log["loss"] > 0


def test_the_parts_of_training_add_up(tiny: RunConfig) -> None:
    found = step_share(tiny, epochs=1)
    seconds = found["seconds"]
    assert seconds["step"] + seconds["other"] == pytest.approx(seconds["train"])
    assert 0 < found["share"] < 1
