"""`crdkit export --check`: what it compares, and that it notices a file that is not its detector."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from crdkit.cli import main
from crdkit.detector import _check_worker
from crdkit.detector._onnx import OLDEST_TORCH
from crdkit.detector.export import is_export_of
from crdkit.detector.export_check import RuntimeCheck, check_export, require_equal
from crdkit.errors import CrdkitError

pytestmark = pytest.mark.skipif(torch.__version__ < OLDEST_TORCH, reason=f"exporting asks for torch {OLDEST_TORCH}")


@pytest.fixture
def alone(monkeypatch):
    """Runtimes run in this process, which spares the start of another for each."""

    def run(name, file, work, threads, folder):
        return _check_worker.main(name, file, work, threads, str(folder))

    monkeypatch.setattr("crdkit.detector.export_check._run", run)
    monkeypatch.setattr("crdkit.detector._check_worker.TIMED", 1)


@pytest.mark.usefixtures("alone")
def test_the_command_compares_what_is_there_on_the_runs_own_samples(finished, exported, capsys):
    before = exported.stat().st_mtime_ns
    assert main(["export", str(finished), "--out", str(exported), "--check", "--json"]) == 0
    assert exported.stat().st_mtime_ns == before
    found = {one["runtime"]: one for one in json.loads(capsys.readouterr().out)["check"]}
    assert {"PyTorch", "ONNX Runtime"} <= set(found)
    for one in found.values():
        assert one["samples"] == 15
        assert one["score_difference"] < 1e-4
        assert one["labels_differ"] == 0
        assert one["latency_ms"] > 0
    assert found["PyTorch"]["score_difference"] == 0
    assert main(["export", str(finished), "--out", str(exported), "--check"]) == 0
    table = capsys.readouterr().out
    assert "15 samples, compared with PyTorch" in table
    assert "ONNX Runtime " in table


@pytest.mark.usefixtures("alone")
def test_a_file_of_other_weights_is_noticed(finished, exported, tmp_path, capsys):
    file, other = shutil.copytree(exported.parent, tmp_path / "out") / exported.name, tmp_path / "detector"
    shutil.copytree(finished / "detector", other)
    assert is_export_of(file, other)
    scores = [one.score_difference for one in check_export(other, file)]  # on the self-test's sample
    assert max(scores) < 1e-4
    _change(file)
    assert main(["export", str(other), "--out", str(file), "--check"]) == 2
    told = capsys.readouterr()
    assert "ONNX Runtime" in told.out
    assert "differs from PyTorch: scores by" in told.err


def _change(file):
    """Double the calibrated scale of a branch in the file, as other weights would."""
    import numpy as np
    import onnx

    model = onnx.load(file)
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    largest.raw_data = (2 * np.frombuffer(largest.raw_data, np.float32)).tobytes()
    onnx.save(model, file)


def test_a_runtime_runs_in_a_process_of_its_own(finished, exported, tmp_path):
    import numpy as np

    from crdkit.detector.export_check import _inputs, _run
    from crdkit.detector.files import load_detector

    description = json.loads(exported.with_suffix(".json").read_text(encoding="utf-8"))
    (arrays,) = _inputs(load_detector(finished / "detector"), exported, description, samples=3, change=None)
    np.savez(tmp_path / "0.npz", **arrays)
    told = _run("ONNX Runtime", exported, tmp_path, 1, finished)
    assert told["memory_mib"] is None or 20 < told["memory_mib"] < 600
    expected = np.load(exported.with_suffix(".selftest") / "score.npy")
    np.testing.assert_allclose(np.load(tmp_path / "0.ONNX Runtime.npz")["score"], expected, rtol=1e-4)
    with pytest.raises(CrdkitError, match=r"nowhere.onnx: ONNX Runtime cannot run it: .*nowhere"):
        _run("ONNX Runtime", tmp_path / "nowhere.onnx", tmp_path, 1, finished)


def test_what_is_too_different_is_refused():
    known = {"runtime": "ONNX Runtime", "version": "1", "samples": 20, "map_difference": 0.0, "memory_mib": None}
    known |= {"latency_ms": 1.0, "load_s": 1.0}
    require_equal([RuntimeCheck(**known, score_difference=9e-5, labels_differ=0)])
    for score, labels in ((2e-4, 0), (0.0, 1), (float("nan"), 0)):
        with pytest.raises(CrdkitError, match=r"ONNX Runtime 1 differs from PyTorch.*do not use the file there"):
            require_equal([RuntimeCheck(**known, score_difference=score, labels_differ=labels)])
