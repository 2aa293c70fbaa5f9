"""Latency from files to a decision: every way of crdkit decides alike, and the table shows what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import latency, latency_ours
from crdkit.config import RunConfig
from crdkit.config.build import build_dataset

NEEDS = {"crdkit, compiled": "onnxruntime", "ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}


@pytest.fixture(scope="module")
def job(tiny: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the job of a tiny detector with RGB and depth."""
    pytest.importorskip("onnxruntime")
    if torch.__version__ < "2.7":
        pytest.skip("exporting asks for torch 2.7")
    samples = [{name: str(file) for name, file in r.files.items()} for r in build_dataset(tiny).records("test")[:2]]
    shared = {"samples": samples, "threads": torch.get_num_threads(), "repeats": 2}
    return shared | latency.make_detector(tiny, tmp_path_factory.mktemp("latency"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # OpenVINO's own
def test_every_way_decides_alike(job: dict[str, Any]) -> None:
    ways = {way: start for way, start in latency_ours.WAYS.items() if way != "crdkit, compiled"}  # tested elsewhere
    ways = {way: start for way, start in ways.items() if way not in NEEDS or pytest.importorskip(NEEDS[way])}
    found = {way: latency_ours.measure(job, start) for way, start in ways.items()}
    scores = {way: [score for score, _ in one["found"]] for way, one in found.items()}
    for way in ways:
        assert scores[way] == pytest.approx(scores["crdkit"], rel=1e-4)
        assert [label for _, label in found[way]["found"]] == [label for _, label in found["crdkit"]["found"]]
    assert all(len(one["seconds"]) == 4 and one["peak_bytes"] > 0 for one in found.values())
    summary = latency.summarise([found["crdkit"]] * 3)
    assert summary["predictions"] == 12
    assert len(summary["rounds_p50_ms"]) == 3


def test_one_process_for_each_way(job: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text(json.dumps(job | {"threads": 1}))
    commands = latency.programs({"RGB and depth": file}, None)
    assert list(commands) == [f"{way}, RGB and depth" for way in latency_ours.WAYS]
    found = latency.measure({"onnx": commands["ONNX Runtime, RGB and depth"]}, rounds=1)
    assert found["onnx"]["predictions"] == 4


def test_peers_are_asked_for_in_their_environment(tmp_path: Path) -> None:
    commands = latency.programs({"RGB": tmp_path / "job.json"}, tmp_path / "peers")
    (first, *_), *others = [command for name, command in commands.items() if name.startswith("anomalib")]
    assert first == tmp_path / "peers/bin/python"
    assert len(others) == 3


def test_the_table_is_ordered_by_latency() -> None:
    one = {"p95_ms": 9.0, "rounds_p50_ms": [5.0], "ready_seconds": 1.0, "peak_mib": 100.0}
    shared = dict.fromkeys(("preset", "category", "epochs", "image_size", "threads", "samples", "repeats", "rounds"), 1)
    ways = {"slow": one | {"p50_ms": 8.25}, "quick": one | {"p50_ms": 5.0}}
    text = latency.as_markdown({**shared, "environment": {"cpu": "x"}, "peers": {"anomalib": "2"}, "ways": ways})
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows == [[" quick ", " 5.0 "], [" slow ", " 8.2 "]]
    assert text.endswith("cpu x; peers: anomalib 2\n")
