"""A whole job, and the commands that compare whole jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cpu, job, scaling, scaling_figure
from benchmarks.setup import TINY
from crdkit.config import RunConfig


def test_ours(benchmark: Any, tiny: RunConfig, tmp_path: Path) -> None:
    folders = iter(range(100))
    done = benchmark.pedantic(lambda: job.ours(tiny, tmp_path / str(next(folders))), rounds=2)
    assert done["resident_bytes"]["inputs"] == 24 * 64 * 64 * 4 * (3 + 1)  # samples, pixels, float32, channels


def test_baseline(benchmark: Any, tiny: RunConfig) -> None:
    done = benchmark.pedantic(job.baseline, args=(tiny,), kwargs={"epochs_measured": 1}, rounds=1)
    assert done["extrapolated_from_epochs"] == 1
    assert done["seconds"]["train"] == pytest.approx(2 * done["epoch_seconds"][0])


@pytest.mark.slow
def test_the_cpu_command_writes_both_files(tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRDKIT_CACHE", "")  # which the command takes away: the tests after this one need it
    overrides = [f"data.root={tiny.data.root}", "training.precision=fp32", *TINY]
    options = [*overrides, "--category", "biscuit", "--epochs", "2", "--rounds", "1"]
    cpu.main([*options, "--predictions", "1", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "cpu.json").read_text(encoding="utf-8"))
    assert set(result["parts"]) == {"epoch", "step_share", "loading", "prediction", "metrics", "job"}
    losses = result["parts"]["epoch"]["loss_of_first_epoch"]
    assert losses["ours"] == pytest.approx(losses["baseline"], rel=1e-4)
    assert str(tiny.data.root) not in (tmp_path / "cpu.json").read_text(encoding="utf-8")
    page = (tmp_path / "cpu.md").read_text(encoding="utf-8")
    assert "whole job: load, 2 epochs" in page
    assert "students train in fp32" in page
    assert result["parts"]["prediction"]["p50_seconds"].keys() == {"ours", "compiled", "baseline"}


def test_the_figure_is_drawn_from_a_measurement(tmp_path: Path) -> None:
    result = scaling.measure(sizes=(64,), counts=(1,), samples=(4,), image_size=64, epochs=1)
    scaling_figure.draw(result, tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_bytes()
    scaling_figure.draw(result, tmp_path / "again.svg")
    assert drawn.startswith(b"<?xml")
    assert (tmp_path / "again.svg").read_bytes() == drawn
