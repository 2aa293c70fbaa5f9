"""How good a detector gets with the number of good parts it learns from.

    python -m benchmarks.learning_curve quick data.root=ROOT --category cable_gland --out OUT
    python -m benchmarks.learning_curve --draw

Good parts are drawn from the training split at random, one drawing for each size and seed, and as large a share of the
validation split with them (at least two parts). The test split is whole. Finished runs in OUT are read, not repeated.
The first command writes benchmarks/results/learning_curve.json, the second draws docs/images/learning_curve.svg from
it. The layout of the data is that of MVTec 3D-AD.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import environment
from crdkit.config import RunConfig, load_config
from crdkit.runs.summary import Statistic
from crdkit.runs.sweep import sweep

RESULT = Path(__file__).parent / "results" / "learning_curve.json"
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "learning_curve.svg"
SIZES = (5, 10, 25, 50, 112)
METRICS = ("image_auroc", "pixel_auroc", "aupro_0.30", "aupro_0.01")
LABELS = {"image_auroc": "I-AUROC", "pixel_auroc": "P-AUROC", "aupro_0.30": "AU-PRO@30%", "aupro_0.01": "AU-PRO@1%"}


def place(source: Path, target: Path) -> None:
    """Let ``target`` be ``source``: another name of the file where the disk allows it, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def subset(root: Path, category: str, *, train: int, seed: int, out: Path) -> int:
    """Write the category with ``train`` of its training samples to ``out``; return the number of validation samples."""
    if out.exists():
        shutil.rmtree(out)
    samples = {
        split: sorted(file.stem for file in (root / category / split / "good/rgb").iterdir())
        for split in ("train", "validation")
    }
    share = train / len(samples["train"])
    counts = {"train": train, "validation": max(2, round(share * len(samples["validation"])))}
    draw = random.Random(seed)
    for split, names in samples.items():
        chosen = set(draw.sample(names, counts[split]))
        for file in (root / category / split).rglob("*.*"):
            if file.stem in chosen:
                place(file, out / category / file.relative_to(root / category))
    for file in (root / category / "test").rglob("*.*"):
        place(file, out / category / file.relative_to(root / category))
    return counts["validation"]


def measure(base: RunConfig, *, sizes: Sequence[int], seeds: Sequence[int], out: Path) -> list[dict[str, Any]]:
    """Train and score every size and seed; return their metrics."""
    category, root = base.data.category, Path(str(base.data.root))
    rows = []
    for size in sizes:
        for seed in seeds:
            place_of_run = out / f"{size}-{seed}"
            data = place_of_run / "data"
            if not data.exists():
                subset(root, category, train=size, seed=seed, out=data)
            run = base.with_overrides(f"data.root={data}")
            outcome = sweep(
                run, variants={"run": ()}, categories=[category], seeds=[seed], out=place_of_run / "runs", resume=True
            )
            outcome.raise_if_skipped()  # such as a folder of another configuration
            found = outcome.summary("run").results[0].metrics
            row = {"train": size, "seed": seed, "validation": found["counts"]["validation"]}
            row["train_s"] = found["seconds"]["train"]
            rows.append(row | {key: found["aggregate"][key] for key in METRICS})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown table of docs/results.md: mean and sample standard deviation over seeds, percent."""
    lines = [f"| good parts | {' | '.join(LABELS[key] for key in METRICS)} | training s |"]
    lines.append("|--:" * (len(METRICS) + 2) + "|")
    for size in sorted({row["train"] for row in rows}):
        own = [row for row in rows if row["train"] == size]
        cells = []
        for key in METRICS:
            found = Statistic.of([row[key] for row in own])
            cells.append(f"{100 * found.mean:.1f} ± {100 * (found.std or 0):.1f}")
        seconds = sum(row["train_s"] for row in own) / len(own)
        lines.append(f"| {size} | {' | '.join(cells)} | {seconds:.0f} |")
    return "\n".join(lines)


def draw(result: dict[str, Any], file: Path) -> None:
    """Draw one panel for each metric: every seed as a dot, their means as a line, over the number of good parts."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "crdkit", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10, 2.9), layout="constrained")
        panels = figure.subplots(1, len(METRICS))
        sizes = sorted({row["train"] for row in result["runs"]})
        for panel, key in zip(panels, METRICS, strict=True):
            for row in result["runs"]:
                panel.plot(row["train"], 100 * row[key], "o", color="tab:blue", alpha=0.4, markersize=4)
            means = [
                Statistic.of([row[key] for row in result["runs"] if row["train"] == size]).mean or 0 for size in sizes
            ]
            panel.plot(sizes, [100 * mean for mean in means], "-", color="tab:blue")
            panel.set_xscale("log")
            panel.set_xticks(sizes, [str(size) for size in sizes])
            panel.minorticks_off()
            panel.set(title=f"{LABELS[key]}, %", xlabel="good parts")
            panel.grid(alpha=0.3)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Read the command line, then measure, or draw what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", nargs="?")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--category")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--draw", action="store_true", help="only draw the figure again")
    arguments = parser.parse_args()
    if arguments.draw:
        draw(json.loads(RESULT.read_text(encoding="utf-8")), FIGURE)
        return
    if not (arguments.preset and arguments.category and arguments.out):
        parser.error("a preset, --category and --out are needed")
    base = load_config(arguments.preset).with_overrides(*arguments.overrides, f"data.category={arguments.category}")
    rows = measure(base, sizes=arguments.sizes, seeds=arguments.seeds, out=arguments.out)
    result = {"preset": arguments.preset, "overrides": len(arguments.overrides), "runs": rows, **environment()}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
