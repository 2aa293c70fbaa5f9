"""What a failed sensor costs: a detector trained with modality dropout, against one that never had the sensor.

    python -m benchmarks.sensor_failure --out OUT --dropout 0.15

Synthetic data with three sensors (RGB, depth, infrared). For each modality the table compares the I-AUROC without it of
the detectors trained on all three (with each ``training.modality_dropout``) with that of one trained on the other two.
"shift" is how far the median score of normal test samples moves, in standard deviations of their scores with all
sensors. Finished runs in OUT are read, not repeated.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import crdkit
from benchmarks.machine import environment
from benchmarks.runs import row
from crdkit.config import RunConfig
from crdkit.config.build import build_dataset
from crdkit.data.synthetic import write_folder
from crdkit.detector import Detector
from crdkit.detector.files import load_detector
from crdkit.runs.directory import read_metrics
from crdkit.scoring import Maps
from crdkit.scoring.measure import measure
from crdkit.views.split import LoadedSplit, load_split

SAMPLES = {"train": 48, "validation": 10, "test_good": 16, "test_per_defect": 6}
MODALITIES = ("rgb", "depth", "infrared")
OVERRIDES = (
    "data.name=folder",
    "data.image_size=128",
    "modalities.infrared.encoder.name=efficientnet_lite0",
    "training.epochs=20",
    "scoring.sigma=2",
)


def train(base: RunConfig, *overrides: str, out: Path) -> Detector:
    """Train into ``out`` unless that run is finished, and return its detector."""
    if not (out / "metrics.json").exists():
        crdkit.fit(base.with_overrides(*overrides), out)
    return load_detector(out)


def shift(maps: Maps, complete: Maps, split: LoadedSplit) -> float:
    """Return how far the median normal score moved, in standard deviations of the normal scores on all sensors."""
    normal = torch.from_numpy(split.labels == 0)
    scores, reference = maps.pred_score[normal], complete.pred_score[normal]
    return float((scores.median() - reference.median()) / reference.std())


def compare(base: RunConfig, *, dropouts: list[float], out: Path) -> dict[str, dict[str, Any]]:
    """Return ``{missing modality or "none": {"trained without": I-AUROC, dropout: (I-AUROC, shift)}}`` of one base."""
    table: dict[str, dict[str, Any]] = {name: {} for name in ("none", *MODALITIES)}
    train(base, out=out / "all")
    table["none"]["trained without"] = read_metrics(out / "all")["aggregate"]["image_auroc"]
    for name in MODALITIES:
        train(base, f"modalities.{name}=null", out=out / f"without_{name}")
        table[name]["trained without"] = read_metrics(out / f"without_{name}")["aggregate"]["image_auroc"]
    for dropout in dropouts:
        detector = train(base, f"training.modality_dropout={dropout}", out=out / f"dropout_{dropout:g}")
        dataset = build_dataset(detector.config)
        split = load_split(dataset, "test", views=detector.views)
        complete = detector.score(split)
        for name, cells in table.items():
            seen = split if name == "none" else split.without(name)
            maps = detector.score(seen)
            cells[f"p = {dropout:g}"] = measure(maps, seen)["aggregate"]["image_auroc"]
            cells[f"shift, p = {dropout:g}"] = shift(maps, complete, split)
    return table


def main() -> None:
    """Write the data, train what is not there yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dropout", nargs="+", type=float, default=[0.15])
    parser.add_argument("--category", nargs="+", default=["gear"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    data = arguments.out / "data"
    if not data.exists():
        write_folder(data, categories=arguments.category, size=128, **SAMPLES)
    tables = [
        compare(
            RunConfig.preset("quick").with_overrides(
                f"data.root={data}", f"data.category={category}", f"training.seed={seed}", *OVERRIDES
            ),
            dropouts=arguments.dropout,
            out=arguments.out / "runs" / category / f"seed{seed}",
        )
        for category in arguments.category
        for seed in arguments.seeds
    ]
    columns = list(tables[0]["none"])
    print(row(["missing", *columns]))
    print("|---" + "|--:" * len(columns) + "|")
    for name in tables[0]:
        means = {column: mean(table[name][column] for table in tables) for column in columns}
        cells = [f"{value:+.1f}" if "shift" in key else f"{100 * value:.1f}" for key, value in means.items()]
        print(row([name, *cells]))
    where = ", ".join(f"{key} {value}" for key, value in environment().items() if value is not None)
    print(f"\n{', '.join(arguments.category)}; seeds {arguments.seeds}; {where}")


if __name__ == "__main__":
    main()
