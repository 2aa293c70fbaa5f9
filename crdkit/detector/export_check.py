"""Compares an exported file with its detector, in every runtime that is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crdkit._core.progress import track
from crdkit.config.build import build_dataset
from crdkit.data import SampleRecord
from crdkit.data.registration import RegisteredSensors
from crdkit.detector import _check_worker
from crdkit.detector._export_graph import view_input
from crdkit.detector.detector import Detector
from crdkit.detector.export import describe_file, files_of
from crdkit.detector.files import load_detector
from crdkit.errors import CrdkitError
from crdkit.views.split import list_split

Arrays = Mapping[str, np.ndarray]
TOLERANCE = 1e-4
"""Of scores, relative."""
_PACKAGES = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}


@dataclass(frozen=True, kw_only=True)
class RuntimeCheck:
    """What one runtime makes of the samples."""

    runtime: str
    version: str
    samples: int
    score_difference: float
    """The largest difference of a score from PyTorch's, relative to that."""
    map_difference: float
    """The largest difference of a fused map from PyTorch's, relative to its highest value."""
    labels_differ: int
    """Samples that are decided otherwise, those within the tolerance of the threshold left out."""
    latency_ms: float
    """Median of one sample, from the file's inputs to its outputs."""
    load_s: float
    memory_mib: float | None
    """The most that its process has had; None where the system does not tell."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for `json.dumps`."""
        return asdict(self)


def check_export(
    folder: Path | str,
    file: Path | str,
    *,
    samples: int = 20,
    threads: int | None = None,
    tolerance: float = TOLERANCE,
    change: Callable[[np.ndarray], np.ndarray] | None = None,
    allow_plugins: bool = False,
) -> list[RuntimeCheck]:
    """Run samples through a detector and its exported file, each in a process of its own.

    The runtimes are PyTorch (the detector), and of an .onnx file ONNX Runtime and, where it is installed, OpenVINO in
    float32; of a .pt2 file the program itself.

    Args:
        folder: of the run or the detector.
        file: that was exported from it.
        samples: of the data that the run names, test samples evenly spread; if there are none, the self-test's.
        threads: of a runtime; None: those that PyTorch has here.
        tolerance: of scores, relative; samples as near to the threshold may be decided otherwise.
        change: what is done to every sensor of the data first, such as another size.
        allow_plugins: import and run the code that the detector names.

    Raises:
        CrdkitError: there is no such detector or file, or a runtime cannot run it.
    """
    detector, target = load_detector(folder, allow_plugins=allow_plugins), Path(file)
    description = describe_file(target)
    names = ["PyTorch", *_runtimes(description["file_format"])]
    with tempfile.TemporaryDirectory(prefix="crdkit-", ignore_cleanup_errors=True) as work:
        count = 0
        for arrays in _inputs(detector, target, description, samples=samples, change=change):
            np.savez(Path(work, f"{count}.npz"), **dict[str, Any](arrays))
            count += 1
        told = {}
        for name in track(names, description="checking", total=len(names)):
            told[name] = _run(name, target, Path(work), threads or torch.get_num_threads(), Path(folder))
        thresholds = detector.thresholds
        limit = None if thresholds is None else thresholds.decide(tuple(detector.views), 0.0).threshold
        return [
            RuntimeCheck(
                runtime=name, samples=count, **_compare(Path(work), name, count, limit, tolerance), **told[name]
            )
            for name in names
        ]


def require_equal(found: Sequence[RuntimeCheck], *, tolerance: float = TOLERANCE) -> None:
    """Refuse a file that a runtime computes other scores or decisions of.

    Raises:
        CrdkitError: there is such a runtime; the message names it.
    """
    for one in found:
        if not one.score_difference <= tolerance or one.labels_differ:
            raise CrdkitError(
                f"{one.runtime} {one.version} differs from PyTorch: scores by {one.score_difference:.2g} of their "
                f"value ({tolerance:.2g} is allowed), {one.labels_differ} of {one.samples} decided otherwise; do not "
                "use the file there"
            )


def run_detector(detector: Detector, arrays: Arrays) -> dict[str, np.ndarray]:
    """Return what a detector makes of a file's inputs for one sample: its score, fused map, and branches' scores."""
    views = {}
    for name, view in detector.views.items():
        given = arrays.get(view_input(name))
        one = (
            view({sensor: arrays[sensor][0] for sensor in view.sensors}, image_size=detector.config.data.image_size)
            if given is None
            else torch.from_numpy(given[0])
        )
        views[name] = one[None]
    with torch.inference_mode():
        maps = detector._predictor.ready()(views.__getitem__)
    scores = {f"score_{name}": values.flatten(1).amax(dim=1) for name, values in maps.branches.items()}
    found = {"score": maps.pred_score, "anomaly_map": maps.anomaly_map[:, None], **scores}
    return {name: values.cpu().numpy() for name, values in found.items()}


def _runtimes(file_format: str) -> list[str]:
    if file_format == "torch":
        return ["torch.export"]
    return [name for name, package in _PACKAGES.items() if importlib.util.find_spec(package) is not None]


def _inputs(
    detector: Detector,
    file: Path,
    description: Mapping[str, Any],
    *,
    samples: int,
    change: Callable[[np.ndarray], np.ndarray] | None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the inputs of each sample, of one sample each."""
    names = [entry["name"] for entry in description["inputs"] if entry["kind"] in ("sensor", "view")]
    extra = {
        entry["name"]: np.ones((1, len(entry["sensors"])), bool)
        for entry in description["inputs"]
        if entry["kind"] == "present"
    }
    found = _records(detector, samples)
    if not found:
        folder = files_of(file)["selftest"]
        try:
            yield {name: np.load(folder / f"{name}.npy") for name in names} | extra
        except (OSError, ValueError) as error:
            raise CrdkitError(f"{folder}: cannot be read: {error}; export the detector again") from error
        return
    dataset = build_dataset(detector.config)
    for record in track(found, description="reading samples", total=len(found)):
        sensors = RegisteredSensors(dataset.read(record, list(detector.sensors)).sensors)
        if change is not None:
            sensors = RegisteredSensors({sensor: change(array) for sensor, array in sensors.items()})
        views = detector.prepare(sensors, name=record.sample_id).views
        known = {**sensors, **{view_input(name): view.numpy() for name, view in views.items()}}
        yield {name: known[name][None] for name in names} | extra


def _records(detector: Detector, count: int) -> list[SampleRecord]:
    """Return samples of the data that the configuration names, which have all sensors; none if they are not here."""
    try:
        dataset = build_dataset(detector.config)
        listed = [*list_split(dataset, "test", views=detector.views)]
    except CrdkitError:
        return []
    complete = [record for record in listed if all(path.is_file() for path in record.files.values())]
    chosen = np.linspace(0, len(complete) - 1, min(count, len(complete))).round().astype(int)
    return [complete[place] for place in chosen]


def _run(name: str, file: Path, work: Path, threads: int, folder: Path) -> dict[str, Any]:
    script = str(Path(_check_worker.__file__).absolute())
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)  # that crdkit was found on
    done = subprocess.run(
        [sys.executable, "-P", script, name, str(file), str(work), str(threads), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it has stopped"]
        raise CrdkitError(f"{file}: {name} cannot run it: {lines[-1][:300]}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _compare(work: Path, name: str, count: int, limit: float | None, tolerance: float) -> dict[str, Any]:
    scores, maps, differ = [0.0], [0.0], 0
    for place in range(count):
        expected, found = (dict(np.load(work / f"{place}.{one}.npz")) for one in ("PyTorch", name))
        keys = [key for key in expected if key.startswith("score")]
        scores += [float((np.abs(found[key] - expected[key]) / _size(expected[key])).max()) for key in keys]
        difference = np.abs(found["anomaly_map"] - expected["anomaly_map"]).max()
        maps.append(float(difference / _size(expected["anomaly_map"]).max()))
        score = float(expected["score"][0])
        if "label" in found and (limit is None or abs(score - limit) > tolerance * abs(limit)):
            differ += bool(found["label"][0]) != (limit is not None and score > limit)
    return {"score_difference": max(scores), "map_difference": max(maps), "labels_differ": int(differ)}


def _size(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(np.abs(values), 1e-9))
