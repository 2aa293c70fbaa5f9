"""Compare aggregations on finished runs without retraining: ``python -m benchmarks.aggregations pasted RUN...``.

An aggregation has no part in the training, so each run's maps are made once and fused in every way. ``pasted`` scores
defects pasted into validation normals (see `benchmarks.selection`; the test split is never opened), ``test`` the test
split, which is for synthetic data only. The table holds means over the runs.

    python -m benchmarks.aggregations pasted runs/seed0 runs/seed1 --variant sum --variant "{name: tail_norm, power: 4}"
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.runs import row
from benchmarks.selection import pasted
from crdkit.config.build import build_dataset, build_scorer
from crdkit.detector import Detector
from crdkit.detector.files import load_detector
from crdkit.scoring.aggregations import aggregations
from crdkit.scoring.metrics import evaluate
from crdkit.views.split import LoadedSplit, batches, load_split

SHOWN = {"I-AUROC": "image_auroc", "P-AUROC": "pixel_auroc", "AU-PRO@30%": "aupro_0.30", "AU-PRO@1%": "aupro_0.01"}
DEFAULT = ("normalised_sum", "sum", "max", "product", *(f"{{name: tail_norm, power: {power}}}" for power in (1, 2, 4)))
Maps = dict[str, torch.Tensor]


@torch.no_grad()
def raw_maps(detector: Detector, inputs: Mapping[str, torch.Tensor]) -> Maps:
    """Return every branch's unsmoothed maps of inputs (N, C, S, S)."""
    parts = []
    for rows in batches(len(next(iter(inputs.values()))), 8):
        out = detector.model({name: views[rows] for name, views in inputs.items()})
        parts.append(detector.scorer.raw_maps(out.teacher, out.output))
    return {name: torch.cat([part[name] for part in parts]) for name in inputs}


def scored_samples(detector: Detector, where: str) -> tuple[Maps, np.ndarray]:
    """Return the maps and masks (N, S, S) of what a run is scored on."""
    if where == "pasted":
        samples = list(pasted(detector.config))
        inputs = {name: torch.stack([views[name] for _, views, _ in samples]) for name in detector.views}
        return raw_maps(detector, inputs), np.stack([mask for _, _, mask in samples])
    split = load(detector, "test")
    assert split.masks is not None, "the test split has no masks"
    return raw_maps(detector, split.inputs), split.masks.numpy()


def load(detector: Detector, name: Any) -> LoadedSplit:
    """Decode one split of a run's data."""
    return load_split(build_dataset(detector.config), name, views=detector.views)


def measure(folder: Path, where: str, variants: list[str]) -> Iterator[tuple[str, dict[str, float | None]]]:
    """Yield (variant, metrics) of one run."""
    detector = load_detector(folder)
    normals = raw_maps(detector, load(detector, "validation").inputs)
    maps, masks = scored_samples(detector, where)
    for variant in variants:
        part = build(variant, tuple(detector.views))
        part.calibrate(normals)
        scorer = build_scorer(detector.config)
        fused = [part({name: values[rows] for name, values in maps.items()}) for rows in batches(len(masks), 16)]
        yield variant, evaluate(torch.cat([scorer.smoothing(values) for values in fused]), masks)


def build(variant: str, modalities: tuple[str, ...]) -> Any:
    """Build the aggregation that a name, or a YAML mapping with options, describes."""
    config = aggregations.build_config(yaml.safe_load(variant))
    return aggregations.build(config, modalities=modalities)


def main() -> None:
    """Read the command line, measure, and print one Markdown row per aggregation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("where", choices=["pasted", "test"])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--variant", action="append", default=[])
    arguments = parser.parse_args()
    variants = arguments.variant or list(DEFAULT)
    found: dict[str, list[dict[str, float | None]]] = {variant: [] for variant in variants}
    for folder in arguments.runs:
        for variant, metrics in measure(folder, arguments.where, variants):
            found[variant].append(metrics)
    print(row(["aggregation", *SHOWN]))
    print("|---" + "|--:" * len(SHOWN) + "|")
    for variant, each in found.items():
        means = [100 * float(np.mean([metrics[key] for metrics in each])) for key in SHOWN.values()]  # type: ignore[misc]
        print(row([f"`{variant}`", *(f"{value:.1f}" for value in means)]))


if __name__ == "__main__":
    main()
