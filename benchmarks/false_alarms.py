"""How often good parts are called anomalous, against what was asked for and the Beta distribution of the theory.

    python -m benchmarks.false_alarms [--pool 1400] [--sets 100] [--out OUT]

A detector for one, two and three sensors (RGB, depth, infrared; 32 x 32, a small untrained teacher) is trained on
synthetic good parts. The raw maps of a pool of other good parts are computed once, with all sensors and without each
of them. Then calibration sets of 23, 100 and 1,000 parts are drawn from the pool at random: `Detector.calibrate` sets
thresholds as in a training, with its cross-fitting, and the rest of the pool counts the false alarms. Whatever the
scores are, a threshold at the k-th of n leaves m held-out parts with a Beta-binomial number of alarms.

Writes benchmarks/results/false_alarms.json and docs/images/false_alarms.svg, and prints a table.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

import crdkit
from benchmarks.machine import environment
from crdkit._core.progress import set_quiet, track
from crdkit.config.build import build_dataset
from crdkit.data.synthetic import write_folder
from crdkit.detector import Detector
from crdkit.detector._calibration import calibrate, sets_of_modalities
from crdkit.detector._engine import Engine, RawMaps
from crdkit.scoring.conformal import allowed_above
from crdkit.scoring.scorer import Scorer
from crdkit.scoring.thresholds import Modalities, Thresholds
from crdkit.views.split import LoadedSplit, batches, load_split

RESULT = Path(__file__).parent / "results" / "false_alarms.json"
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "false_alarms.svg"
SENSORS = ("rgb", "depth", "infrared")
RATES, COUNTS = (0.01, 0.05, 0.1), (23, 100, 1000)
SIZE = 32


@dataclass(frozen=True)
class Pool:
    """Raw maps of good parts, by the modalities that are there, and what scores them."""

    raw: dict[Modalities, RawMaps]
    scorer: Scorer
    false_alarms: float = 0.01

    @property
    def sets(self) -> list[Modalities]:
        return list(self.raw)

    def __len__(self) -> int:
        return len(next(iter(self.raw[self.sets[0]].branches.values())))


def train(root: Path, sensors: tuple[str, ...]) -> Detector:
    """Return a detector of some sensors, which can do without one if there are several."""
    teacher = "{name: timm, model: test_resnet, pretrained: false}"
    wanted = [f"modalities.{name}.encoder={teacher}" for name in sensors if name != "infrared"]
    if "infrared" in sensors:
        options = f"{{name: single_channel, sensor: infrared, range: [29200, 30250], encoder: {teacher}}}"
        wanted.append(f"modalities.infrared={options}")
    wanted += [f"modalities.{name}=null" for name in ("rgb", "depth") if name not in sensors]
    wanted += [f"data.root={root}", "data.name=folder", "data.category=gear", f"data.image_size={SIZE}"]
    wanted += ["student.depths=1", "student.embedding_blocks=1", "training.epochs=3", "training.device=cpu"]
    wanted += ["graph.filter.size=2", "scoring.sigma=1", f"training.modality_dropout={0.2 if len(sensors) > 1 else 0}"]
    return crdkit.fit(crdkit.RunConfig.preset("quick").with_overrides(*wanted))


def pool_of(detector: Detector, split: LoadedSplit) -> Pool:
    """Return the raw maps of all samples, with all modalities and without some."""
    engine, raw = detector._engine(), {}
    for modalities in sets_of_modalities(detector.views, spares=len(detector.views) > 1):
        if len(modalities) < len(detector.views) - 1:
            continue  # one sensor may be missing
        seen = split.without(*(name for name in detector.views if name not in modalities))
        parts = []
        for rows in batches(len(split), 64):
            inputs, present = seen.batch(rows)
            parts.append(engine.raw_maps(inputs.__getitem__, present))
        branches = {name: torch.cat([part.branches[name] for part in parts]) for name in detector.views}
        inside = [part.foreground for part in parts if part.foreground is not None]
        raw[modalities] = RawMaps(branches, torch.cat(inside) if inside else None)
    return Pool(raw, detector.scorer)


class _Recorded:
    """Stands in for engine and split of a calibration: the inputs are rows of the pool, the maps are looked up."""

    def __init__(self, pool: Pool, rows: torch.Tensor) -> None:
        self._pool, self._rows = pool, rows
        self.scorer, self.device = deepcopy(pool.scorer), torch.device("cpu")
        self.inputs = dict.fromkeys(pool.sets[0], rows[:, None] + 1)  # 0 stands for a missing one

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: slice) -> tuple[dict[str, torch.Tensor], None]:
        return {name: values[rows] for name, values in self.inputs.items()}, None

    def raw_maps(self, inputs: Any, present: dict[str, torch.Tensor]) -> RawMaps:
        modalities = tuple(name for name, has in present.items() if has.all())
        return of_rows(self._pool.raw[modalities], inputs(modalities[0])[:, 0] - 1)


def of_rows(raw: RawMaps, rows: torch.Tensor) -> RawMaps:
    """Return those of some samples."""
    inside = None if raw.foreground is None else raw.foreground[rows]
    return RawMaps({name: maps[rows] for name, maps in raw.branches.items()}, inside)


@torch.no_grad()
def set_thresholds(pool: Pool, rows: torch.Tensor) -> tuple[Thresholds, Scorer]:
    """Return the thresholds that these rows of the pool set, and the scorer that they are for."""
    stand_in = _Recorded(pool, rows)
    found = calibrate(
        cast(Engine, stand_in),
        cast(LoadedSplit, stand_in),
        of_rows(pool.raw[pool.sets[0]], rows),
        sets=pool.sets,
        batch_size=64,
        false_alarms=pool.false_alarms,
    )
    return found, stand_in.scorer


@torch.no_grad()
def score(pool: Pool, scorer: Scorer, modalities: Modalities, rows: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the image scores of samples with some modalities, and the peaks of their maps."""
    raw = of_rows(pool.raw[modalities], rows)
    present = None
    if modalities != pool.sets[0]:
        present = {name: torch.full((len(rows),), name in modalities) for name in pool.sets[0]}
    maps = scorer(raw.branches, present, foreground=raw.foreground)
    return maps.pred_score.double().numpy(), maps.anomaly_map.flatten(1).amax(dim=1).double().numpy()


def count_alarms(pool: Pool, *, count: int, sets: int, rates: tuple[float, ...] = RATES) -> Iterator[dict[str, Any]]:
    """Yield ``{modalities, normals, rate, extrapolated, held_out, alarms, pixel_alarms}``: alarms in each random set.

    A rate that is not supported is extrapolated.
    """
    found: dict[tuple[Modalities, float], list[tuple[int, int]]] = {}
    rng = np.random.default_rng(count)
    drawn = (torch.from_numpy(rng.permutation(len(pool))) for _ in range(sets))
    for order in track(drawn, description=f"{len(pool.sets[0])} sensors, {count} normals", total=sets):
        thresholds, scorer = set_thresholds(pool, order[:count])
        for modalities in pool.sets:
            scores, peaks = score(pool, scorer, modalities, order[count:])
            for rate in rates:
                at = thresholds.at(rate, extrapolate=True)
                image, pixel = at.images[modalities].value, at.pixels[modalities].value
                alarms = int((scores > image).sum()), int((peaks > pixel).sum())
                found.setdefault((modalities, rate), []).append(alarms)
    for (modalities, rate), alarms in found.items():
        yield {
            "modalities": list(modalities),
            "normals": count,
            "rate": rate,
            "extrapolated": not allowed_above(count, rate),
            "held_out": len(pool) - count,
            "alarms": [image for image, _ in alarms],
            "pixel_alarms": [pixel for _, pixel in alarms],
        }


def summary(row: dict[str, Any], key: str = "alarms") -> dict[str, float]:
    """Return mean and standard error of the rate, and how well it follows the Beta-binomial distribution.

    ``p`` is of a Kolmogorov-Smirnov test of randomised ranks under that distribution; ``spread`` the ratio of the
    standard deviations, measured to expected.
    """
    from scipy import stats

    alarms, held_out, count = np.array(row[key]), row["held_out"], row["normals"]
    rates = alarms / held_out
    found = {"mean": float(rates.mean()), "error": float(rates.std(ddof=1) / math.sqrt(len(rates)))}
    if row["extrapolated"]:
        return found
    above = allowed_above(count, row["rate"])
    theory = stats.betabinom(held_out, above, count + 1 - above)
    below = theory.cdf(alarms - 1)
    ranks = below + np.random.default_rng(0).random(len(alarms)) * (theory.cdf(alarms) - below)
    found |= {"expected": above / (count + 1), "spread": float(alarms.std(ddof=1) / theory.std())}
    return found | {"p": float(stats.kstest(ranks, "uniform").pvalue)}


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table: for each number of normals and rate, the mean of all detectors and the worst."""
    lines = [
        "| normals | asked | mean, image | worst | mean, pixels | worst | spread / Beta |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for count in COUNTS:
        for rate in RATES:
            chosen = [row for row in rows if (row["normals"], row["rate"]) == (count, rate)]
            if not chosen:
                continue
            images, pixels = ([summary(row, key) for row in chosen] for key in ("alarms", "pixel_alarms"))
            shown = [f"{100 * np.mean([s['mean'] for s in part]):.2f} %" for part in (images, pixels)]
            worst = [f"{100 * max(s['mean'] for s in part):.2f} %" for part in (images, pixels)]
            spread = "extrapolated"
            if not chosen[0]["extrapolated"]:
                ratios = [s["spread"] for s in images]
                spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            asked = f"{100 * rate:g} %"
            lines.append(f"| {count} | {asked} | {shown[0]} | {worst[0]} | {shown[1]} | {worst[1]} | {spread} |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Draw the distribution of the true rate over calibration sets, a panel for each number of normals."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from scipy import stats

    with mpl.rc_context({"svg.hashsalt": "crdkit", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10, 3.2), layout="constrained")
        for panel, count in zip(figure.subplots(1, len(COUNTS)), COUNTS, strict=True):
            for rate, colour in zip(RATES, ("tab:blue", "tab:orange", "tab:green"), strict=True):
                chosen = [row for row in rows if (row["normals"], row["rate"]) == (count, rate)]
                if not chosen or chosen[0]["extrapolated"]:
                    continue
                measured = np.sort(np.concatenate([np.array(row["alarms"]) / row["held_out"] for row in chosen]))
                above = allowed_above(count, rate)
                grid = np.linspace(0, min(4 * rate, 0.35), 300)
                panel.plot(
                    100 * measured, np.arange(1, len(measured) + 1) / len(measured), color=colour, lw=2.5, alpha=0.5
                )
                theory = stats.beta(above, count + 1 - above).cdf(grid)
                panel.plot(100 * grid, theory, color="black", lw=0.8, ls="--")
                panel.plot([], [], color=colour, lw=2.5, alpha=0.5, label=f"asked {100 * rate:g} %")
            panel.plot([], [], color="black", lw=0.8, ls="--", label="Beta")
            panel.set(title=f"{count:,} normal samples", xlabel="true rate of false alarms, %")
            panel.set_xlim(0, 35 if count == 23 else 20)
            panel.grid(alpha=0.3)
            panel.legend(frameon=False, loc="lower right")
        figure.axes[0].set_ylabel("share of calibration sets below")
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, metadata={"Date": None})


def measure(folder: Path, *, pool: int, sets: int, counts: tuple[int, ...] = COUNTS) -> list[dict[str, Any]]:
    """Write the data below ``folder``, train a detector for one, two and three sensors, and count false alarms."""
    root = write_folder(
        folder / "parts",
        categories=["gear"],
        sensors=["rgb", "xyz", "infrared"],
        train=24,
        validation=8,
        test_good=pool,
        test_per_defect=0,
        size=SIZE,
    )
    pools = [record(root, SENSORS[:number]) for number in range(1, len(SENSORS) + 1)]
    return [row for count in counts for recorded in pools for row in count_alarms(recorded, count=count, sets=sets)]


def record(root: Path, sensors: tuple[str, ...]) -> Pool:
    """Train a detector of some sensors, and return the raw maps of the good test samples."""
    detector = train(root, sensors)
    return pool_of(detector, load_split(build_dataset(detector.config), "test", views=detector.views))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pool", type=int, default=1400, help="good parts that sets are drawn from")
    parser.add_argument("--sets", type=int, default=100, help="random calibration sets")
    parser.add_argument("--out", type=Path, help="keep the data there")
    parser.add_argument("--figure-only", action="store_true", help="draw from the result that is there")
    given = parser.parse_args()
    if given.figure_only:
        rows = json.loads(RESULT.read_text(encoding="utf-8"))["rows"]
    else:
        with tempfile.TemporaryDirectory() as scratch:
            rows = measure(given.out or Path(scratch), pool=given.pool, sets=given.sets)
        result = {"environment": environment(), "sets": given.sets, "rows": rows}
        RESULT.write_text(json.dumps(result, separators=(",", ":")) + "\n", encoding="utf-8")
    draw(rows, FIGURE)
    print(table(rows))
    late = [row for row in rows if not row["extrapolated"] for key in ("alarms", "pixel_alarms") if _above(row, key)]
    print(
        f"{len(late)} of {2 * len(rows)} means are above the rate that was asked for by more than two standard errors"
    )
    p = [summary(row)["p"] for row in rows if not row["extrapolated"]]
    print(f"Beta-binomial: the smallest of {len(p)} p-values is {min(p):.2g}")


def _above(row: dict[str, Any], key: str) -> bool:
    found = summary(row, key)
    return found["mean"] > row["rate"] + 2 * found["error"]


if __name__ == "__main__":
    set_quiet(False)
    main()
