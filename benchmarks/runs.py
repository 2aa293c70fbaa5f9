"""Train configurations over seeds and categories, one run directory each, and print one Markdown table.

    python -m benchmarks.runs quick data.root=ROOT --categories cable_gland --seeds 0 1 2 --out OUT
    python -m benchmarks.runs quick data.root=ROOT ... --variant "rgb + depth:" --variant "rgb:modalities.depth=null"

A variant is ``label:overrides separated by spaces``, quoted as in a shell. Finished runs in OUT are read, not repeated.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import crdkit
from benchmarks.machine import environment
from crdkit.config import RunConfig, load_config
from crdkit.run import read_metrics

COLUMNS = {
    "I-AUROC": "image_auroc",
    "P-AUROC": "pixel_auroc",
    "AU-PRO@30%": "aupro_0.30",
    "AU-PRO@5%": "aupro_0.05",
    "AU-PRO@1%": "aupro_0.01",
}


def row(cells: list[str]) -> str:
    """Return one line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def numbers(metrics: list[dict[str, Any]]) -> list[str]:
    """Return the means of the table's columns: percent, then seconds of training and of everything."""
    values = [f"{100 * mean(entry['aggregate'][key] for entry in metrics):.1f}" for key in COLUMNS.values()]
    return [*values, *(f"{mean(entry['seconds'][phase] for entry in metrics):.0f}" for phase in ("train", "total"))]


def tabulate(
    base: RunConfig,
    *,
    variants: Mapping[str, Sequence[str]],
    categories: Sequence[str],
    seeds: Sequence[int],
    out: Path,
) -> str:
    """Run whatever is not finished yet below ``out``, and return the Markdown table and a line on where it ran."""
    lines = [row(["detector", "category", "seed", *COLUMNS, "training s", "total s"])]
    lines.append("|---|---|---" + "|--:" * (len(COLUMNS) + 2) + "|")
    for label, options in variants.items():
        finished: list[dict[str, Any]] = []
        for category in categories:
            for seed in seeds:
                folder = out / label.replace(" ", "_") / category / f"seed{seed}"
                if not (folder / "metrics.json").exists():
                    choice = (f"data.category={category}", f"training.seed={seed}", *options)
                    crdkit.fit(base.with_overrides(*choice), folder)
                finished.append(read_metrics(folder))
                lines.append(row([label, category, str(seed), *numbers(finished[-1:])]))
        lines.append(row([f"**{label}**", "mean", "", *numbers(finished)]))
    where = ", ".join(f"{key} {value}" for key, value in environment().items() if value is not None)
    return "\n".join([*lines, "", where])


def main() -> None:
    """Read the command line, run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--categories", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--variant", action="append", default=[], help="label:overrides")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    labelled = [variant.partition(":") for variant in arguments.variant or [f"{arguments.preset}:"]]
    print(
        tabulate(
            load_config(arguments.preset).with_overrides(*arguments.overrides),
            variants={label: shlex.split(options) for label, _, options in labelled},
            categories=arguments.categories,
            seeds=arguments.seeds,
            out=arguments.out,
        )
    )


if __name__ == "__main__":
    main()
