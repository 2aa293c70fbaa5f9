"""Loading a split: decoded to stay resident, and as the baseline's DataLoader brings it every epoch."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.baseline.data import training_loader
from crdkit.config import RunConfig
from crdkit.config.build import build_dataset, build_views
from crdkit.views.split import load_split


def test_decode(benchmark: Any, tiny: RunConfig) -> None:
    dataset, views = build_dataset(tiny), build_views(tiny)
    split = benchmark(load_split, dataset, "train", views=views)
    assert len(split) == 6


def test_baseline_loads_the_same_views(benchmark: Any, tiny: RunConfig) -> None:
    split = load_split(build_dataset(tiny), "train", views=build_views(tiny))
    loader = training_loader(tiny)
    batches = benchmark.pedantic(lambda: list(loader), rounds=3)
    for name, resident in split.inputs.items():
        loaded = torch.cat([batch["images"][name] for batch in batches])
        assert torch.equal(loaded.sum((1, 2, 3)).sort().values, resident.sum((1, 2, 3)).sort().values)
