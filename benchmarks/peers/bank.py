"""A memory bank of colour and depth, in the style of BTF (arXiv 2203.05550), on crdkit's views and teacher.

    python -m benchmarks.peers.bank METHOD JOB.json     # writes the maps, prints one line of JSON

A patch is described as in PatchCore: the teacher's features at strides 8 and 16, averaged over 3 x 3. BTF describes the
geometry by histograms of a point cloud; here it is the teacher's features of the depth view. ``joined`` concatenates
both, each scaled to a mean length of 1, and keeps one bank. ``separate`` keeps one a view, and the run's own
aggregation fuses their maps, calibrated on validation normals. A bank is a coreset: the patches that k-center greedy
picks on a random projection to 64 dimensions.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.memory import peak_bytes
from crdkit.config import RunConfig, load_config
from crdkit.config.build import build_teachers
from crdkit.scoring.aggregations import aggregations
from crdkit.scoring.scorer import Scorer
from crdkit.scoring.scores import scores
from crdkit.views.split import batches

GROUPS = {"joined": (("rgb", "depth"),), "separate": (("rgb",), ("depth",))}
LEVELS = (1, 2)
PROJECTED = 64
Inputs = Mapping[str, torch.Tensor]
Choice = Callable[..., torch.Tensor]
"""From patches (P, D), a size and a generator to the rows (M,) that are kept."""


def describe(teacher: nn.Module, views: torch.Tensor) -> torch.Tensor:
    """Return the descriptions (N, D, H, W) of views (N, C, S, S)."""
    parts = []
    for rows in batches(len(views), 8):
        levels = teacher(views[rows])
        chosen = [F.avg_pool2d(levels[level], 3, stride=1, padding=1) for level in LEVELS]
        size = chosen[0].shape[-2:]
        parts.append(torch.cat([chosen[0], *(F.interpolate(level, size, mode="bilinear") for level in chosen[1:])], 1))
    return torch.cat(parts)


def coreset(patches: torch.Tensor, size: int, *, generator: torch.Generator) -> torch.Tensor:
    """Return the rows (M,) of patches (P, D), each the farthest from those before it, the first a random one."""
    if len(patches) <= size:
        return torch.arange(len(patches))
    width = min(PROJECTED, patches.shape[1])
    points = patches @ torch.randn(patches.shape[1], width, generator=generator)
    squares = points.square().sum(dim=1)
    nearest = torch.full_like(squares, torch.inf)
    rows = [int(torch.randint(len(points), (), generator=generator))]
    while len(rows) < size:
        last = rows[-1]
        torch.minimum(nearest, squares + squares[last] - 2 * (points @ points[last]), out=nearest)
        rows.append(int(nearest.argmax()))
    return torch.tensor(rows)


def at_random(patches: torch.Tensor, size: int, *, generator: torch.Generator) -> torch.Tensor:
    """Return ``size`` random rows of patches (P, D)."""
    return torch.randperm(len(patches), generator=generator)[:size]


def to_nearest(patches: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
    """Return the distance (P,) of each patch (P, D) to the nearest entry of a bank (M, D)."""
    squares = bank.square().sum(dim=1)
    parts = [(squares - 2 * part @ bank.T).amin(dim=1) + part.square().sum(dim=1) for part in patches.split(1024)]
    return torch.cat(parts).clamp_min(0).sqrt()


class MemoryBanks:
    """Coresets of normal patches, one for each group of modalities; (N, S, S) maps of distances to the nearest entry.

    Args:
        teachers: by modality.
        groups: modalities whose descriptions are concatenated.
        size: most entries of a bank.
        seed: of projections and of the first entry.
        choose: which patches are kept.
    """

    def __init__(
        self,
        teachers: Mapping[str, nn.Module],
        *,
        groups: Sequence[Sequence[str]],
        size: int,
        seed: int,
        choose: Choice = coreset,
    ) -> None:
        self.teachers = teachers
        self.groups = {"+".join(group): tuple(group) for group in groups}
        self.size = size
        self.choose = choose
        self.generator = torch.Generator().manual_seed(seed)
        self.lengths: dict[str, float] = {}
        self.banks: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def fit(self, normals: Inputs) -> None:
        """Fill the banks from normal views (N, C, S, S)."""
        names = dict.fromkeys(name for group in self.groups.values() for name in group)
        described = {name: describe(self.teachers[name], normals[name]) for name in names}
        self.lengths = {name: float(maps.norm(dim=1).mean()) for name, maps in described.items()}
        for group, members in self.groups.items():
            patches = self._patches(members, described)
            self.banks[group] = patches[self.choose(patches, self.size, generator=self.generator)]

    @torch.no_grad()
    def maps(self, inputs: Inputs) -> dict[str, torch.Tensor]:
        """Return the unsmoothed (N, S, S) map of every group."""
        count, _, _, size = next(iter(inputs.values())).shape
        found: dict[str, list[torch.Tensor]] = {group: [] for group in self.groups}
        for rows in batches(count, 1):
            described = {name: describe(self.teachers[name], inputs[name][rows]) for name in self.lengths}
            side = next(iter(described.values())).shape[-1]
            for group, members in self.groups.items():
                distances = to_nearest(self._patches(members, described), self.banks[group])
                small = distances.view(1, 1, side, side)
                found[group].append(F.interpolate(small, (size, size), mode="bilinear")[:, 0])
        return {group: torch.cat(parts) for group, parts in found.items()}

    def _patches(self, members: Sequence[str], described: Mapping[str, torch.Tensor]) -> torch.Tensor:
        joined = torch.cat([described[name] / self.lengths[name] for name in members], dim=1)
        return joined.permute(0, 2, 3, 1).flatten(0, 2)

    def nbytes(self) -> int:
        """Return the bytes of the banks and of the teachers, shared ones once."""
        distinct = {id(teacher): teacher for teacher in self.teachers.values()}.values()
        tensors = [tensor for one in distinct for tensor in (*one.parameters(), *one.buffers())]
        return sum(tensor.nbytes for tensor in (*self.banks.values(), *tensors))


def build_scorer_of(config: RunConfig, modalities: Sequence[str]) -> Scorer:
    """Return the run's aggregation, smoothing and score for other branches than its modalities."""
    score = scores.build(config.scoring.score, sigma=config.scoring.sigma, size=config.data.image_size)
    return Scorer(aggregations.build(config.aggregation, modalities=tuple(modalities)), score)


def fit(banks: MemoryBanks, config: RunConfig, normals: Inputs, validation: Inputs) -> Scorer:
    """Fill banks, and return the run's scorer for them, calibrated on the validation normals."""
    banks.fit(normals)
    scorer = build_scorer_of(config, list(banks.groups))
    scorer.calibrate(banks.maps(validation))
    return scorer


def read(scans_file: str | Path, split: str) -> dict[str, torch.Tensor]:
    with np.load(scans_file) as scans:
        return {name: torch.from_numpy(scans[f"{split}_{name}"]) for name in ("rgb", "depth")}


@torch.no_grad()
def measure(method: str, job: Mapping[str, Any]) -> dict[str, Any]:
    """Fill banks, score the test split, and return what it took."""
    config = load_config(job["config"])
    normals, validation, test = (read(job["scans"], split) for split in ("train", "validation", "test"))
    began = time.process_time()
    banks = MemoryBanks(build_teachers(config), groups=GROUPS[method], size=job["bank_size"], seed=job["seed"])
    scorer = fit(banks, config, normals, validation)
    train = time.process_time() - began
    began = time.process_time()
    found = scorer(banks.maps(test))
    predict = (time.process_time() - began) / len(found.pred_score)
    np.savez(job["maps"], maps=found.anomaly_map.numpy(), scores=found.pred_score.numpy())
    cost = {"train_cpu_s": train, "predict_cpu_s": predict, "peak_bytes": peak_bytes()}
    return {**cost, "model_bytes": banks.nbytes()}


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    print(json.dumps(measure(sys.argv[1], job)))
