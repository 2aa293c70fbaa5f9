"""Measure crdkit on one GPU beside the reference-style baseline, in one call of less than eight minutes.

    python -m benchmarks.gpu [--out DIR]              # writes gpu.json and gpu.md, after every part
    python -m benchmarks.gpu --ten-categories         # afterwards ten categories in one process, not estimated: +15 min
    python -m benchmarks.gpu --smoke --out DIR        # every part with tiny settings on the CPU: does it run?

Untrained WideResNet-50-2 teachers, RGB + depth, 256 x 256, batches of 16, 223 synthetic training scans in the layout of
MVTec 3D-AD. A part that fails or would not fit into the time is noted, and the others run all the same.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_parts
from benchmarks.ceilings import ceilings
from benchmarks.gpu_page import markdown
from benchmarks.job import run_job
from benchmarks.machine import environment
from benchmarks.measurements import Loaded
from benchmarks.parts import Parts, clock, done
from benchmarks.setup import TINY, UNTRAINED_TEACHERS
from crdkit._core.device import select_device
from crdkit._core.progress import set_quiet
from crdkit.config import RunConfig
from crdkit.data.synthetic import write_mvtec3d
from crdkit.runs.describe import describe

RESULTS = Path(__file__).parent / "results"
CATEGORY = "biscuit"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    counts: dict[str, int]
    """Samples: the arguments of the synthetic writer."""
    epochs: int
    """Of the whole job."""
    timed_epochs: int
    """After the one that warms up."""
    baseline_epochs: int
    precision_epochs: int
    batch: int
    """Of prediction."""
    singles: int
    low_precision: str
    budget_s: float
    categories: int
    """With ``--ten-categories``."""


FULL = Sizes(
    counts={"train": 223, "validation": 22, "test_good": 20, "test_per_defect": 15, "size": 400},
    epochs=200,
    timed_epochs=3,
    baseline_epochs=3,
    precision_epochs=10,
    batch=32,
    singles=60,
    low_precision="bf16",
    budget_s=470,
    categories=10,
)
SMOKE = Sizes(
    counts={"train": 6, "validation": 2, "test_good": 2, "test_per_defect": 1, "size": 64},
    epochs=2,
    timed_epochs=1,
    baseline_epochs=1,
    precision_epochs=1,
    batch=2,
    singles=3,
    low_precision="fp32",  # a CPU emulates bfloat16
    budget_s=470,
    categories=2,
)


def configure(root: Path, sizes: Sizes, *, smoke: bool) -> RunConfig:
    """Return the run that is measured."""
    scale = TINY if smoke else (*UNTRAINED_TEACHERS, "training.device=cuda")
    return RunConfig.preset("crd-mvtec3d").with_overrides(
        f"data.root={root}",
        f"data.category={CATEGORY}",
        *scale,
        f"training.precision={sizes.low_precision}",
        f"training.epochs={sizes.epochs}",
    )


def measure(parts: Parts, sizes: Sizes, folder: Path, *, smoke: bool) -> None:
    """Run every part; what later parts need of earlier ones is left out where those failed."""
    root = folder / "data"
    config = configure(root, sizes, smoke=smoke)
    device = select_device(config.training.device)
    known = parts.run("ceilings", lambda: ceilings(device))
    parts.run("data", lambda: {"seconds": clock(lambda: write(root, sizes)), **sizes.counts})
    gflop = sum(describe(config).training_gflop.values()) if smoke else gpu_parts.PUBLISHED_GFLOP_PER_SAMPLE
    measure_training(parts, sizes, config, matmul_tflops=known and known["matmul_tflops"], gflop=gflop)
    measure_jobs(parts, sizes, config, folder)
    parts.run(
        "prediction",
        lambda: gpu_parts.prediction(config, batch=sizes.batch, batches=20, singles=sizes.singles),
        needs_s=0 if smoke else 20,
    )
    batch = config.training.batch_size
    parts.run(
        "agreement",
        lambda: gpu_parts.agreement(config, samples=min(5 * batch, sizes.counts["train"]), epochs=4),
        needs_s=0 if smoke else 25,
    )
    parts.run(
        "precision",
        lambda: gpu_parts.precisions(precision_config(config, sizes), folder / "precision", low=sizes.low_precision),
        needs_s=0 if smoke else 60,
    )


def write(root: Path, sizes: Sizes) -> None:
    write_mvtec3d(root, categories=[CATEGORY], **sizes.counts)


def measure_training(
    parts: Parts, sizes: Sizes, config: RunConfig, *, matmul_tflops: float | None, gflop: float
) -> None:
    """Time the step, and count synchronisations, on one resident split."""
    held: list[Loaded] = []

    def step() -> dict[str, Any]:
        held.append(gpu_parts.prepare(config))
        return gpu_parts.step_time(
            held[0], epochs=sizes.timed_epochs, matmul_tflops=matmul_tflops, gflop_per_sample=gflop
        )

    def synchronisations() -> dict[str, Any]:
        return gpu_parts.synchronisations(held[0], epochs=sizes.timed_epochs)

    parts.run("step", step)
    parts.run("synchronisations", synchronisations)
    parts.run(
        "step_variants",
        lambda: gpu_parts.step_variants(held[0], epochs=sizes.timed_epochs),
        needs_s=250 if sizes is FULL else 0,  # the jobs come first
    )
    held.clear()
    release()


def release() -> None:
    """Give memory back, so that a job in another process finds it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def measure_jobs(parts: Parts, sizes: Sizes, config: RunConfig, folder: Path) -> None:
    """Run the baseline's whole job, some epochs of it, and ours; each in its own process."""
    baseline = parts.run(
        "job_baseline",
        lambda: run_job(
            "baseline",
            config.with_overrides("training.precision=fp32"),
            folder / "baseline",
            epochs_measured=sizes.baseline_epochs,
            timeout=min(parts.left_s, 180),
        ),
    )
    step = done(parts.result, "step")
    reserve = 120.0 if sizes is FULL else 0.0  # for the parts after this one
    epoch = step["epoch_seconds"] if step else 0.5
    fitting = int((parts.left_s - reserve - 30) / epoch)
    epochs = max(1, min(sizes.epochs, fitting))

    def ours() -> dict[str, Any]:
        result = run_job(
            "ours", config.with_overrides(f"training.epochs={epochs}"), folder / "ours", timeout=parts.left_s
        )
        seconds = result["seconds"]
        train = seconds["train"] * sizes.epochs / epochs
        seconds["whole_job"] = seconds["total"] - seconds["train"] + train
        result["extrapolated_from_epochs"] = epochs if epochs < sizes.epochs else None
        result["ratio"] = baseline["seconds"]["total"] / seconds["whole_job"] if baseline else None
        result["ten_categories_estimate_seconds"] = 10 * seconds["whole_job"]
        return result

    parts.run("job_ours", ours)


def precision_config(config: RunConfig, sizes: Sizes) -> RunConfig:
    """Return a short run on a trained teacher, if there is one without a download; else on an untrained one."""
    if sizes is FULL and gpu_parts.has_offline_teacher():
        return RunConfig.preset("quick").with_overrides(
            f"data.root={config.data.root}", f"data.category={CATEGORY}", f"training.epochs={sizes.precision_epochs}"
        )
    return config.with_overrides(f"training.epochs={sizes.precision_epochs}")


def ten_categories(config: RunConfig, folder: Path, *, count: int) -> dict[str, Any]:
    """Run the same category ``count`` times in this process, as a benchmark of ten would."""
    from crdkit.runs.fit import fit

    seconds = []
    for number in range(count):
        seconds.append(clock(lambda number=number: fit(config, folder / f"category-{number}")))
        release()
    return {"seconds": seconds, "total_seconds": sum(seconds)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of gpu.json and gpu.md")
    parser.add_argument("--smoke", action="store_true", help="tiny settings on the CPU")
    parser.add_argument("--ten-categories", action="store_true", help="measure ten categories as well")
    options = parser.parse_args(arguments)
    if not options.smoke and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --smoke runs every part with tiny settings on the CPU")
    set_quiet(False)
    os.environ.pop("CRDKIT_CACHE", None)  # files are decoded
    sizes = SMOKE if options.smoke else FULL
    header = {"smoke": options.smoke, "environment": environment(), "epochs": sizes.epochs}
    parts = Parts(options.out / "gpu.json", header, budget_s=sizes.budget_s)
    with tempfile.TemporaryDirectory() as folder:
        measure(parts, sizes, Path(folder), smoke=options.smoke)
        if options.ten_categories:
            config = configure(Path(folder) / "data", sizes, smoke=options.smoke)
            parts.budget_s = None
            parts.run("ten_categories", lambda: ten_categories(config, Path(folder), count=sizes.categories))
    page = markdown(parts.result)
    (options.out / "gpu.md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
