"""How samples that lack branches compare with complete ones: ``python -m benchmarks.missing_branches``.

Maps are made up: coarse noise whose tail is light, heavy, exponential or bounded, or a constant; a defect is a bump
that one branch sees, or all. A third of the samples lack one branch. The table compares I-AUROC of complete samples and
of these: under the former filling (a missing map is as many of its own standard deviations above its own mean as the
others are, whatever unit the aggregation reads) and today's. "level" is the largest factor by which the median score of
normal samples changes when all of them lack the same branches.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import mean

import torch
import torch.nn.functional as F

from benchmarks.runs import row
from crdkit.scoring.aggregations import Aggregation, aggregations
from crdkit.scoring.maps import GaussianSmoothing, anomaly_score
from crdkit.scoring.metrics import evaluate

SIZE = 48
SCENES = (
    ("light", "heavy"),
    ("exponential", "uniform"),
    ("light", "heavy", "uniform"),
    ("light", "exponential", "constant"),
)
PARTS = ("tail_norm", "normalised_sum", "max", "sum", "product", "weighted")
Maps = dict[str, torch.Tensor]
Present = dict[str, torch.Tensor]
Fuse = Callable[[Aggregation, Maps, Present], torch.Tensor]


def noise(kind: str, samples: int, generator: torch.Generator) -> torch.Tensor:
    """Return (N, SIZE, SIZE) maps of normal samples, at least 0; each sample has a level of its own, too."""
    shape = (samples, 1, 12, 12)
    spread, draw = torch.randn(shape, generator=generator), torch.rand(shape, generator=generator)
    values = {
        "light": 0.3 + 0.05 * spread,
        "heavy": 0.3 + 0.02 * spread + (draw < 0.01) * torch.rand(shape, generator=generator),
        "exponential": -0.1 * draw.clamp_min(1e-6).log(),
        "uniform": draw,
        "constant": torch.full(shape, 0.2),
    }[kind]
    if kind != "constant":
        values = values * (1 + 0.1 * torch.randn((samples, 1, 1, 1), generator=generator))
    return F.interpolate(values, size=(SIZE, SIZE), mode="bilinear", align_corners=True)[:, 0].clamp_min(0)


def normals(kinds: Sequence[str], samples: int, generator: torch.Generator) -> Maps:
    """Return the maps of normal samples, one branch of each kind."""
    return {f"{kind}{index}": noise(kind, samples, generator) for index, kind in enumerate(kinds)}


def defects(maps: Maps, generator: torch.Generator, *, seen_by: str) -> Maps:
    """Return the maps with a bump each, in ``one`` branch or in ``all``; a constant branch sees nothing."""
    maps = {name: values.clone() for name, values in maps.items()}
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    for sample in range(len(next(iter(maps.values())))):
        top, left = torch.randint(8, SIZE - 8, (2,), generator=generator).tolist()
        bump = torch.exp(-((rows - top) ** 2 + (columns - left) ** 2) / 18)
        chosen = int(torch.randint(len(maps), (1,), generator=generator))
        for index, values in enumerate(maps.values()):
            if seen_by == "all" or index == chosen:
                values[sample] += 6 * values.std() * bump
    return maps


def subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield every set of branches that a sample may have."""
    for count in range(1, len(names) + 1):
        yield from itertools.combinations(names, count)


def only(names: Sequence[str], kept: Sequence[str], samples: int) -> Present:
    """Return the flags of samples that all have the ``kept`` branches and no others."""
    return {name: torch.full((samples,), name in kept) for name in names}


def build(name: str, names: Sequence[str]) -> Aggregation:
    """Build an aggregation with its default options; the first branch weighs double, the last nothing."""
    options = {"weights": {**dict.fromkeys(names, 1), names[-1]: 0, names[0]: 2}} if name == "weighted" else {}
    return aggregations.build(aggregations.build_config({"name": name, **options}), modalities=tuple(names))


def former(part: Aggregation, maps: Maps, present: Present) -> torch.Tensor:
    """Fuse as before: the missing map in standard deviations around its mean, whatever the aggregation reads."""
    has = torch.stack([present[name] for name in part.modalities])[:, :, None, None]
    normalised = part.stacked(part.normalised(maps))
    typical = torch.where(has, normalised, 0).sum(dim=0) / has.sum(dim=0).clamp_min(1)
    mean, std = part.mean.float(), part.std.float()
    fused: torch.Tensor = part(
        {
            name: torch.where(has[index], maps[name], mean[index] + std[index] * typical)
            for index, name in enumerate(part.modalities)
        }
    )
    return fused


def today(part: Aggregation, maps: Maps, present: Present) -> torch.Tensor:
    """Fuse as the library does."""
    return part.fuse(maps, present)


def scores(part: Aggregation, maps: Maps, present: Present, fuse: Fuse = today) -> torch.Tensor:
    """Return the (N,) image scores."""
    return anomaly_score(GaussianSmoothing(2.0, size=SIZE)(fuse(part, maps, present)))


def level(part: Aggregation, maps: Maps, fuse: Fuse = today, *, quantile: float = 0.5) -> dict[tuple[str, ...], float]:
    """Return a quantile of the scores of normal samples for each set of branches, over that with all of them."""
    names, count = part.modalities, len(next(iter(maps.values())))
    of = {kept: scores(part, maps, only(names, kept, count), fuse).quantile(quantile).item() for kept in subsets(names)}
    return {kept: value / of[names] for kept, value in of.items()}


def third_incomplete(names: Sequence[str], samples: int, generator: torch.Generator) -> Present:
    """Return flags with which a third of the samples lack one branch each."""
    incomplete = torch.rand(samples, generator=generator) < 1 / 3
    which = torch.randint(len(names), (samples,), generator=generator)
    return {name: ~(incomplete & (which == index)) for index, name in enumerate(names)}


def compare(name: str, kinds: Sequence[str], *, seen_by: str, seed: int, samples: int = 150) -> Mapping[str, float]:
    """Return I-AUROC of complete samples, and with a third incomplete under both fillings, and the changes of level."""
    generator = torch.Generator().manual_seed(seed)
    calibration, good = normals(kinds, 20, generator), normals(kinds, samples, generator)
    bad = defects(normals(kinds, samples, generator), generator, seen_by=seen_by)
    maps = {key: torch.cat([good[key], bad[key]]) for key in good}
    labels = [0] * samples + [1] * samples
    part = build(name, tuple(maps))
    part.calibrate(calibration)
    present = third_incomplete(part.modalities, 2 * samples, generator)
    everything = only(part.modalities, part.modalities, 2 * samples)

    def auroc(found: torch.Tensor) -> float:
        return evaluate(found[:, None, None], None, labels=labels)["image_auroc"] or 0.0

    result = {"complete": auroc(scores(part, maps, everything))}
    for title, fuse in (("former", former), ("today", today)):
        result[title] = auroc(scores(part, maps, present, fuse))
        result[f"level, {title}"] = max(level(part, good, fuse).values())
    return result


def main() -> None:
    """Print one row per aggregation and scene, means over three seeds."""
    columns = ["complete", "former", "today", "level, former", "level, today"]
    print(row(["aggregation", "branches", "seen by", *columns]))
    print("|---|---|---" + "|--:" * len(columns) + "|")
    for name, kinds, seen_by in itertools.product(PARTS, SCENES, ("one", "all")):
        found = [compare(name, kinds, seen_by=seen_by, seed=seed) for seed in range(3)]
        means = {key: mean(each[key] for each in found) for key in columns}
        cells = [f"{value:.3g}" if "level" in key else f"{100 * value:.1f}" for key, value in means.items()]
        print(row([name, " + ".join(kinds), seen_by, *cells]), flush=True)


if __name__ == "__main__":
    main()
