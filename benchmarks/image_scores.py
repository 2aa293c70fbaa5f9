"""Compare image scores on finished runs without test labels: ``python -m benchmarks.image_scores RUN...``.

A score has no part in the training, so each run's maps are made once. Negatives are validation normals, positives are
copies of them with pasted defects: those of `benchmarks.selection`, large stains and dents, and spots pasted into views
(`benchmarks.pasting`). "Shifted" adds normals of another brightness or with noise to the negatives. Aggregation and
score are fitted to five sixths of the normals and score the rest. ``--test`` adds the test split, for synthetic data.
The row "discriminant" is Fisher's on the logarithms of the maxima at four sizes and of the map's mean, with the
spots as its positives. I-AUROC in percent, means over the runs.

    python -m benchmarks.image_scores runs/seed0 runs/seed1 --variant maximum --variant "{name: top_mean, share: 0.01}"
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import yaml
from sklearn.metrics import roc_auc_score

from benchmarks.aggregations import Maps, raw_maps
from benchmarks.pasting import paste_defects
from benchmarks.selection import DEFECTS, Pair, dent, stain
from crdkit.config.build import build_dataset, build_scorer
from crdkit.config.run_config import RunConfig
from crdkit.detector import Detector
from crdkit.detector.files import load_detector
from crdkit.scoring.maps import GaussianSmoothing
from crdkit.scoring.scorer import Scorer
from crdkit.views._background import foreground
from crdkit.views.foreground import is_foreground, join_foregrounds, outlined_by
from crdkit.views.split import batches, load_split, view_sample

FOLDS, COPIES, RIDGE, POOLED = 6, 4, 0.05, 0.3
DEFAULT = ("maximum", "relative_maximum", "top_mean")
COLUMNS = ("pasted", "spots", "shifted", "test")


class Scored(NamedTuple):
    """Maps of some samples."""

    raw: Maps
    inside: torch.Tensor | None
    sources: np.ndarray
    """(N,) the validation normal that each was made from."""
    kinds: np.ndarray

    def of(self, rows: np.ndarray) -> Scored:
        inside = None if self.inside is None else self.inside[rows]
        return Scored(
            {name: maps[rows] for name, maps in self.raw.items()}, inside, self.sources[rows], self.kinds[rows]
        )


def brighter(rng: np.random.Generator, rgb: np.ndarray, xyz: np.ndarray, inside: np.ndarray) -> Pair:
    """Change the brightness by 3 to 8 %: still a normal part."""
    return np.clip(rgb * (1 + rng.choice([-1, 1]) * rng.uniform(0.03, 0.08)), 0, 255).astype(np.uint8), xyz


def noisier(rng: np.random.Generator, rgb: np.ndarray, xyz: np.ndarray, inside: np.ndarray) -> Pair:
    """Add noise of 2 to 5 grey levels: still a normal part."""
    return np.clip(rgb + rng.normal(0, rng.uniform(2, 5), rgb.shape), 0, 255).round().astype(np.uint8), xyz


SHIFTS = {"brighter": brighter, "noisier": noisier}
LARGE = (0.12, 0.25)
PASTED = {
    **DEFECTS,
    "large stain": partial(stain, radius=LARGE, darker=(0.7, 0.9), lighter=(1.08, 1.3)),
    "large dent": partial(dent, radius=LARGE),
}


def pasted(config: RunConfig, detector: Detector) -> Iterator[tuple[int, str, Maps]]:
    """Yield source, kind and views of changed copies of every validation normal."""
    dataset, size = build_dataset(config), config.data.image_size
    for source, record in enumerate(dataset.records("validation")):
        sensors = dataset.read(record).sensors
        for name, change in {**PASTED, **SHIFTS}.items():
            rng = np.random.default_rng(zlib.crc32(f"{record.sample_id}/{name}".encode()))
            rgb, xyz = change(rng, sensors["rgb"], sensors["xyz"], foreground(sensors["xyz"]))
            yield source, name, view_sample(detector.views, {"rgb": rgb, "xyz": xyz}, image_size=size)


def scored(
    detector: Detector, inputs: Mapping[str, torch.Tensor], sources: Sequence[int], kinds: Sequence[str]
) -> Scored:
    """Return the maps of inputs (N, C, S, S)."""
    inside = join_foregrounds([is_foreground(inputs[name]) for name in sorted(outlined_by(detector.views))])
    return Scored(raw_maps(detector, inputs), inside, np.array(sources), np.array(kinds))


def load(detector: Detector, *, test: bool) -> dict[str, Scored]:
    """Return the maps of validation normals, pasted defects, spots and, on demand, the test split."""
    config = detector.config
    normals = load_split(build_dataset(config), "validation", views=detector.views)
    found = {"normals": scored(detector, normals.inputs, range(len(normals)), ["good"] * len(normals))}
    sources, kinds, views = zip(*pasted(config, detector), strict=True)
    stacked = {name: torch.stack([view[name] for view in views]) for name in detector.views}
    found["pasted"] = scored(detector, stacked, sources, kinds)
    generator = torch.Generator().manual_seed(0)
    copies = [paste_defects(normals.inputs, found["normals"].inside, generator=generator)[0] for _ in range(COPIES)]
    spots = {name: torch.cat([copy[name] for copy in copies]) for name in detector.views}
    found["spots"] = scored(detector, spots, [*range(len(normals))] * COPIES, ["spot"] * COPIES * len(normals))
    if test:
        split = load_split(build_dataset(config), "test", views=detector.views)
        names = [record.defect_type for record in split.records]
        found["test"] = scored(detector, split.inputs, [-1] * len(split), names)
    return found


Rank = Callable[[Scored], np.ndarray]


def fit_score(config: RunConfig, normals: Scored, spots: Scored) -> Rank:
    """Fit aggregation and score of a configuration."""
    scorer = build_scorer(config)
    scorer.calibrate(normals.raw, normals.inside)
    return lambda maps: _in_parts(maps, lambda part: scorer(part.raw, foreground=part.inside).pred_score.numpy())


def fit_discriminant(config: RunConfig, normals: Scored, spots: Scored) -> Rank:
    """Fit Fisher's discriminant of maxima at several sizes and the mean to normals and their spots."""
    scorer = build_scorer(config)
    scorer.calibrate(normals.raw, normals.inside)
    size, sigma = scorer.size, config.scoring.sigma
    smoothings = [GaussianSmoothing(sigma * factor, size=size) for factor in (0.5, 1, 2, 4)]

    def levels(maps: Scored) -> np.ndarray:
        fused = scorer.aggregation.fuse(maps.raw)
        values = [smoothing(fused).amax((1, 2)) for smoothing in smoothings]
        return torch.stack([*values, fused.mean((1, 2))], dim=1).clamp_min(1e-6).log().double().numpy()

    normal = _levels_of_others(config, normals, levels, scorer)
    mean, std = normal.mean(axis=0), normal.std(axis=0, ddof=1)
    std = np.exp((1 - POOLED) * np.log(std) + POOLED * np.log(std).mean())
    around = (normal - mean) / std
    covariance = (1 - RIDGE) * around.T @ around / (len(around) - 1) + RIDGE * np.eye(len(std))
    shift = ((_in_parts(spots, levels) - mean) / std).mean(axis=0)
    weights = np.linalg.solve(covariance, shift)
    return lambda maps: _in_parts(maps, lambda part: (levels(part) - mean) / std @ weights)


def _levels_of_others(
    config: RunConfig, normals: Scored, levels: Callable[[Scored], np.ndarray], scorer: Scorer
) -> np.ndarray:
    """Return the levels of normals, each under an aggregation that was fitted without it."""
    state = {name: value.clone() for name, value in scorer.state_dict().items()}
    found = []
    for fold in np.array_split(np.arange(len(normals.sources)), FOLDS):
        others = normals.of(np.setdiff1d(np.arange(len(normals.sources)), fold))
        scorer.calibrate(others.raw, others.inside)
        found.append(levels(normals.of(fold)))
    scorer.load_state_dict(state)
    return np.concatenate(found)


@torch.no_grad()
def _in_parts(maps: Scored, function: Callable[[Scored], np.ndarray]) -> np.ndarray:
    rows = np.arange(len(maps.sources))
    return np.concatenate([function(maps.of(rows[part])) for part in batches(len(rows), 16)])


def measure(config: RunConfig, maps: Mapping[str, Scored], fit: Callable[..., Rank]) -> dict[str, float]:
    """Return the columns of the table."""
    normals, count = maps["normals"], len(maps["normals"].sources)
    found = {name: np.zeros(len(maps[name].sources)) for name in ("normals", "pasted", "spots")}
    for first in range(FOLDS):
        fold = np.arange(first, count, FOLDS)
        spots = maps["spots"]
        rank = fit(config, normals.of(np.setdiff1d(np.arange(count), fold)), spots.of(~np.isin(spots.sources, fold)))
        for name, values in found.items():
            chosen = np.isin(maps[name].sources, fold)
            values[chosen] = rank(maps[name].of(chosen))
    kinds = maps["pasted"].kinds
    shifted, defects = (np.isin(kinds, [*names]) for names in (SHIFTS, PASTED))
    each = [_auroc(found["normals"], found["pasted"][kinds == kind]) for kind in PASTED]
    negatives = np.append(found["normals"], found["pasted"][shifted])
    row = {
        "pasted": float(np.mean(each)),
        "spots": _auroc(found["normals"], found["spots"]),
        "shifted": _auroc(negatives, np.append(found["pasted"][defects], found["spots"])),
    }
    if "test" in maps:
        scores, good = fit(config, normals, maps["spots"])(maps["test"]), maps["test"].kinds == "good"
        row["test"] = _auroc(scores[good], scores[~good])
    return row


def _auroc(negatives: np.ndarray, positives: np.ndarray) -> float:
    labels = np.repeat([0, 1], [len(negatives), len(positives)])
    return 100 * float(roc_auc_score(labels, np.append(negatives, positives)))


def main() -> None:
    """Print one Markdown row a score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--variant", action="append", help="scoring.score, as YAML; some by default")
    parser.add_argument("--test", action="store_true", help="score the test split too: for synthetic data only")
    arguments = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {}
    for run in arguments.runs:
        detector = load_detector(run)
        maps = load(detector, test=arguments.test)
        for variant in arguments.variant or DEFAULT:
            config = detector.config.with_overrides({"scoring.score": yaml.safe_load(variant)})
            rows.setdefault(variant, []).append(measure(config, maps, fit_score))
        rows.setdefault("discriminant", []).append(measure(detector.config, maps, fit_discriminant))
    columns = [column for column in COLUMNS if column in rows["discriminant"][0]]
    print(f"| score | {' | '.join(columns)} |\n|---{'|--:' * len(columns)}|")
    for variant, found in rows.items():
        print(f"| {variant} | {' | '.join(f'{np.mean([row[key] for row in found]):.1f}' for key in columns)} |")


if __name__ == "__main__":
    main()
