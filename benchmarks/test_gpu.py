"""Every part of the GPU benchmark runs: with tiny settings, on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import gpu, gpu_page
from benchmarks.parts import Parts, done, not_done

PARTS = {
    "ceilings",
    "data",
    "step",
    "synchronisations",
    "step_variants",
    "job_baseline",
    "job_ours",
    "prediction",
    "agreement",
    "precision",
    "ten_categories",
}


@pytest.mark.slow
def test_every_part_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRDKIT_CACHE", "")  # which the command takes away: the tests after this one need it
    gpu.main(["--smoke", "--ten-categories", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert not not_done(result)
    assert set(result["parts"]) == PARTS
    assert result["parts"]["agreement"]["largest_relative_loss_difference"] <= 1e-5
    assert result["parts"]["job_baseline"]["extrapolated_from_epochs"] == 1
    page = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "Smoke test" in page
    assert "extrapolated from 1 epochs" in page


def test_the_page_names_the_goals_beside_the_figures() -> None:
    times = {"samples_per_second": 1.0, "single_p50_seconds": 2.0}
    step = {"precision": "bf16", "step_seconds": 1.0, "gflop_per_sample": 1.0, "tflops": 1.0, "share_of_matmul": 0.5}
    job = {"extrapolated_from_epochs": None, "peak_device_bytes": None, "ratio": 3.0}
    parts = {
        "step": step,
        "job_ours": {**job, "seconds": {"whole_job": 1.0}, "ten_categories_estimate_seconds": 10.0},
        "prediction": {"batch": 32, "fp32": times, "bf16": times, "tf32": True},
    }
    result = {"smoke": False, "environment": {"gpu": "a card"}, "epochs": 200, "parts": parts}
    page = gpu_page.markdown(result)
    for goal in gpu_page.GOALS.values():
        assert f" | {goal} |" in page
    assert "host to host, fp32, convolutions in TF32 | 1 samples/s | >= 800 samples/s |" in page
    assert "H200" in page
    assert not any(gpu_page.goal_of(row, {"smoke": True}) for row in gpu_page.GOALS)


def test_a_failing_part_and_one_that_does_not_fit_leave_the_others(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "results" / "parts.json", {}, budget_s=5)

    def fail() -> dict[str, int]:
        raise RuntimeError("no kernel image")

    assert parts.run("fails", fail) is None
    assert parts.run("long", lambda: {"value": 1}, needs_s=1000) is None
    assert parts.run("runs", lambda: {"value": 2}) == {"value": 2}
    result = json.loads(parts.file.read_text(encoding="utf-8"))
    assert result["parts"]["fails"]["failed"] == "RuntimeError: no kernel image"
    assert "needs about 1000 s" in result["parts"]["long"]["skipped"]
    assert done(result, "runs") is not None
    assert [line.split(":")[0] for line in not_done(result)] == ["- fails", "- long"]
