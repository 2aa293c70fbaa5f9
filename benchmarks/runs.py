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

from benchmarks.machine import environment
from crdkit.config import RunConfig, load_config
from crdkit.report.page import label, percent
from crdkit.runs.summary import RunResult, Statistic
from crdkit.runs.sweep import sweep

COLUMNS = ("image_auroc", "pixel_auroc", "aupro_0.30", "aupro_0.05", "aupro_0.01")


def row(cells: list[str]) -> str:
    """Return one line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def numbers(results: Sequence[RunResult]) -> list[str]:
    """Return the means of the table's columns: percent, then seconds of training and of everything."""
    values = [Statistic.of([result.value(key) for result in results]).mean for key in COLUMNS]
    # a run that was scored with another one's students has no seconds of training
    seconds = [mean(result.metrics["seconds"][phase] or 0 for result in results) for phase in ("train", "total")]
    return [*map(percent, values), *(f"{value:.0f}" for value in seconds)]


def tabulate(
    base: RunConfig,
    *,
    variants: Mapping[str, Sequence[str]],
    categories: Sequence[str],
    seeds: Sequence[int],
    out: Path,
) -> str:
    """Run whatever is not finished yet below ``out``, and return the Markdown table and a line on where it ran.

    Started by torchrun, ranks share the runs, and all but rank 0 return an empty text.
    """
    outcome = sweep(base, variants=variants, categories=categories, seeds=seeds, out=out, resume=True)
    if not outcome.is_main:
        return ""
    lines = [row(["detector", "category", "seed", *map(label, COLUMNS), "training s", "total s"])]
    lines.append("|---|---|---" + "|--:" * (len(COLUMNS) + 2) + "|")
    for variant in variants:
        finished = outcome.summary(variant).results
        lines += [row([variant, run.category, str(run.seed), *numbers([run])]) for run in finished]
        if finished:
            lines.append(row([f"**{variant}**", "mean", "", *numbers(finished)]))
    lines += [f"skipped: {skip.job.name}: {skip.reason}" for skip in outcome.skipped]
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
