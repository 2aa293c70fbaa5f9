"""One whole job (load, train, calibrate, evaluate) in a process of its own, so that its peak memory is its own.

    python -m benchmarks.job ours CONFIG.yaml OUT
    python -m benchmarks.job baseline CONFIG.yaml OUT [--epochs-measured 3]

It writes OUT/job.json. Seconds count from the parsed configuration to the last metric; starting Python does not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from benchmarks.memory import largest_child_bytes, peak_bytes, peak_device_bytes, resident_bytes
from crdkit.config import RunConfig

Program = Literal["ours", "baseline"]


def run_job(
    program: Program, config: RunConfig, out: Path, *, epochs_measured: int | None = None, timeout: float | None = None
) -> dict[str, Any]:
    """Run one job in a new process and return its job.json.

    Raises:
        RuntimeError: the process failed; the message ends with what it printed last.
        subprocess.TimeoutExpired: it took longer than ``timeout`` seconds.
    """
    out.mkdir(parents=True)
    (out / "job.yaml").write_text(config.to_yaml(), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.job", program, str(out / "job.yaml"), str(out)]
    if epochs_measured is not None:
        command += ["--epochs-measured", str(epochs_measured)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(f"{program}: exit code {done.returncode}: {done.stderr.strip()[-1500:]}")
    result: dict[str, Any] = json.loads((out / "job.json").read_text(encoding="utf-8"))
    return result


def ours(config: RunConfig, out: Path) -> dict[str, Any]:
    """Do what `crdkit train` does, run directory and report included."""
    from crdkit.runs.directory import read_metrics
    from crdkit.runs.fit import fit

    start = time.perf_counter()
    detector = fit(config, out / "run")
    total = time.perf_counter() - start
    metrics = read_metrics(out / "run")
    lines = (out / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "seconds": {**metrics["seconds"], "total": total},
        "epoch_seconds": [json.loads(line)["seconds"] for line in lines],
        "resident_bytes": resident_bytes(detector, metrics["counts"]),
        "metrics": metrics["aggregate"],
    }


def baseline(config: RunConfig, *, epochs_measured: int | None) -> dict[str, Any]:
    """Train and evaluate the baseline; with ``epochs_measured``, its other epochs are assumed to take as long."""
    from benchmarks.baseline.data import training_loader, workers
    from benchmarks.baseline.predict import Predictor, evaluate
    from benchmarks.baseline.train import Baseline

    start = time.perf_counter()
    trained = Baseline(config)
    loader = training_loader(config)
    built = time.perf_counter()
    epochs = config.training.epochs
    logs = [trained.train_epoch(loader, epoch) for epoch in range(min(epochs, epochs_measured or epochs))]
    seconds = [log["seconds"] for log in logs]
    before = time.perf_counter()
    predictor = Predictor(trained)
    predictor.calibrate()
    metrics = evaluate(predictor)["metrics"]
    evaluation = time.perf_counter() - before
    training = sum(seconds) + (epochs - len(seconds)) * statistics.median(seconds)
    return {
        "seconds": {
            "load": built - start,
            "train": training,
            "evaluate": evaluation,
            "total": built - start + training + evaluation,
        },
        "epoch_seconds": seconds,
        "extrapolated_from_epochs": len(seconds) if len(seconds) < epochs else None,
        "workers": workers(),
        "metrics": metrics,
    }


def summary(jobs: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return medians, the ratio of the whole job, and whether memory stays within the baseline's and what is kept."""
    total = {name: statistics.median(job["seconds"]["total"] for job in done) for name, done in jobs.items()}
    peak = {name: max(job["peak_bytes"] for job in done) for name, done in jobs.items()}
    kept = sum(jobs["ours"][0]["resident_bytes"].values())
    return {
        "median_seconds": total,
        "ratio": total["baseline"] / total["ours"],
        "peak_bytes": peak,
        "resident_bytes": kept,
        "peak_within_baseline_plus_resident": peak["ours"] <= peak["baseline"] + kept,
        "extrapolated_from_epochs": jobs["baseline"][0]["extrapolated_from_epochs"],
        "jobs": jobs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=("ours", "baseline"))
    parser.add_argument("config")
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs-measured", type=int, help="of the baseline; the others are assumed to take as long")
    arguments = parser.parse_args()
    config = RunConfig.from_yaml(arguments.config)
    if arguments.program == "ours":
        result = ours(config, arguments.out)
    else:
        result = baseline(config, epochs_measured=arguments.epochs_measured)
    result |= {
        "program": arguments.program,
        "epochs": config.training.epochs,
        "peak_bytes": peak_bytes(),
        "largest_child_bytes": largest_child_bytes(),
        "peak_device_bytes": peak_device_bytes(),
    }
    (arguments.out / "job.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
