"""Runs an exported file in a process of its own: ``python -P _check_worker.py RUNTIME FILE FOLDER THREADS DETECTOR``.

For the runtimes without PyTorch nothing of crdkit is imported, so time and memory are theirs. FOLDER holds the inputs
of each sample as ``<number>.npz``, and gets the outputs as ``<number>.<runtime>.npz``. A line of JSON is printed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], dict[str, np.ndarray]]
TIMED = 20  # runs at least, after the first of each sample


def main(runtime: str, file: Path, folder: Path, threads: int, detector: str) -> dict[str, Any]:
    """Run every sample, and return the version, seconds to load, the median of milliseconds and MiB at most."""
    start = time.perf_counter()
    version, run = RUNTIMES[runtime](file, threads, detector)
    loaded = time.perf_counter() - start
    taken = []
    samples = [path for path in folder.glob("*.npz") if path.stem.isdigit()]
    for inputs in samples:
        arrays = dict(np.load(inputs))
        outputs = run(arrays)
        np.savez(folder / f"{inputs.stem}.{runtime}.npz", **dict[str, Any](outputs))
        for _ in range(-(-TIMED // len(samples))):
            start = time.perf_counter()
            run(arrays)
            taken.append(time.perf_counter() - start)
    return {
        "version": version,
        "load_s": round(loaded, 3),
        "latency_ms": round(1000 * float(np.median(taken)), 2),
        "memory_mib": peak_mib(),
    }


def onnx_runtime(file: Path, threads: int, _detector: str) -> tuple[str, Run]:
    """Return the version of ONNX Runtime, and what runs the file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return onnxruntime.__version__, lambda arrays: dict(zip(names, session.run(names, dict(arrays)), strict=True))


def openvino(file: Path, threads: int, _detector: str) -> tuple[str, Run]:
    """Return the version of OpenVINO, and what runs the file, in float32."""
    import openvino as ov

    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = ov.Core().compile_model(str(file), "CPU", options)
    names = [output.get_any_name() for output in compiled.outputs]
    request = compiled.create_infer_request()

    def run(arrays: Arrays) -> dict[str, np.ndarray]:
        found = request.infer(dict(arrays))
        return {name: np.array(found[name]) for name in names}

    return str(ov.get_version()).partition("-")[0], run


def program(file: Path, threads: int, _detector: str) -> tuple[str, Run]:
    """Return the version of PyTorch, and what runs a program of `torch.export`."""
    import torch

    torch.set_num_threads(threads)
    kept = {"crdkit.json": ""}
    module = torch.export.load(file, extra_files=kept).module()
    description = json.loads(kept["crdkit.json"])
    names = [entry["name"] for entry in description["outputs"]]
    defaults = {entry["name"]: entry.get("default") for entry in description["inputs"]}

    def run(arrays: Arrays) -> dict[str, np.ndarray]:
        given = [
            arrays[name] if name in arrays else np.array(float(value), np.float32) for name, value in defaults.items()
        ]
        with torch.inference_mode():
            found = module([torch.from_numpy(np.array(values)) for values in given])
        return {name: values.numpy() for name, values in zip(names, found, strict=True)}

    return torch.__version__, run


def pytorch(file: Path, threads: int, folder: str) -> tuple[str, Run]:
    """Return the version of PyTorch, and what runs the detector itself on what the file reads."""
    import torch

    from crdkit.detector.export_check import run_detector
    from crdkit.detector.files import load_detector

    torch.set_num_threads(threads)
    detector = load_detector(folder, allow_plugins=True)  # the caller has loaded it
    return torch.__version__, lambda arrays: run_detector(detector, arrays)


RUNTIMES: dict[str, Callable[[Path, int, str], tuple[str, Run]]] = {
    "PyTorch": pytorch,
    "ONNX Runtime": onnx_runtime,
    "OpenVINO": openvino,
    "torch.export": program,
}


def peak_mib() -> float | None:
    """Return the most memory that this process has had, where Linux tells."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return round(int(found[0]) / 1024, 1) if found else None


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5])))
