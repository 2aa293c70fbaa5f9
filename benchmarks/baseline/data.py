"""A DataLoader over files: each sample is decoded whenever it is asked for, as often as there are epochs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from crdkit.config import RunConfig
from crdkit.config.build import build_dataset, build_views
from crdkit.data import Split
from crdkit.data.images import resize_mask
from crdkit.views.split import view_sample

PUBLISHED_WORKERS = 16


def workers() -> int:
    """Return the published number of workers, or one per core where there are fewer: more would only wait."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(PUBLISHED_WORKERS, cores)


class Files(Dataset[dict[str, Any]]):
    """One split; an item is read from its files and turned into views when it is asked for."""

    def __init__(self, config: RunConfig, split: Split) -> None:
        self.dataset, self.views = build_dataset(config), build_views(config)
        self.records = self.dataset.records(split)
        self.size = config.data.image_size

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``{"images": {modality: (C, S, S)}, "mask": (S, S) bool, "label": 0 or 1}``."""
        record = self.records[index]
        sample = self.dataset.read(record, sorted({name for view in self.views.values() for name in view.sensors}))
        mask = torch.zeros(self.size, self.size, dtype=torch.bool)
        if sample.mask is not None:
            mask = torch.from_numpy(resize_mask(sample.mask, self.size) > 0)
        return {
            "images": view_sample(self.views, sample.sensors, image_size=self.size),
            "mask": mask,
            "label": record.label or 0,
        }


class Shuffled(Sampler[int]):
    """A new permutation every epoch, from a generator that does nothing else: crdkit's order with the same seed."""

    def __init__(self, count: int, *, seed: int) -> None:
        self.count = count
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(self.count, generator=self.generator).tolist()


def training_loader(config: RunConfig) -> DataLoader[dict[str, Any]]:
    """Return shuffled batches; the workers end with each epoch, and the last partial batch is kept."""
    files = Files(config, "train")
    return DataLoader(
        files,
        batch_size=config.training.batch_size,
        sampler=Shuffled(len(files), seed=config.training.seed),
        num_workers=workers(),
    )


def sample_loader(config: RunConfig, split: Split) -> DataLoader[dict[str, Any]]:
    """Return a split's samples one by one, in order."""
    return DataLoader(Files(config, split), batch_size=1, num_workers=workers())
