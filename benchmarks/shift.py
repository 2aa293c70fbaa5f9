"""What a sensor that is registered badly costs: I-AUROC and AU-PRO against a shift of one sensor, by graph.

    python -m benchmarks.shift --out OUT [--category gear biscuit capsule] [--seeds 0 1 2] [--when test both]

Synthetic data with three sensors (RGB, depth, infrared), 256 x 256 on the disk, brought to --image-size. The scan is
shifted right by 0 to 16 pixels of the 256, with ``data.registration``: "test" shifts the samples that are tested,
as if a camera had moved after the training; "both" shifts all samples, as if it had never been registered.
``--real FOLDER`` takes cable_gland of MVTec 3D-AD instead, without infrared. Detectors in OUT are not trained again.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

import crdkit
from benchmarks.machine import environment
from benchmarks.runs import row
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
}
KEYS = ("image_auroc", "aupro_0.30")


def shifted(run: RunConfig, pixels: int) -> RunConfig:
    move = {"method": "affine", "matrix": [[1, 0, pixels], [0, 1, 0]]}
    return run.with_overrides({"data.registration": {"reference": "rgb", "sensors": {"xyz": move}}} if pixels else {})


def measured(base: RunConfig, out: Path, *, when: str, shifts: Sequence[int]) -> dict[tuple[str, int], list[float]]:
    """Return the metrics by graph and shift."""
    found: dict[tuple[str, int], list[float]] = {}
    for pixels in shifts:
        split = None
        for graph, overrides in GRAPHS.items():
            trained_on = shifted(base, pixels if when == "both" else 0)
            folder = out / f"{graph.replace(', ', '-').replace(' ', '-')}-{pixels if when == 'both' else 0}"
            if not folder.exists():
                crdkit.fit(trained_on.with_overrides(*overrides)).save(folder)
            detector = crdkit.Detector.load(folder)
            if split is None:
                split = load_split(build_dataset(shifted(base, pixels)), "test", views=detector.views)
            metrics = measure(detector.score(split), split)["aggregate"]
            found[graph, pixels] = [metrics[key] for key in KEYS]
            print(out.name, when, pixels, graph, *(f"{100 * value:.1f}" for value in found[graph, pixels]), flush=True)
    return found


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
    parser.add_argument("--train", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--real", type=Path)
    given = parser.parse_args()
    runs = bases(given)
    for when in given.when:
        tables = [measured(run, given.out / name, when=when, shifts=given.shifts) for name, run in runs.items()]
        print(f"\nshifted: {when}; I-AUROC / AU-PRO@30%\n")
        print(row(["graph", *(f"{pixels} px" for pixels in given.shifts)]))
        print("|---" + "|--:" * len(given.shifts) + "|")
        for graph in GRAPHS:
            cells = []
            for pixels in given.shifts:
                values = zip(*(table[graph, pixels] for table in tables), strict=True)
                cells.append(" / ".join(f"{100 * mean(value):.1f}" for value in values))
            print(row([graph, *cells]))
    where = ", ".join(f"{key} {value}" for key, value in environment().items() if value is not None)
    print(f"\n{', '.join(runs)}; {given.train} training samples, {given.epochs} epochs, {given.image_size} px; {where}")


if __name__ == "__main__":
    main()
