"""What a sensor that is registered badly costs: I-AUROC and AU-PRO against a shift of one sensor, by graph.

    python -m benchmarks.shift --out OUT [--category gear biscuit capsule] [--seeds 0 1 2] [--when test both]

Synthetic data with three sensors (RGB, depth, infrared), 256 x 256 on the disk, brought to --image-size. The scan is
shifted right by 0 to 16 pixels of the 256, with ``data.registration``: "test" shifts the samples that are tested,
as if a camera had moved after the training; "both" shifts all samples, as if it had never been registered.
``--real FOLDER`` takes cable_gland of MVTec 3D-AD instead, without infrared. Detectors in OUT are not trained again.
Writes benchmarks/results/shift.json.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import crdkit
from benchmarks.machine import environment
from benchmarks.runs import row
from crdkit._core.files import write_text
from crdkit.config import RunConfig
from crdkit.config.build import build_dataset
from crdkit.data.synthetic import write_folder
from crdkit.scoring.measure import measure
from crdkit.views.split import load_split

SHIFTS = (0, 1, 2, 4, 8, 16)
GRAPHS: Mapping[str, Sequence[str]] = {
    "full": ["graph.topology=full"],
    "star": ["graph.topology=star", "graph.hub=rgb"],
    "none": ["graph.topology=none"],
    "full, filters only": ["graph.topology=full", "graph.amplifier=null"],
    "full, training.shift=1": ["graph.topology=full", "training.shift=1"],
    "full, training.shift=2": ["graph.topology=full", "training.shift=2"],
    "full, training.shift=4": ["graph.topology=full", "training.shift=4"],
}
KEYS = ("image_auroc", "aupro_0.30")


def shifted(run: RunConfig, pixels: int) -> RunConfig:
    move = {"method": "affine", "matrix": [[1, 0, pixels], [0, 1, 0]]}
    return run.with_overrides({"data.registration": {"reference": "rgb", "sensors": {"xyz": move}}} if pixels else {})


def measured(base: RunConfig, out: Path, given: argparse.Namespace, *, when: str) -> list[dict[str, Any]]:
    """Return the metrics of a run by graph and shift."""
    found: list[dict[str, Any]] = []
    for pixels in given.shifts:
        split, of_training = None, pixels if when == "both" else 0
        for graph in given.graphs:
            folder = out / f"{re.sub('[^a-z0-9.]+', '-', graph)}-{of_training}"
            if not folder.exists():
                crdkit.fit(shifted(base, of_training).with_overrides(*GRAPHS[graph])).save(folder)
            detector = crdkit.Detector.load(folder)
            if split is None:
                split = load_split(build_dataset(shifted(base, pixels)), "test", views=detector.views)
            metrics = measure(detector.score(split), split)["aggregate"]
            found.append(
                {"run": out.name, "when": when, "graph": graph, "pixels": pixels} | {k: metrics[k] for k in KEYS}
            )
            print(out.name, when, pixels, graph, *(f"{100 * metrics[key]:.1f}" for key in KEYS), flush=True)
    return found


def table(found: Sequence[Mapping[str, Any]], *, when: str) -> str:
    """Return the means over all runs in Markdown: a row for each graph, a column for each shift."""
    chosen = [one for one in found if one["when"] == when]
    shifts = list(dict.fromkeys(one["pixels"] for one in chosen))
    lines = [row(["graph", *(f"{pixels} px" for pixels in shifts)]), "|---" + "|--:" * len(shifts) + "|"]
    for graph in dict.fromkeys(one["graph"] for one in chosen):
        cells = []
        for pixels in shifts:
            own = [one for one in chosen if (one["graph"], one["pixels"]) == (graph, pixels)]
            cells.append(" / ".join(f"{100 * mean(one[key] for one in own):.1f}" for key in KEYS))
        lines.append(row([graph, *cells]))
    return "\n".join(lines)


def bases(given: argparse.Namespace) -> dict[str, RunConfig]:
    """Return the runs by category and seed."""
    size = [f"data.image_size={given.image_size}", f"scoring.sigma={given.image_size / 64:g}"]
    size += [f"training.epochs={given.epochs}"]
    if given.real:
        overrides = [f"data.root={given.real}", "data.category=cable_gland"]
    else:
        counts = {"train": given.train, "validation": 8, "test_good": 12, "test_per_defect": 4}
        if not (given.out / "data").exists():
            write_folder(given.out / "data", categories=given.category, size=256, **counts)
        infrared = (
            "{name: single_channel, sensor: infrared, range: [29000, 32000], encoder: {name: efficientnet_lite0}}"
        )
        overrides = ["data.name=folder", f"data.root={given.out / 'data'}", f"modalities.infrared={infrared}"]
    run = RunConfig.preset("quick").with_overrides(*overrides, *size)
    return {
        f"{category}-{seed}": run.with_overrides(f"data.category={category}", f"training.seed={seed}")
        for category in (["cable_gland"] if given.real else given.category)
        for seed in given.seeds
    }


def main() -> None:
    """Train what is not there yet, and print a table for each way to shift."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--category", nargs="+", default=["gear", "biscuit", "capsule"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--when", nargs="+", default=["test", "both"], choices=["test", "both"])
    parser.add_argument("--shifts", nargs="+", type=int, default=SHIFTS)
    parser.add_argument("--graphs", nargs="+", default=list(GRAPHS), choices=list(GRAPHS), metavar="GRAPH")
    parser.add_argument("--train", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "shift.json")
    given = parser.parse_args()
    given.train = None if given.real else given.train  # all of the real ones
    runs, found = bases(given), list[dict[str, Any]]()
    for when in given.when:
        for name, run in runs.items():
            found += measured(run, given.out / name, given, when=when)
        print(f"\nshifted: {when}; I-AUROC / AU-PRO@30%\n\n{table(found, when=when)}", flush=True)
    where = ", ".join(f"{key} {value}" for key, value in environment().items() if value is not None)
    counts = f"{given.train or 'all'} training samples, {given.epochs} epochs, {given.image_size} px"
    print(f"\n{', '.join(runs)}; {counts}; {where}")
    known = json.loads(given.results.read_text(encoding="utf-8")) if given.results.exists() else {}
    about = {"environment": environment(), "epochs": given.epochs, "image_size": given.image_size}
    scans = "cable_gland" if given.real else "synthetic"
    known[f"{scans}, {' and '.join(given.when)}"] = about | {"train": given.train, "found": found}
    write_text(given.results, json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
