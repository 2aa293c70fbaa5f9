"""Two checkouts of crdkit against each other: an epoch, a prediction, an import and ``crdkit --help``.

    git worktree add ../before COMMIT
    python -m benchmarks.versions --before ../before data.root=ROOT [--category cable_gland] [--pairs 7] [--write]

Each pair is two processes, one of each checkout, in turns of changing order. A process trains the preset `quick` for
some epochs and then predicts test samples one by one; reported are its median epoch after the first, and its median
prediction. The ratio of a pair is this checkout over the one before, so that below 1 is quicker.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import environment

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"

_MEASURED = """
import json, sys, time
from pathlib import Path
import crdkit
try:
    import crdkit.runs.directory as directory
    from crdkit.config.build import build_dataset
except ImportError:  # before the rooms
    import crdkit.run_directory as directory
    from crdkit.resident import build_dataset

directory.write_report = lambda *_arguments, **_options: None
out, samples, overrides = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
config = crdkit.RunConfig.preset("quick").with_overrides(*overrides)
detector = crdkit.fit(config, out / "run")
epochs = [json.loads(line)["seconds"] for line in (out / "run/log.jsonl").read_text().splitlines()]
dataset = build_dataset(config)
sensors = [dataset.read(record).sensors for record in dataset.records("test")[:samples]]
for _ in range(3):
    detector.predict(sensors[0])
seconds = []
for sample in sensors * 2:
    start = time.perf_counter()
    detector.predict(sample)
    seconds.append(time.perf_counter() - start)
(out / "result.json").write_text(json.dumps({"epochs": epochs[1:], "predictions": seconds}))
"""


def run(checkout: Path, overrides: list[str], *, samples: int) -> dict[str, float]:
    """Train and predict in a process of ``checkout``; return seconds of an epoch and of a prediction."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-c", _MEASURED, scratch, str(samples), *overrides]
        subprocess.run(command, cwd=scratch, env=_environment(checkout), check=True, stderr=subprocess.DEVNULL)
        measured = json.loads((Path(scratch) / "result.json").read_text(encoding="utf-8"))
    return {
        "epoch": statistics.median(measured["epochs"]),
        "prediction": statistics.median(measured["predictions"]),
    }


def start_up(checkout: Path) -> dict[str, float]:
    """Return the seconds that an import and ``crdkit --help`` take in ``checkout``, interpreter included."""
    found = {}
    for name, arguments in (("import crdkit", ["-c", "import crdkit"]), ("crdkit --help", ["-m", "crdkit", "--help"])):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, *arguments], env=_environment(checkout), cwd="/", check=True, capture_output=True
        )
        found[name] = time.perf_counter() - start
    return found


def compare(before: Path, overrides: list[str], *, pairs: int, starts: int, samples: int) -> dict[str, Any]:
    """Measure both checkouts in turns."""
    checkouts = {"before": before, "now": ROOT}
    seconds: dict[str, dict[str, list[float]]] = {}

    def note(program: str, measured: dict[str, float]) -> None:
        for what, value in measured.items():
            seconds.setdefault(what, {"before": [], "now": []})[program].append(value)

    for number in range(starts):
        for program in ("before", "now") if number % 2 else ("now", "before"):
            note(program, start_up(checkouts[program]))
    for number in range(pairs):
        for program in ("before", "now") if number % 2 else ("now", "before"):
            note(program, run(checkouts[program], overrides, samples=samples))
        print(f"pair {number + 1} of {pairs}: {_ratios(seconds)}", file=sys.stderr, flush=True)
    ratios = {
        what: [now / then for now, then in zip(of["now"], of["before"], strict=True)] for what, of in seconds.items()
    }
    return {
        "environment": environment(),
        "before": _tree(before),
        "now": _tree(ROOT),
        "overrides": [override for override in overrides if not override.startswith("data.root")],
        "seconds": seconds,
        "ratios": ratios,
        "median_ratio": {what: statistics.median(values) for what, values in ratios.items()},
    }


def page(result: dict[str, Any]) -> str:
    """Return the result in Markdown."""
    lines = [
        "# This checkout against the one before",
        "",
        f"`python -m benchmarks.versions`, git trees of `crdkit/`: before {result['before']}, now {result['now']}.",
        f"Preset `quick` with {' '.join(result['overrides'])}.",
        "",
        "| | before, s | now, s | ratio: median (least to most) | pairs |",
        "|---|--:|--:|--:|--:|",
    ]
    for what, of in result["seconds"].items():
        ratios = result["ratios"][what]
        then, now = (statistics.median(of[program]) for program in ("before", "now"))
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        lines.append(f"| {what} | {then:.4g} | {now:.4g} | {spread} | {len(ratios)} |")
    where = ", ".join(f"{key} {value}" for key, value in result["environment"].items() if value is not None)
    return "\n".join([*lines, "", where, ""])


def _environment(checkout: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(checkout)}


def _tree(checkout: Path) -> str:
    """The git tree of ``crdkit/``: it names the code that ran, whichever commits lead to it."""
    git = ["git", "-C", str(checkout)]
    tree = subprocess.run([*git, "rev-parse", "--short", "HEAD:crdkit"], capture_output=True, text=True, check=True)
    changed = subprocess.run([*git, "status", "--porcelain", "crdkit"], capture_output=True, text=True, check=True)
    return tree.stdout.strip() + ("-dirty" if changed.stdout else "")


def _ratios(seconds: dict[str, dict[str, list[float]]]) -> str:
    last = {what: of["now"][-1] / of["before"][-1] for what, of in seconds.items()}
    return ", ".join(f"{what} {ratio:.3f}" for what, ratio in last.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="+", help="data.root=ROOT, and what else is to be overridden")
    parser.add_argument("--before", type=Path, required=True, help="checkout of the version before")
    parser.add_argument("--category", default="cable_gland")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--starts", type=int, default=15, help="pairs of imports")
    parser.add_argument("--samples", type=int, default=20, help="test samples that are predicted, twice each")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/versions.{json,md}")
    options = parser.parse_args()
    overrides = [*options.overrides, f"data.category={options.category}", f"training.epochs={options.epochs}"]
    result = compare(
        options.before.resolve(), overrides, pairs=options.pairs, starts=options.starts, samples=options.samples
    )
    print(page(result))
    if options.write:
        (RESULTS / "versions.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        (RESULTS / "versions.md").write_text(page(result), encoding="utf-8")


if __name__ == "__main__":
    main()
