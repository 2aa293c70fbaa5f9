"""How many normal patches a memory bank must hold: the farthest ones, random ones, and all.

    python -m benchmarks.peers.bank_size OUT/OBJECT [--sizes 4000 11468] [--seeds 0 1 2]

OUT is the ``--out`` of `benchmarks.peers`. Banks of colour alone, and of colour and depth joined, are filled from the
object's training scans; the test split is scored as `benchmarks.peers.bank` does. Metrics in percent, I-AUROC by type
of defect too; ± is the standard deviation between seeds. A bank of all patches has no seed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.peers.bank import MemoryBanks, at_random, coreset, fit, read
from benchmarks.peers.table import METRICS
from benchmarks.runs import row
from crdkit.config import RunConfig, load_config
from crdkit.config.build import build_dataset, build_teachers
from crdkit.metrics import evaluate

GROUPS = (("rgb",), ("rgb", "depth"))
WAYS = {"farthest": coreset, "random": at_random}
ALL = sys.maxsize


def kinds_of_test(config: RunConfig) -> np.ndarray:
    """Return the type of defect (N,) of each test sample."""
    return np.array([record.defect_type for record in build_dataset(config).records("test")])


@torch.no_grad()
def measure(folder: Path, *, group: Sequence[str], way: str, size: int, seed: int) -> dict[str, float]:
    """Return the metrics of a bank in percent."""
    config = load_config(folder / "config.yaml")
    normals, validation, test = (read(folder / "scans.npz", split) for split in ("train", "validation", "test"))
    bank = MemoryBanks(build_teachers(config), groups=[group], size=size, seed=seed, choose=WAYS[way])
    scorer = fit(bank, config, normals, validation)
    found = scorer(bank.maps(test))
    maps, scores, kinds = found.anomaly_map.numpy(), found.pred_score.numpy(), kinds_of_test(config)
    with np.load(folder / "scans.npz") as scans:
        masks, labels = scans["masks"], scans["labels"]
    metrics = evaluate(maps, masks, scores, labels=labels)
    shown = {label: 100 * value for key, label in METRICS.items() if (value := metrics[key]) is not None}
    for kind in sorted({*kinds[labels == 1]}):
        chosen = (labels == 0) | (kinds == kind)
        value = evaluate(maps[chosen], masks[chosen], scores[chosen], labels=labels[chosen])["image_auroc"]
        shown[str(kind)] = float("nan") if value is None else 100 * value
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="OUT/OBJECT")
    parser.add_argument("--sizes", nargs="+", type=int, default=[4000, 11468])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args()
    ways = [(way, size) for size in given.sizes for way in WAYS]
    header = True
    for group in GROUPS:
        for way, size in [*ways, ("random", ALL)]:
            seeds = given.seeds if size < ALL else given.seeds[:1]
            found = [measure(given.folder, group=group, way=way, size=size, seed=seed) for seed in seeds]
            if header:
                print(row(["sees", "patches", *found[0]]), "|---|---" + "|--:" * len(found[0]) + "|", sep="\n")
                header = False
            cells = []
            for key in found[0]:
                values = [one[key] for one in found]
                spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
                cells.append(f"{np.mean(values):.1f}{spread}")
            name = "all" if size == ALL else f"{size:,} {way}"
            print(row([" + ".join(group), name, *cells]), flush=True)


if __name__ == "__main__":
    main()
