"""A split decoded once and kept on the device, and the teacher features of it, kept or recomputed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from crdkit.config import RunConfig
from crdkit.datasets import Dataset, RawSample, SampleRecord, Split, datasets
from crdkit.decoding import decode
from crdkit.images import resize_mask
from crdkit.layers import Levels
from crdkit.modalities import Modality, modalities
from crdkit.model import CRD
from crdkit.progress import say, track

Views = Mapping[str, Modality]


@dataclass(frozen=True, kw_only=True)
class ResidentSplit:
    """All samples of one split, decoded: what training and evaluation read instead of files."""

    records: tuple[SampleRecord, ...]
    inputs: dict[str, torch.Tensor]
    """By modality, (N, C, S, S) float32 in [0, 1] on the device."""
    masks: torch.Tensor | None
    """(N, S, S) bool on the CPU; None unless every sample has ground truth."""
    labels: np.ndarray | None
    """(N,) 0 or 1; None unless every sample is labelled."""
    skipped: int = 0
    """Samples that could not be read (``data.on_bad_sample=skip``)."""

    def __len__(self) -> int:
        return len(self.records)


def build_dataset(config: RunConfig) -> Dataset:
    """Build the dataset adapter that ``config.data`` names."""
    return datasets.get(config.data.name)(config.data)


def build_views(config: RunConfig) -> dict[str, Modality]:
    """Build the view of every modality of ``config``."""
    return {name: modalities.get(branch.view.name)(branch.view) for name, branch in config.modalities.items()}


def view_sample(views: Views, sensors: Mapping[str, np.ndarray], *, image_size: int) -> dict[str, torch.Tensor]:
    """Return every modality's (C, S, S) view of one sample's raw sensors."""
    return {name: view(sensors, image_size=image_size) for name, view in views.items()}


def load_split(dataset: Dataset, split: Split, *, views: Views, device: torch.device) -> ResidentSplit:
    """Decode a split in parallel and keep it on ``device``.

    Raises:
        DataError: a file is missing or unreadable; see `crdkit.decoding.decode` for skipping.
    """
    size = dataset.config.image_size
    needed = sorted({sensor for view in views.values() for sensor in view.sensors})

    def build(sample: RawSample) -> tuple[dict[str, torch.Tensor], np.ndarray | None]:
        mask = None if sample.mask is None else resize_mask(sample.mask, size)
        return view_sample(views, sample.sensors, image_size=size), mask

    kept: list[SampleRecord] = []
    inputs: dict[str, list[torch.Tensor]] = {name: [] for name in views}
    masks: list[np.ndarray | None] = []
    records = dataset.records(split)
    for record, (tensors, mask) in decode(dataset, records, build, sensors=needed, description=f"reading {split}"):
        kept.append(record)
        masks.append(mask)
        for name, tensor in tensors.items():
            inputs[name].append(tensor)
    known = [mask for mask in masks if mask is not None]
    labels = [record.label for record in kept]
    return ResidentSplit(
        records=tuple(kept),
        inputs={name: torch.stack(tensors).to(device) for name, tensors in inputs.items()},
        masks=torch.from_numpy(np.stack(known) > 0) if len(known) == len(kept) else None,
        labels=None if None in labels else np.array(labels, dtype=np.int64),
        skipped=len(records) - len(kept),
    )


class TeacherFeatures:
    """Teacher features of resident inputs, by sample index: computed once and kept, if they fit.

    Args:
        model: its frozen teachers.
        inputs: (N, C, S, S) by modality, on the device.
        batch_size: samples per pass through a teacher.
        budget_gib: what the features may take; above it they are recomputed for every batch.
    """

    def __init__(self, model: CRD, inputs: Mapping[str, torch.Tensor], *, batch_size: int, budget_gib: float) -> None:
        self._model = model
        self._inputs = inputs
        count = len(next(iter(inputs.values())))
        size_gib = count * sum(_bytes_per_sample(model, name) for name in inputs) / 2**30
        self.kept = size_gib <= budget_gib
        self.gib = size_gib if self.kept else 0.0
        fate = "kept" if self.kept else "recomputed every step"
        say(f"teacher features: {size_gib:.2f} GiB for {count} samples, budget {budget_gib:g} GiB: {fate}")
        self._levels: dict[str, Levels] = self._compute_all(count, batch_size) if self.kept else {}

    def batch(self, indices: torch.Tensor) -> dict[str, Levels]:
        """Return the levels (B, C_l, H_l, W_l) of the samples ``indices`` (B,), by modality."""
        if not self.kept:
            return self._model.teacher_features({name: tensor[indices] for name, tensor in self._inputs.items()})
        return {name: [level[indices] for level in levels] for name, levels in self._levels.items()}

    def _compute_all(self, count: int, batch_size: int) -> dict[str, Levels]:
        stored: dict[str, Levels] = {
            name: [
                torch.empty(count, channels, size, size, device=tensor.device)
                for channels, size in zip(self._model.specs[name].channels, self._model.specs[name].sizes, strict=True)
            ]
            for name, tensor in self._inputs.items()
        }
        starts = range(0, count, batch_size)
        for start in track(starts, description="teacher features", total=len(starts)):
            batch = {name: tensor[start : start + batch_size] for name, tensor in self._inputs.items()}
            for name, levels in self._model.teacher_features(batch).items():
                for store, level in zip(stored[name], levels, strict=True):
                    store[start : start + batch_size] = level
        return stored


def _bytes_per_sample(model: CRD, name: str) -> int:
    spec = model.specs[name]
    return sum(4 * channels * size * size for channels, size in zip(spec.channels, spec.sizes, strict=True))


def batches(count: int, batch_size: int) -> Sequence[slice]:
    """Return slices that cover ``count`` samples in order; the last may be shorter."""
    return [slice(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
