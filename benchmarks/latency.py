"""Latency of one prediction, from files to a decision: crdkit, its exported file, and anomalib's PatchCore and PaDiM.

    python -m benchmarks.latency data.root=ROOT --category NAME --peers DIR

DIR is the peers' environment; it is made if it is not there (benchmarks/peers/environment.sh, 7 GB). Without
``--peers`` crdkit alone is measured. `quick` is trained for one epoch, as latency does not depend on what was learnt,
with RGB and depth, and with RGB alone, which is what the peers see. Every way runs in a process of its own, in turns,
on the given number of cores. It writes latency.json and latency.md to benchmarks/results or ``--out``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import crdkit
from benchmarks.latency_ours import WAYS
from benchmarks.machine import environment
from crdkit._core.progress import track
from crdkit.config import RunConfig, load_config
from crdkit.config.build import build_dataset

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "benchmarks" / "peers"
SENSORS = {"RGB and depth": (), "RGB": ("modalities.depth=null",)}
PEER_WAYS = ("PatchCore,PyTorch", "PatchCore,OpenVINO", "PaDiM,PyTorch", "PaDiM,OpenVINO")
BACKBONE, PADIM_FEATURES = "tf_efficientnet_lite0", 100


def make_detector(config: RunConfig, folder: Path) -> dict[str, str]:
    """Train for an epoch, export, and return where both lie."""
    detector = crdkit.fit(config)
    detector.save(folder / "detector")
    return {"detector": str(folder / "detector"), "onnx": str(detector.export(folder / "part.onnx"))}


def write_teacher(config: RunConfig, file: Path) -> None:
    """Write the weights of crdkit's teacher by timm's names, all stages."""
    import timm

    from crdkit.model.encoders.efficientnet_lite import EfficientNetLite0, load_in_order, weight_file

    network = timm.create_model(BACKBONE, pretrained=False)
    load_in_order(network, weight_file(EfficientNetLite0.package, sha256=EfficientNetLite0.sha256))
    torch.save(network.state_dict(), file)


def call(command: Sequence[object]) -> dict[str, Any]:
    """Run a program and return the JSON in the last line that it prints."""
    done = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(str(part) for part in command)}\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def jobs_of(config: RunConfig, options: argparse.Namespace, work: Path) -> dict[str, Path]:
    """Train what is measured and return the job file of every set of sensors."""
    dataset = build_dataset(config)
    samples = [record.files for record in dataset.records("test")[: options.samples]]
    size = config.data.image_size
    shared = {
        "samples": [{sensor: str(file) for sensor, file in files.items()} for files in samples],
        "train": [str(record.files["rgb"]) for record in dataset.records("train")],
        "threads": options.threads,
        "repeats": options.repeats,
        "work": str(work),
        "teacher": str(work / "teacher.pth"),
        "backbone": BACKBONE,
        "padim_features": PADIM_FEATURES,
        "input_size": [size, size],
    }
    jobs = {}
    for name, overrides in SENSORS.items():
        folder = work / name.replace(" ", "-")
        folder.mkdir()
        job = shared | make_detector(config.with_overrides(*overrides), folder)
        jobs[name] = folder / "job.json"
        jobs[name].write_text(json.dumps(job), encoding="utf-8")
    return jobs


def programs(jobs: Mapping[str, Path], peers: Path | None) -> dict[str, list[object]]:
    """Return the command of every way."""
    ours = {
        f"{way}, {sensors}": [sys.executable, "-m", "benchmarks.latency_ours", way, job]
        for sensors, job in jobs.items()
        for way in WAYS
    }
    if peers is None:
        return dict(ours)
    theirs = {
        f"anomalib {way.replace(',', ', ')}, RGB": [
            peers / "bin/python",
            PEERS / "anomalib_latency.py",
            way,
            jobs["RGB"],
        ]
        for way in PEER_WAYS
    }
    return {**ours, **theirs}


def measure(commands: Mapping[str, Sequence[object]], rounds: int) -> dict[str, dict[str, Any]]:
    """Run every program, in turns, and return what each took."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    turns = [name for turn in range(rounds) for name in (list(commands) if turn % 2 == 0 else reversed(list(commands)))]
    for name in track(turns, description="measuring", total=len(turns)):
        results[name].append(call(commands[name]))
    return {name: summarise(found) for name, found in results.items()}


def summarise(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return quantiles over all rounds, the medians of every round, and the scores."""
    seconds = sorted(second for one in found for second in one["seconds"])
    return {
        "p50_ms": 1000 * statistics.median(seconds),
        "p95_ms": 1000 * seconds[min(round(0.95 * len(seconds)), len(seconds) - 1)],
        "rounds_p50_ms": [1000 * statistics.median(one["seconds"]) for one in found],
        "predictions": len(seconds),
        "ready_seconds": statistics.median(one["ready_seconds"] for one in found),
        "peak_mib": max(one["peak_bytes"] for one in found) / 2**20,
        "scores": [score for score, _ in found[0]["found"]],
        "labels": [label for _, label in found[0]["found"]],
    }


def as_markdown(result: Mapping[str, Any]) -> str:
    """Return the table."""
    lines = [
        f"# One prediction, from files to a decision, {result['threads']} cores",
        "",
        "| what | p50, ms | p95, ms | median of each round, ms | ready after, s | memory, MiB |",
        "|---|--:|--:|---|--:|--:|",
    ]
    for name, found in sorted(result["ways"].items(), key=lambda entry: entry[1]["p50_ms"]):
        rounds = ", ".join(f"{value:.1f}" for value in found["rounds_p50_ms"])
        lines.append(
            f"| {name} | {found['p50_ms']:.1f} | {found['p95_ms']:.1f} | {rounds} | {found['ready_seconds']:.1f} "
            f"| {found['peak_mib']:.0f} |"
        )
    size, samples = result["image_size"], f"{result['samples']} test samples of {result['category']}"
    seen = f"each seen once before the clock runs, then {result['repeats']} times, by {result['rounds']} processes"
    peers = f"layers and coreset are its defaults, PaDiM keeps {PADIM_FEATURES} features"
    notes = [
        "Files are in the page cache. A prediction reads them, and ends with score, label and map in memory.",
        f"`{result['preset']}`, {size} x {size}, trained for {result['epochs']} epoch(s). {samples}, {seen}.",
        f"anomalib sees RGB alone, with the same teacher; {peers}; see benchmarks/peers/anomalib_latency.py.",
        "OpenVINO and ONNX Runtime compute in float32.",
    ]
    machine = ", ".join(f"{key} {value}" for key, value in result["environment"].items())
    versions = ", ".join(f"{key} {value}" for key, value in result["peers"].items())
    lines += ["", *(f"- {note}" for note in notes), "", machine + (f"; peers: {versions}" if versions else "")]
    return "\n".join(lines) + "\n"


def make_environment(peers: Path) -> Path:
    """Return the absolute path of the peers' environment; make it if it is not there."""
    if not (peers / "bin/python").exists():
        subprocess.run(["bash", str(PEERS / "environment.sh"), str(peers)], check=True)
    return peers.absolute()


def peer_versions(peers: Path | None) -> dict[str, str]:
    """Return versions in the peers' environment."""
    if peers is None:
        return {}
    program = (
        "import json; from importlib.metadata import version; "
        "print(json.dumps({n: version(n) for n in ('anomalib', 'torch', 'timm', 'openvino')}))"
    )
    return call([peers / "bin/python", "-c", program])


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything and return what is written."""
    overrides = (f"data.category={options.category}", f"training.epochs={options.epochs}", "training.device=cpu")
    config = load_config(options.preset).with_overrides(*options.overrides, *overrides)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="latency-") as folder:
        work = Path(folder)
        jobs = jobs_of(config, options, work)
        if options.peers is not None:
            write_teacher(config, work / "teacher.pth")
            call([options.peers / "bin/python", PEERS / "anomalib_latency.py", "prepare", jobs["RGB"]])
        ways = measure(programs(jobs, options.peers), options.rounds)
    return {
        "environment": environment(),
        "peers": peer_versions(options.peers),
        "preset": options.preset,
        "category": options.category,
        "epochs": options.epochs,
        "image_size": config.data.image_size,
        "threads": options.threads,
        "samples": options.samples,
        "repeats": options.repeats,
        "rounds": options.rounds,
        "ways": ways,
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--category", required=True)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--peers", type=Path, help="environment of anomalib, made if it is not there")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--samples", type=int, default=20, help="test samples")
    parser.add_argument("--repeats", type=int, default=3, help="of every sample, in a round")
    parser.add_argument("--rounds", type=int, default=3, help="processes of every way")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.peers is not None:
        options.peers = make_environment(options.peers)
    result = run(options)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "latency.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (options.out / "latency.md").write_text(as_markdown(result), encoding="utf-8")
    print(as_markdown(result))


if __name__ == "__main__":
    main()
