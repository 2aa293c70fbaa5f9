"""What cuDNN's choice of kernels and TF32 change on a GPU: ``python -m benchmarks.cudnn_settings PRESET KEY=VALUE...``.

It trains the same run with crdkit's settings twice, with the published ones (deterministic kernels) twice, and without
TF32, and prints the metrics, the largest difference between two runs' image scores, and the seconds. The folder
given to ``--out`` gets the run directories. For docs/fidelity.md.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch

from crdkit.config import RunConfig
from crdkit.runs.directory import read_metrics
from crdkit.runs.fit import fit

SETTINGS = {  # name: (deterministic, TF32)
    "crdkit": (False, True),
    "crdkit again": (False, True),
    "deterministic": (True, True),
    "deterministic again": (True, True),
    "without TF32": (False, False),
}
SHOWN = ("image_auroc", "pixel_auroc", "aupro_0.30")


def scores(folder: Path) -> list[float]:
    """Return the image scores of a run."""
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        return [float(row["pred_score"]) for row in csv.DictReader(file)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    config = RunConfig.preset(arguments.preset).with_overrides(*arguments.overrides)
    print("| settings | " + " | ".join(SHOWN) + " | largest difference of a score from `crdkit` | seconds |")
    print("|---" + "|--:" * (len(SHOWN) + 2) + "|")
    cudnn = torch.backends.cudnn
    for name, (cudnn.deterministic, cudnn.allow_tf32) in SETTINGS.items():
        folder = arguments.out / name.replace(" ", "-")
        fit(config, folder)
        metrics = read_metrics(folder)
        first, mine = scores(arguments.out / "crdkit"), scores(folder)
        largest = max(abs(one - other) for one, other in zip(first, mine, strict=True))
        shown = " | ".join(f"{100 * metrics['aggregate'][key]:.2f}" for key in SHOWN)
        print(f"| {name} | {shown} | {largest:.3g} | {metrics['seconds']['total']} |", flush=True)


if __name__ == "__main__":
    main()
