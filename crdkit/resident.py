"""A split decoded once and kept on the device, and the teacher features of it, kept or recomputed."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from crdkit.config import RunConfig
from crdkit.datasets import Dataset, RawSample, SampleRecord, Split, datasets
from crdkit.decoding import decode
from crdkit.images import resize_mask
from crdkit.layers import Levels
from crdkit.modalities import Modality, modalities
from crdkit.model import CRD
from crdkit.presence import Presence
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
    present: Presence | None = None
    """Which samples have each modality, (N,) bool on the device; None: all. A missing view is zeros."""

    def __len__(self) -> int:
        return len(self.records)

    def batch(self, rows: slice) -> tuple[dict[str, torch.Tensor], Presence | None]:
        """Return the inputs of some samples, and which modalities they have."""
        present = None if self.present is None else {name: has[rows] for name, has in self.present.items()}
        return {name: tensor[rows] for name, tensor in self.inputs.items()}, present

    def without(self, *names: str) -> ResidentSplit:
        """Return the split as it would be had the sensors of the modalities ``names`` failed."""
        device = next(iter(self.inputs.values())).device
        present = {name: torch.ones(len(self), dtype=torch.bool, device=device) for name in self.inputs}
        present |= dict(self.present or {}) | {name: torch.zeros_like(present[name]) for name in names}
        blank = {name: torch.zeros_like(self.inputs[name]) for name in names}
        return replace(self, inputs={**self.inputs, **blank}, present=present)


def build_dataset(config: RunConfig) -> Dataset:
    """Build the dataset adapter that ``config.data`` names."""
    return datasets.get(config.data.name)(config.data)


def build_views(config: RunConfig) -> dict[str, Modality]:
    """Build the view of every modality of ``config``."""
    return {name: modalities.get(branch.view.name)(branch.view) for name, branch in config.modalities.items()}


def visible(views: Views, sensors: Container[str]) -> Views:
    """Return the views of which every sensor is among ``sensors``."""
    return {name: view for name, view in views.items() if all(sensor in sensors for sensor in view.sensors)}


def view_sample(views: Views, sensors: Mapping[str, np.ndarray], *, image_size: int) -> dict[str, torch.Tensor]:
    """Return the (C, S, S) view of one sample's raw sensors, of every modality that has all of its own."""
    return {name: view(sensors, image_size=image_size) for name, view in visible(views, sensors).items()}


def list_records(dataset: Dataset, split: Split, *, views: Views, incomplete: bool) -> Sequence[SampleRecord]:
    """List the samples of a split; with ``incomplete`` also those that lack files of sensors.

    Such a sample's record holds the files that are there, if some modality can do with them.

    Raises:
        DataError: see `Dataset.records`.
    """
    if not incomplete:
        return dataset.records(split)
    # by the contract of Dataset.records: skipping, it lists these too
    lenient = type(dataset)(dataset.config.model_copy(update={"on_bad_sample": "skip"}))
    records = []
    for record in lenient.records(split):
        there = {sensor: path for sensor, path in record.files.items() if path.exists()}
        lacks_some = visible(views, there).keys() != visible(views, record.files).keys()
        records.append(replace(record, files=there) if lacks_some and visible(views, there) else record)
    return records


def load_split(
    dataset: Dataset, split: Split, *, views: Views, device: torch.device, incomplete: bool = False
) -> ResidentSplit:
    """Decode a split in parallel and keep it on ``device``; with ``incomplete`` also samples that lack a sensor.

    Raises:
        DataError: a file is missing or unreadable; see `crdkit.decoding.decode` for skipping.
    """
    size = dataset.config.image_size
    needed = sorted({sensor for view in views.values() for sensor in view.sensors})

    def build(sample: RawSample) -> tuple[dict[str, torch.Tensor], np.ndarray | None]:
        mask = None if sample.mask is None else resize_mask(sample.mask, size)
        return view_sample(views, sample.sensors, image_size=size), mask

    kept: list[SampleRecord] = []
    inputs: dict[str, list[torch.Tensor | None]] = {name: [] for name in views}
    masks: list[np.ndarray | None] = []
    records = list_records(dataset, split, views=views, incomplete=incomplete)
    for record, (tensors, mask) in decode(dataset, records, build, sensors=needed, description=f"reading {split}"):
        kept.append(record)
        masks.append(mask)
        for name, found in inputs.items():
            found.append(tensors.get(name))
    known = [mask for mask in masks if mask is not None]
    labels = [record.label for record in kept]
    return ResidentSplit(
        records=tuple(kept),
        inputs={name: stack_views(found, size).to(device) for name, found in inputs.items()},
        masks=torch.from_numpy(np.stack(known) > 0) if len(known) == len(kept) else None,
        labels=None if None in labels else np.array(labels, dtype=np.int64),
        skipped=len(records) - len(kept),
        present=_presence(inputs, device),
    )


def stack_views(views: Sequence[torch.Tensor | None], size: int) -> torch.Tensor:
    """Stack (C, size, size) views; zeros stand for missing ones."""
    blank = torch.zeros(next((len(view) for view in views if view is not None), 1), size, size)
    return torch.stack([blank if view is None else view for view in views])


def _presence(inputs: Mapping[str, Sequence[torch.Tensor | None]], device: torch.device) -> Presence | None:
    present = {name: torch.tensor([view is not None for view in found]) for name, found in inputs.items()}
    complete = all(bool(has.all()) for has in present.values())
    return None if complete else {name: has.to(device) for name, has in present.items()}


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
