"""One way to run a crdkit detector, from files to a decision; `benchmarks.latency` starts it in a process of its own.

python -m benchmarks.latency_ours WAY JOB.json      # prints one line of JSON
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from crdkit.data.images import read_file
from crdkit.views import views

Predict = Callable[[Mapping[str, str]], tuple[float, bool]]
"""From files by sensor to score and label, the map included."""


def in_python(job: Mapping[str, Any], *, compiled: bool) -> Predict:
    """Return `Detector.predict`."""
    import torch

    from crdkit.detector import Detector

    torch.set_num_threads(job["threads"])
    detector = Detector.load(job["detector"], device="cpu")
    if compiled:
        detector.compile()

    def predict(files: Mapping[str, str]) -> tuple[float, bool]:
        found = detector.predict({sensor: files[sensor] for sensor in detector.sensors})
        return found.score, bool(found.label)

    return predict


def exported(job: Mapping[str, Any], run: Callable[[dict[str, np.ndarray]], tuple[np.ndarray, np.ndarray]]) -> Predict:
    """Return a program that runs an exported file without PyTorch: inputs are read side by side."""
    about = json.loads(Path(job["onnx"]).with_suffix(".json").read_text(encoding="utf-8"))
    entries = [entry for entry in about["inputs"] if entry["kind"] in ("sensor", "view")]
    made_by = {
        entry["name"]: views.build(views.build_config(entry["options"])) for entry in entries if "options" in entry
    }
    pool = ThreadPoolExecutor(len(entries))

    def make(entry: Mapping[str, Any], files: Mapping[str, str]) -> np.ndarray:
        if entry["kind"] == "sensor":
            return read_file(Path(files[entry["sensor"]]))[None]
        sensors = {sensor: read_file(Path(files[sensor])) for sensor in entry["sensors"]}
        return made_by[entry["name"]].array(sensors, image_size=about["image_size"])[None]

    def predict(files: Mapping[str, str]) -> tuple[float, bool]:
        arrays = pool.map(lambda entry: make(entry, files), entries)
        score, label = run(dict(zip([entry["name"] for entry in entries], arrays, strict=True)))
        return float(score[0]), bool(label[0])

    return predict


def in_onnx_runtime(job: Mapping[str, Any]) -> Predict:
    """Return the exported file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(job["onnx"], options, providers=["CPUExecutionProvider"])

    def run(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        score, label, _, _ = session.run(["score", "label", "anomaly_map", "mask"], arrays)
        return score, label

    return exported(job, run)


def in_openvino(job: Mapping[str, Any]) -> Predict:
    """Return the exported file in OpenVINO, in float32: bfloat16 moves scores by a fifth."""
    import openvino

    hints = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": job["threads"],
    }
    request = openvino.Core().compile_model(job["onnx"], "CPU", hints).create_infer_request()

    def run(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        request.infer(arrays, share_inputs=True)
        return request.get_tensor("score").data, request.get_tensor("label").data

    return exported(job, run)


WAYS: Mapping[str, Callable[[Mapping[str, Any]], Predict]] = {
    "crdkit": lambda job: in_python(job, compiled=False),
    "crdkit, compiled": lambda job: in_python(job, compiled=True),
    "ONNX Runtime": in_onnx_runtime,
    "OpenVINO": in_openvino,
}


def measure(job: Mapping[str, Any], start: Callable[[Mapping[str, Any]], Predict]) -> dict[str, Any]:
    """Return the seconds of every sample, after each was seen once, and what the process took."""
    began = time.perf_counter()
    predict = start(job)
    found = [predict(files) for files in job["samples"]]
    ready = time.perf_counter() - began
    seconds = []
    for files in job["samples"] * job["repeats"]:
        began = time.perf_counter()
        predict(files)
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds, "found": found, "ready_seconds": ready, "peak_bytes": peak_bytes()}


def peak_bytes() -> int:
    """Return the most memory that this program held, as `benchmarks.memory` does, but without importing PyTorch."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    job = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["threads"]])
    print(json.dumps(measure(job, WAYS[sys.argv[1]])))


if __name__ == "__main__":
    main()
