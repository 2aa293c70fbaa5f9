"""The metrics of a method's maps, and the tables of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.runs import row
from crdkit.metrics import compare, evaluate, intervals, label_regions

METRICS = {
    "image_auroc": "I-AUROC",
    "pixel_auroc": "P-AUROC",
    "aupro_0.30": "AU-PRO@30%",
    "aupro_0.01": "AU-PRO@1%",
}
Result = dict[str, Any]


def load(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the maps (N, S, S) and scores (N,) of a file that a method wrote."""
    with np.load(file) as found:
        return found["maps"], found["scores"]


def score(file: Path, scans: Mapping[str, np.ndarray]) -> Result:
    """Return the metrics of a method's maps on the test split, with bootstrap intervals over its samples."""
    maps, scores = load(file)
    masks, labels = scans["masks"], scans["labels"]
    regions = label_regions(masks)
    found = evaluate(maps, masks, scores, labels=labels, regions=regions)
    around = intervals(maps, masks, scores, labels=labels, regions=regions)
    return {key: {"value": found[key], "interval": around[key]} for key in METRICS}


def difference(first: Path, second: Path, scans: Mapping[str, np.ndarray]) -> Result:
    """Return how much better the second method is on the same samples, with interval and p-value."""
    (maps, scores), (others, other_scores) = load(first), load(second)
    found = compare(maps, others, scans["masks"], (scores, other_scores), labels=scans["labels"])
    return {key: None if (one := found[key]) is None else one.to_dict() for key in METRICS}


def _mean(results: Sequence[Result], key: str) -> str:
    """Return a metric in percent, the mean over seeds, and the interval of the first seed."""
    values = [result["metrics"][key]["value"] for result in results]
    low, high = results[0]["metrics"][key]["interval"]
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{spread} [{100 * low:.1f}, {100 * high:.1f}]"


def of_object(results: Sequence[Result]) -> str:
    """Return the table of one object: a row for each method."""
    columns = [
        "method",
        "sees",
        "seeds",
        *METRICS.values(),
        "training, CPU s",
        "prediction, CPU ms",
        "memory, MiB",
        "model, MiB",
    ]
    lines = [row(columns), "|---|---|---" + "|--:" * (len(columns) - 3) + "|"]
    for method in dict.fromkeys(result["method"] for result in results):
        own = [result for result in results if result["method"] == method]
        seeds = ", ".join(str(result["seed"]) for result in own)
        costs = [
            f"{mean(result[key] for result in own) * factor:.0f}"
            for key, factor in (("train_cpu_s", 1), ("predict_cpu_s", 1000), ("peak_bytes", 2**-20))
        ]
        size = f"{own[0]['model_bytes'] / 2**20:.1f}"
        lines.append(row([method, own[0]["sees"], seeds, *(_mean(own, key) for key in METRICS), *costs, size]))
    return "\n".join(lines)


def of_differences(results: Sequence[Result]) -> str:
    """Return the table of the differences to the method that others are compared with, seed 0 of each."""
    lines = [row(["object", "method", *METRICS.values()]), "|---|---" + "|--:" * len(METRICS) + "|"]
    for result in results:
        if result.get("difference") is None:
            continue
        cells = []
        for key in METRICS:
            one = result["difference"][key]
            low, high, p = 100 * one["low"], 100 * one["high"], one["p_value"]
            cells.append(f"{100 * one['difference']:+.1f} [{low:+.1f}, {high:+.1f}], p {p:.3f}")
        lines.append(row([result["object"], result["method"], *cells]))
    return "\n".join(lines)


def as_markdown(result: Result) -> str:
    """Return all tables, and what they were made with."""
    lines = ["# crdkit beside other methods", ""]
    for name, about in result["objects"].items():
        counts = ", ".join(f"{count} {split}" for split, count in about["counts"].items())
        own = [one for one in result["results"] if one["object"] == name]
        lines += [f"## {name}", "", f"{counts}; {about['size']} x {about['size']}.", "", of_object(own), ""]
    lines += [
        f"## Differences to {result['reference']}, seed 0",
        "",
        "Above 0, the method is better.",
        "",
        of_differences(result["results"]),
        "",
        *(f"- {note}" for note in result["notes"]),
        "",
    ]
    machine = ", ".join(f"{key} {value}" for key, value in result["environment"].items() if value is not None)
    versions = ", ".join(f"{key} {value}" for key, value in result["peers"].items())
    return "\n".join([*lines, machine + (f"; peers: {versions}" if versions else "")]) + "\n"
