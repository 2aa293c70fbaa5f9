"""The same seed gives the same bytes; other threads, batch sizes, runtimes and devices differ by rounding only.

The tolerances are those of docs/reliability.md. With ``-s`` every test prints the largest difference that it saw.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import crdkit
from crdkit._core.progress import set_quiet
from crdkit.config.build import build_dataset
from crdkit.detector import Detector
from crdkit.detector._onnx import OLDEST_TORCH

PREDICTED = 1e-5
"""Largest difference of a map or a score, relative to the largest value of the map: rounding in another order."""
TRAINED = 0.1
"""The same of the branches' maps after two trainings that rounded in another order: every step adds to it."""
FILES = ("detector/model.safetensors", "detector/config.json", "scores.csv")


def difference(predictions, others):
    """Return the largest difference of scores and of maps, relative to the score or to the map's largest value."""
    largest = 0.0
    for one, other in zip(predictions, others, strict=True):
        assert one.missing == other.missing
        assert one.maps.keys() == other.maps.keys()
        for mine, theirs in ((one.anomaly_map, other.anomaly_map), *((one.maps[n], other.maps[n]) for n in one.maps)):
            largest = max(largest, float(np.abs(mine - theirs).max() / np.abs(theirs).max()))
        for mine, theirs in ((one.score, other.score), *((one.scores[n], other.scores[n]) for n in one.scores)):
            largest = max(largest, abs(mine - theirs) / abs(theirs))
    print(f"largest difference: {largest:.1e}")
    return largest


def scores_of(folder):
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        return [[float(row[key]) for key in row if key.startswith("pred_score")] for row in csv.DictReader(file)]


@pytest.fixture
def threads():
    """Sets the number of threads, and takes it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def predicted(detector, samples):
    """What the detector says of the samples, one at a time, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [detector.predict(sample) for sample in samples]
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("without_reports")
def test_the_same_seed_gives_the_same_bytes_in_another_process(tiny, finished, tmp_path):
    """Another process, working directory and hash seed; within a process: `test_run.py`."""
    (tmp_path / "run.yaml").write_text(tiny.to_yaml(), encoding="utf-8")
    code = "import crdkit.runs.directory as d; d.write_report = lambda *_args, **_options: None; "
    code += "import crdkit, sys; crdkit.fit(crdkit.RunConfig.from_yaml(sys.argv[1]), sys.argv[2])"
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONHASHSEED": "7"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", code, "run.yaml", "run"]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
    for name in FILES:
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_prediction_repeats_bit_for_bit(detector, samples, predicted, threads):
    threads(1)
    for one, other in zip(predicted, [detector.predict(sample) for sample in samples], strict=True):
        assert one.score == other.score
        assert one.anomaly_map.tobytes() == other.anomaly_map.tobytes()
        assert all(one.maps[name].tobytes() == other.maps[name].tobytes() for name in one.maps)


@pytest.mark.parametrize("count", [2, 4])
def test_threads_change_rounding_only(detector, samples, predicted, threads, count):
    threads(count)
    assert difference([detector.predict(sample) for sample in samples], predicted) <= PREDICTED


@pytest.mark.parametrize("batch_size", [2, 5])
def test_batch_sizes_change_rounding_only(detector, samples, predicted, threads, batch_size):
    threads(1)
    assert difference(list(detector.predict_stream(iter(samples), batch_size=batch_size)), predicted) <= PREDICTED


def test_predictions_are_those_that_were_evaluated(tiny, finished, detector):
    """`predict` folds the networks, and `fit` and `evaluate` run them as they were trained."""
    dataset = build_dataset(tiny)
    predictions = [detector.predict(dataset.read(record).sensors) for record in dataset.records("test")]
    found = np.array([[one.score, *one.scores.values()] for one in predictions])
    expected = np.array(scores_of(finished))
    largest = np.abs(found / expected - 1).max()
    print(f"largest difference: {largest:.1e}")
    assert largest <= PREDICTED


@pytest.mark.skipif(torch.__version__ < OLDEST_TORCH, reason=f"compile asks for torch {OLDEST_TORCH}")
@pytest.mark.usefixtures("export_once")
def test_compiled_predictions_differ_by_rounding_only(finished, samples, predicted, threads):
    threads(1)
    compiled = Detector.load(finished / "detector", device="cpu").compile()
    assert difference([compiled.predict(sample) for sample in samples], predicted) <= PREDICTED


@pytest.mark.parametrize("count", [2, 4])
def test_trainings_on_other_numbers_of_threads_stay_close(tiny, samples, threads, count):
    found = []
    for number in (1, count):
        threads(number)
        detector = crdkit.fit(tiny.with_overrides("training.precision=fp32"))
        threads(1)
        found.append([detector.predict(sample).maps for sample in samples])
    largest = max(
        float(np.abs(mine[name] - theirs[name]).max() / theirs[name].max())
        for mine, theirs in zip(*found, strict=True)
        for name in mine
    )
    print(f"largest difference: {largest:.1e}")
    assert largest <= TRAINED


@pytest.mark.gpu
def test_a_gpu_predicts_what_the_cpu_predicts(finished, samples, predicted, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    on_gpu = Detector.load(finished / "detector", device="cuda")
    assert difference([on_gpu.predict(sample) for sample in samples], predicted) <= 1e-4


@pytest.mark.gpu
def test_the_same_seed_gives_the_same_bytes_on_a_gpu(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    set_quiet(True)
    for name in ("one", "other"):
        crdkit.fit(tiny.with_overrides("training.device=cuda"), tmp_path / name)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name
