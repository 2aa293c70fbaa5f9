"""Is a memory bank worth a branch beside the students? Decided without test labels of real scans.

    python -m benchmarks.bank_branch OUT/OBJECT... [--test NAME...] [--size 4000]

OUT is the ``--out`` of `benchmarks.peers`, which has measured `quick` on these objects. A bank of normal patches is
filled from an object's training scans (`benchmarks.peers.bank`), and the maps of students and banks are fused by the
detector's own aggregation, calibrated on the validation normals. Scored are the validation normals with their copies
with pasted defects (`benchmarks.selection`), and the test split of the objects that ``--test`` names, which is for
synthetic data only. Metrics in percent.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.aggregations import SHOWN, Maps, load, raw_maps
from benchmarks.peers.bank import GROUPS, MemoryBanks, build_scorer_of
from benchmarks.runs import row
from benchmarks.selection import pasted
from crdkit.config import load_config
from crdkit.detector import Detector
from crdkit.detector.files import load_detector
from crdkit.scoring.metrics import evaluate
from crdkit.views.split import batches

JOINED, SEPARATE = "bank of rgb+depth", ("bank of rgb", "bank of depth")
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "students": ("rgb", "depth"),
    "banks": SEPARATE,
    "joined bank": (JOINED,),
    "students and banks": ("rgb", "depth", *SEPARATE),
    "students and joined bank": ("rgb", "depth", JOINED),
}


def branches(detector: Detector, banks: Sequence[MemoryBanks], inputs: Mapping[str, torch.Tensor]) -> Maps:
    """Return the unsmoothed maps (N, S, S) of students and banks."""
    found = raw_maps(detector, inputs)
    for one in banks:
        found |= {f"bank of {group}": maps for group, maps in one.maps(inputs).items()}
    return found


def fill(detector: Detector, size: int) -> list[MemoryBanks]:
    """Return a joined bank and one a view, of the training scans of a detector."""
    teachers = detector.model.teachers_by_modality()
    normals = load(detector, "train").inputs
    banks = [MemoryBanks(teachers, groups=groups, size=size, seed=0) for groups in GROUPS.values()]
    for one in banks:
        one.fit(normals)
    return banks


def measure(
    detector: Detector, normals: Maps, samples: Maps, masks: np.ndarray, labels: np.ndarray | None
) -> Iterator[tuple[str, list[str]]]:
    """Yield every variant with its cells of the table."""
    for variant, names in VARIANTS.items():
        scorer = build_scorer_of(detector.config, names)
        scorer.calibrate({name: normals[name] for name in names})
        parts = [scorer({name: samples[name][rows] for name in names}) for rows in batches(len(masks), 16)]
        maps, scores = (torch.cat([getattr(part, key) for part in parts]) for key in ("anomaly_map", "pred_score"))
        metrics = evaluate(maps, masks, scores, labels=labels)
        yield variant, [f"{100 * (metrics[key] or 0):.1f}" for key in SHOWN.values()]


@torch.no_grad()
def main() -> None:
    """Print one Markdown row for each detector, kind of sample and variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="of objects in the --out of benchmarks.peers")
    parser.add_argument("--test", nargs="*", default=[], help="categories whose test split is scored: synthetic ones")
    parser.add_argument("--size", type=int, default=4000, help="most entries of a bank")
    arguments = parser.parse_args()
    print(row(["object", "scored on", "branches", *SHOWN]) + "\n|---|---|---" + "|--:" * len(SHOWN) + "|")
    for folder in arguments.folders:
        detector = load_detector(folder / "detector-quick-0").with_config(load_config(folder / "config.yaml"))
        category = detector.config.data.category
        banks = fill(detector, arguments.size)
        normals = branches(detector, banks, load(detector, "validation").inputs)
        changed = list(pasted(detector.config))
        inputs = {name: torch.stack([views[name] for _, views, _ in changed]) for name in detector.views}
        masks = np.stack([mask for _, _, mask in changed])
        wholes = [("pasted defects", branches(detector, banks, inputs), masks, None)]
        if category in arguments.test:
            split = load(detector, "test")
            assert split.masks is not None, "the test split has no masks"
            wholes.append(("test", branches(detector, banks, split.inputs), split.masks.numpy(), split.labels))
        for where, maps, truth, labels in wholes:
            for variant, cells in measure(detector, normals, maps, truth, labels):
                print(row([category, where, variant, *cells]), flush=True)


if __name__ == "__main__":
    main()
