"""Time crdkit and the reference-style baseline in turns on one data set, on a CPU.

    python -m benchmarks.cpu data.root=ROOT --category NAME [--epochs 20] [--preset quick] [--out DIR]
    python -m benchmarks.cpu data.root=ROOT --category NAME --epochs-measured 3     # extrapolates the baseline's others

It writes cpu.json after every part, and cpu.md, to benchmarks/results or DIR. Whole jobs run in processes of their own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import job, measurements, metrics
from benchmarks.machine import environment
from benchmarks.parts import Parts, clock, done, not_done
from crdkit.config import RunConfig, load_config
from crdkit.config.build import build_dataset, build_views
from crdkit.data import SPLITS
from crdkit.runs._pipeline import PHASES
from crdkit.training.step import uses_bf16
from crdkit.views.split import load_split

RESULTS = Path(__file__).parent / "results"


def measure(config: RunConfig, options: argparse.Namespace, file: Path) -> dict[str, Any]:
    """Run every part and return what is in ``file``."""
    parts = Parts(
        file,
        {
            "environment": environment(),
            "preset": options.preset,
            "category": options.category,
            "epochs": options.epochs,
            "rounds": options.rounds,
            "precision": "bf16" if uses_bf16(config.training, torch.device("cpu")) else "fp32",
            # where the data lies is nobody's business
            "config": config.model_copy(update={"data": config.data.model_copy(update={"root": None})}).model_dump(
                mode="json"
            ),
        },
    )
    test_samples = len(build_dataset(config).records("test"))
    parts.run("epoch", lambda: measurements.epochs(config, rounds=options.rounds))
    parts.run("step_share", lambda: measurements.step_share(config, epochs=2))
    parts.run("loading", lambda: loading(config, rounds=options.rounds))
    parts.run(
        "prediction",
        lambda: measurements.single_predictions(config, samples=options.predictions, rounds=options.rounds),
    )
    parts.run("metrics", lambda: metrics.measure(test_samples, config.data.image_size, options.rounds))
    parts.run("job", lambda: jobs(config, rounds=options.jobs, epochs_measured=options.epochs_measured))
    return parts.result


def jobs(config: RunConfig, *, rounds: int, epochs_measured: int | None) -> dict[str, Any]:
    """Run whole jobs in turns, each in a process of its own."""
    finished: dict[str, list[dict[str, Any]]] = {"ours": [], "baseline": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for program in ("ours", "baseline"):
                out = Path(folder) / f"{program}-{number}"
                finished[program].append(job.run_job(program, config, out, epochs_measured=epochs_measured))
    return job.summary(finished)


def loading(config: RunConfig, *, rounds: int) -> dict[str, Any]:
    """Time how all splits are decoded, and how they are read again from a warm cache, in turns."""
    views = build_views(config)

    def load(run: RunConfig) -> None:
        for split in SPLITS:
            load_split(build_dataset(run), split, views=views)

    with tempfile.TemporaryDirectory() as folder:
        runs = {"decode": config}
        if "cache" in type(config.data).model_fields:
            runs["warm_cache"] = config.with_overrides(f"data.cache={folder}")
            load(runs["warm_cache"])
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                seconds[name].append(clock(lambda run=run: load(run)))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ratio = medians["decode"] / medians["warm_cache"] if "warm_cache" in medians else None
    return {"seconds": seconds, "median_seconds": medians, "ratio": ratio}


def _ratio(
    result: dict[str, Any], name: str, *, what: str, key: str = "median_seconds", program: str = "ours"
) -> str | None:
    part = done(result, name)
    return None if part is None else _row(what, part[key][program], part[key]["baseline"])


def _row(what: str, ours: float, baseline: float) -> str:
    return f"| {what} | {ours:.3f} | {baseline:.3f} | {baseline / ours:.1f}x |"


def _epoch_of_job(result: dict[str, Any]) -> str | None:
    """Return the row of the mean over all epochs of the whole job, in which starting up is one of many."""
    part = done(result, "job")
    if part is None:
        return None
    ours, baseline = (
        statistics.median(job["seconds"]["train"] for job in part["jobs"][name]) / result["epochs"]
        for name in ("ours", "baseline")
    )
    what = f"mean of the {result['epochs']} epochs of the whole job"
    return _row(what, ours, baseline)


def _phases_of_job(result: dict[str, Any]) -> str | None:
    """Return the row of what both programs do: without the run directory, report and detector that crdkit writes."""
    part = done(result, "job")
    if part is None:
        return None
    ours = statistics.median(sum(run["seconds"][phase] for phase in PHASES) for run in part["jobs"]["ours"])
    baseline = part["median_seconds"]["baseline"]
    what = f"whole job: load, {result['epochs']} epochs, calibrate, evaluate"
    return _row(what, ours, baseline)


def markdown(result: dict[str, Any]) -> str:
    """Lay the result out as a page."""
    size = result["config"]["data"]["image_size"]
    rows = [
        _ratio(result, "epoch", what="one training epoch by itself"),
        _epoch_of_job(result),
        _phases_of_job(result),
        _ratio(result, "job", what="the same, with crdkit's report and detector on disk"),
        _ratio(result, "metrics", what="metrics of the test maps", program="evaluate"),
        _ratio(result, "prediction", what="one prediction, p50", key="p50_seconds"),
        _ratio(result, "prediction", what="the same, compiled", key="p50_seconds", program="compiled"),
    ]
    machine = ", ".join(f"{key} {value}" for key, value in result["environment"].items() if value is not None)
    return "\n".join(
        [
            f"# On a CPU: preset `{result['preset']}`, {size} x {size}, category {result['category']}",
            "",
            "| what | crdkit, s | baseline, s | ratio |",
            "|---|--:|--:|--:|",
            *(row for row in rows if row is not None),
            "",
            *_notes(result),
            *not_done(result),
            "",
            f"{machine}.",
            "",
            "Repeat: `python -m benchmarks.cpu data.root=ROOT --category NAME`; all options: the JSON file beside it.",
            "",
        ]
    )


def _notes(result: dict[str, Any]) -> list[str]:
    rounds, precision = result["rounds"], result["precision"]
    lines = [f"- Medians of {rounds} rounds in turns. crdkit's students train in {precision}, the baseline's in fp32."]
    if found := done(result, "epoch"):
        lines.append(
            f"- Epoch: {found['samples']} samples; the baseline's DataLoader starts {found['workers']} workers. "
            f"The loss of the first epoch is {found['loss_of_first_epoch']['ours']:.6f}, the baseline's "
            f"{found['loss_of_first_epoch']['baseline']:.6f}."
        )
    if found := done(result, "step_share"):
        seconds = found["seconds"]
        lines.append(
            f"- Where training time goes: {found['share']:.1%} in the step (forward, losses, backward, optimiser), "
            f"{seconds['other']:.3f} of {seconds['train']:.2f} s elsewhere (gathering batches, logging)."
        )
    if found := done(result, "loading"):
        how = ", ".join(
            f"{name.replace('_', ' ')} {seconds:.3f} s" for name, seconds in found["median_seconds"].items()
        )
        ratio = f": {found['ratio']:.1f}x" if found["ratio"] else ""
        lines.append(f"- Loading all splits: {how}{ratio}.")
    if found := done(result, "prediction"):
        lines += _notes_on_predictions(found)
    if found := done(result, "job"):
        gib = {name: value / 2**30 for name, value in found["peak_bytes"].items()}
        within = "within" if found["peak_within_baseline_plus_resident"] else "above"
        lines.append(
            f"- Peak memory of the job's process: {gib['ours']:.2f} GiB; baseline {gib['baseline']:.2f} GiB, workers "
            f"not counted. crdkit keeps {found['resident_bytes'] / 2**30:.2f} GiB resident: {within} the baseline's "
            "plus that."
        )
        if found["extrapolated_from_epochs"]:
            lines.append(
                f"- **The baseline's job is extrapolated**: {found['extrapolated_from_epochs']} of {result['epochs']} "
                "epochs were run."
            )
    return lines


def _notes_on_predictions(found: dict[str, Any]) -> list[str]:
    compiling = found["compiling"]
    lines = [f"- Predictions: `Detector.compile` took {compiling['seconds']:.1f} s, once"]
    if compiling["before_bytes"] is not None:
        before, after, peak = (compiling[name] / 2**30 for name in ("before_bytes", "after_bytes", "peak_bytes"))
        lines[0] += f"; the process held {before:.2f} GiB before, {after:.2f} after and {peak:.2f} at most"
    lines[0] += "."
    for program, parts in found["parts"].items():
        times = ", ".join(f"{part} {1e3 * seconds:.1f}" for part, seconds in parts.items())
        lines.append(f"- Parts of a prediction of all sensors on one thread, {program}, ms: {times}.")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="+", help="data.root=ROOT and other key.path=value")
    parser.add_argument("--category", required=True)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--epochs", type=int, default=20, help="of the whole job")
    parser.add_argument("--epochs-measured", type=int, help="of the baseline's whole job; the others are extrapolated")
    parser.add_argument("--rounds", type=int, default=2, help="in turns, of everything but the whole job")
    parser.add_argument("--jobs", type=int, default=1, help="whole jobs of each, in turns")
    parser.add_argument("--predictions", type=int, default=20, help="samples predicted one by one in each round")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of cpu.json and cpu.md")
    options = parser.parse_args(arguments)
    os.environ.pop("CRDKIT_CACHE", None)  # files are decoded, unless a part says otherwise
    config = load_config(options.preset).with_overrides(
        f"data.category={options.category}",
        f"training.epochs={options.epochs}",
        "training.device=cpu",
        *options.overrides,
    )
    result = measure(config, options, options.out / "cpu.json")
    page = markdown(result)
    (options.out / "cpu.md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
