"""Time `crdkit.metrics.evaluate` against what published code does: ``python -m benchmarks.metrics [--write]``."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks import baseline_metrics
from benchmarks.machine import environment
from crdkit.scoring.metrics import LIMITS, evaluate

RESULTS = Path(__file__).parent / "results"
TOLERANCE = 1e-6


def make_stack(images: int = 108, size: int = 256, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Draw smooth random maps and sparse blob masks; a fifth of the images is anomaly-free, defects score higher."""
    rng = np.random.default_rng(seed)
    maps = np.empty((images, size, size), dtype=np.float32)
    masks = np.zeros((images, size, size), dtype=bool)
    rows, columns = np.mgrid[:size, :size]
    for image in range(images):
        smooth = ndimage.gaussian_filter(rng.standard_normal((size, size)), 4.0)
        smooth /= smooth.std()
        if image % 5:
            for _ in range(rng.integers(1, 4)):
                row, column = rng.uniform(0.1 * size, 0.9 * size, 2)
                height, width = rng.uniform(0.01 * size, 0.06 * size, 2)
                masks[image] |= ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 < 1
            smooth += rng.uniform(0.5, 5.0) * ndimage.gaussian_filter(masks[image].astype(float), 4.0)
        maps[image] = smooth
    return maps, masks


def seconds(call: Callable[[], Any]) -> float:
    """Time one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> float:
    """Return the largest difference between the two results, and fail if it exceeds the tolerance."""
    ours, baseline = evaluate(maps, masks), baseline_metrics.evaluate(maps, masks, LIMITS)
    difference = max(abs((ours[key] or 0.0) - value) for key, value in baseline.items())
    assert difference <= TOLERANCE, f"results differ by {difference}: {ours} against {baseline}"
    return difference


def measure(images: int, size: int, rounds: int) -> dict[str, Any]:
    """Time both in one run, taking turns, so that whatever else the machine does hits both."""
    maps, masks = make_stack(images, size)
    machine = environment()  # before the measurement adds to the load
    difference = compare(maps, masks)  # also the warm-up
    times: dict[str, list[float]] = {"evaluate": [], "baseline": []}
    for _ in range(rounds):
        times["evaluate"].append(seconds(lambda: evaluate(maps, masks)))
        times["baseline"].append(seconds(lambda: baseline_metrics.evaluate(maps, masks, LIMITS)))
    medians = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "maps": [images, size, size],
        "anomalous_pixels": float(masks.mean()),
        "seconds": times,
        "median_seconds": medians,
        "ratio": medians["baseline"] / medians["evaluate"],
        "largest_difference": difference,
        "environment": machine,
    }
    if torch.cuda.is_available():
        on_gpu = torch.from_numpy(maps).cuda()
        evaluate(on_gpu, masks)
        times["evaluate, maps on the GPU"] = [seconds(lambda: evaluate(on_gpu, masks)) for _ in range(rounds)]
        medians["evaluate, maps on the GPU"] = statistics.median(times["evaluate, maps on the GPU"])
    return result


def markdown(result: dict[str, Any]) -> str:
    """Lay the result out as a page with one table."""
    images, height, width = result["maps"]
    names = {"evaluate": "`crdkit.metrics.evaluate`", "baseline": "scikit-learn + one argsort per AU-PRO limit"}
    what = {
        "evaluate": "image and pixel AUROC, AP, F1-max; AU-PRO at 4 limits",
        "baseline": "pixel AUROC, AP; AU-PRO at 4 limits",
    }
    base = result["median_seconds"]["baseline"]
    lines = [
        f"# Metrics: {images} maps of {height} x {width}, {result['anomalous_pixels']:.1%} anomalous pixels",
        "",
        "| program | computes | median s | min s | max s | ratio |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, values in result["seconds"].items():
        median = result["median_seconds"][name]
        computes = what.get(name, what["evaluate"])
        spread = f"{median:.3f} | {min(values):.3f} | {max(values):.3f} | {base / median:.1f}x"
        lines.append(f"| {names.get(name, name)} | {computes} | {spread} |")
    hardware = ", ".join(f"{key} {value}" for key, value in result["environment"].items() if value is not None)
    lines += [
        "",
        (
            f"{len(result['seconds']['baseline'])} rounds, taking turns in one process; the ratio is of medians. "
            f"Largest difference between the shared metrics: {result['largest_difference']:.1e}."
        ),
        "",
        f"{hardware}.",
        "",
        "Repeat: `python -m benchmarks.metrics`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print and, on demand, write benchmarks/results/metrics.{md,json}."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=108)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/metrics.md and metrics.json")
    arguments = parser.parse_args()
    result = measure(arguments.images, arguments.size, arguments.rounds)
    page = markdown(result)
    print(page)
    if arguments.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "metrics.md").write_text(page, encoding="utf-8")
        (RESULTS / "metrics.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
