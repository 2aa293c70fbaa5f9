"""A split decoded once and kept, and the teacher features of it, kept or recomputed."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch

from crdkit.cache import Decoded, find_entry
from crdkit.config import RunConfig
from crdkit.datasets import Dataset, RawSample, SampleRecord, Split, datasets
from crdkit.decoding import decode_all, report_skipped
from crdkit.errors import DataError
from crdkit.folding import fold_teachers, random_images
from crdkit.images import resize_mask
from crdkit.layers import Levels
from crdkit.modalities import Modality, modalities
from crdkit.model import CRD
from crdkit.placement import Batch, Level, Rows, in_host_memory
from crdkit.presence import Presence
from crdkit.progress import say, track
from crdkit.threads import BranchMap, by_branch, side_by_side

Views = Mapping[str, Modality]


@dataclass(frozen=True, kw_only=True)
class ResidentSplit:
    """All samples of one split, decoded: what training and evaluation read instead of files."""

    records: tuple[SampleRecord, ...]
    inputs: dict[str, torch.Tensor]
    """By modality, (N, C, S, S) float32 in [0, 1], on the device or in host memory."""
    masks: torch.Tensor | None
    """(N, S, S) bool on the CPU; None unless every sample has ground truth."""
    labels: np.ndarray | None
    """(N,) 0 or 1; None unless every sample is labelled."""
    skipped: int = 0
    """Samples that could not be read (``data.on_bad_sample=skip``)."""
    present: Presence | None = None
    """Which samples have each modality, (N,) bool on the device; None: all. A missing view is zeros."""
    cached: bool = False
    """Whether it was read from the cache."""
    device: torch.device | None = None
    """Where batches are wanted, if not where the inputs are."""

    def __len__(self) -> int:
        return len(self.records)

    def batch(self, rows: slice) -> tuple[dict[str, torch.Tensor], Presence | None]:
        """Return the inputs of some samples on the device, and which modalities they have."""
        present = None if self.present is None else {name: has[rows] for name, has in self.present.items()}
        inputs = {name: tensor[rows] for name, tensor in self.inputs.items()}
        if self.device is not None:
            inputs = {name: tensor.to(self.device, non_blocking=True) for name, tensor in inputs.items()}
        return inputs, present

    def at(self, level: Level, device: torch.device) -> ResidentSplit:
        """Return the split with its views on ``device``, or in host memory for batches that are wanted there."""
        if device.type == "cpu":
            return self
        move = in_host_memory if level == "host" else torch.Tensor.to
        inputs = {name: move(tensor, device) for name, tensor in self.inputs.items()}
        present = None if self.present is None else {name: has.to(device) for name, has in self.present.items()}
        return replace(self, inputs=inputs, present=present, device=device)

    def without(self, *names: str) -> ResidentSplit:
        """Return the split as it would be had the sensors of the modalities ``names`` failed."""
        device = self.device or next(iter(self.inputs.values())).device
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
    """Load a split to ``device``, from the cache if it has it; with ``incomplete`` also samples that lack a sensor.

    Raises:
        DataError: a file is missing or unreadable; see `crdkit.decoding.decode` for skipping.

    Warns:
        CacheWarning: the cache is damaged or cannot be written.
    """
    records = list_records(dataset, split, views=views, incomplete=incomplete)
    entry = find_entry(dataset, records, views=views)
    cached = None if entry is None else entry.read()
    if cached is not None and cached.skipped and dataset.config.on_bad_sample == "error":
        cached = None  # decoding raises what is wrong
    if cached is not None:
        say(f"reading {split}: {len(records) - len(cached.skipped)} samples from the cache")
    decoded = cached or _decode(dataset, records, views=views, description=f"reading {split}")
    report_skipped(list(decoded.skipped.values()), total=len(records))
    if entry is not None and cached is None:
        entry.write(decoded)
    kept = tuple(record for index, record in enumerate(records) if index not in decoded.skipped)
    labels = [record.label for record in kept]
    complete = all(bool(has.all()) for has in decoded.present.values())
    return ResidentSplit(
        records=kept,
        inputs={name: tensor.to(device) for name, tensor in decoded.inputs.items()},
        masks=decoded.masks,
        labels=None if None in labels else np.array(labels, dtype=np.int64),
        skipped=len(decoded.skipped),
        present=None if complete else {name: has.to(device) for name, has in decoded.present.items()},
        cached=cached is not None,
    )


def _decode(dataset: Dataset, records: Sequence[SampleRecord], *, views: Views, description: str) -> Decoded:
    """Decode a split in parallel, each view into its row of the tensor of all."""
    size = dataset.config.image_size
    needed = sorted({sensor for view in views.values() for sensor in view.sensors})

    def build(sample: RawSample) -> tuple[dict[str, torch.Tensor], np.ndarray | None]:
        mask = None if sample.mask is None else resize_mask(sample.mask, size)
        return view_sample(views, sample.sensors, image_size=size), mask

    inputs: dict[str, torch.Tensor] = {}
    present = {name: torch.zeros(len(records), dtype=torch.bool) for name in views}
    masks: list[np.ndarray | None] = []
    skipped: dict[int, str] = {}
    outcomes = decode_all(dataset, records, build, sensors=needed, description=description)
    with closing(outcomes):
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, DataError):
                skipped[index] = str(outcome)
                continue
            tensors, mask = outcome
            for name, view in tensors.items():
                if name not in inputs:
                    inputs[name] = torch.empty(len(records), *view.shape)
                rows = inputs[name]
                if view.shape != rows.shape[1:]:
                    raise DataError(
                        f"modality {name!r} gives {tuple(view.shape)} for sample {records[index].sample_id!r}, but "
                        f"{tuple(rows.shape[1:])} for those before; every sample must have one number of channels"
                    )
                rows[len(masks)] = view
                present[name][len(masks)] = True
            masks.append(mask)
    kept = len(masks)
    for name, rows in inputs.items():
        rows[:kept][~present[name][:kept]] = 0
    blank = torch.zeros(1, 1, size, size).expand(len(records), -1, -1, -1)
    known = [mask for mask in masks if mask is not None]
    return Decoded(
        inputs={name: inputs.get(name, blank)[:kept].contiguous() for name in views},
        present={name: has[:kept] for name, has in present.items()},
        masks=torch.from_numpy(np.stack(known) > 0) if known and len(known) == kept else None,
        skipped=skipped,
    )


def stack_views(views: Sequence[torch.Tensor | None], size: int) -> torch.Tensor:
    """Stack (C, size, size) views; zeros stand for missing ones."""
    blank = torch.zeros(next((len(view) for view in views if view is not None), 1), size, size)
    return torch.stack([blank if view is None else view for view in views])


class TeacherFeatures:
    """Teacher features of resident inputs, by sample index: computed once and kept, or recomputed for every batch.

    Batches are float32 whatever they are kept in, and hold the same values wherever they come from.

    Args:
        model: its frozen teachers, on the device where batches are wanted.
        inputs: (N, C, S, S) by modality, on that device or in host memory.
        batch_size: samples per pass through a teacher, other than on a CPU.
        level: where the features are kept.
        dtype: in which features are kept, and to which recomputed ones are rounded.
    """

    def __init__(
        self,
        model: CRD,
        inputs: Mapping[str, torch.Tensor],
        *,
        batch_size: int,
        level: Level = "device",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._model = model
        self._dtype = dtype
        self._device = model.device
        self._teachers = model.teachers_by_modality()
        if self._device.type == "cpu":
            self._teachers = fold_teachers(self._teachers, random_images(next(iter(inputs.values())).shape[-1]))
        self.level: Level = level
        if level == "recomputed":
            images = {name: [tensor] for name, tensor in inputs.items()}
            on_host = next(iter(inputs.values())).device.type != self._device.type
            self._rows = Rows(images, device=self._device, host=on_host)
        else:
            features = self._compute_all(inputs, batch_size, host=level == "host")
            self._rows = Rows(features, device=self._device, host=level == "host")

    def batch(self, indices: torch.Tensor) -> dict[str, Levels]:
        """Return the levels (B, C_l, H_l, W_l) of the samples ``indices`` (B,), by modality.

        On the device this waits for nothing if the features are kept there and ``indices`` are there too.
        """
        return self._levels(self._rows.batch(indices))

    def batches(self, order: torch.Tensor, batch_size: int) -> Iterator[tuple[torch.Tensor, dict[str, Levels]]]:
        """Yield the indices, on the device, and the `batch` of ``order`` (N,), on the CPU, piece by piece.

        What is in host memory is copied one batch ahead.
        """
        there = to_device(order, self._device).split(batch_size)
        chosen = order.split(batch_size) if self._rows.host else there
        for indices, rows in zip(there, self._rows.batches(chosen), strict=True):
            yield indices, self._levels(rows)

    def _levels(self, rows: Batch) -> dict[str, Levels]:
        if self.level == "recomputed":
            rows = self._see({name: images for name, (images,) in rows.items()})
        return {name: [self._as_trained_on(level) for level in levels] for name, levels in rows.items()}

    def _see(self, images: Mapping[str, torch.Tensor], each: BranchMap = map) -> dict[str, Levels]:
        return by_branch(each, lambda name: self._teachers[name](images[name]), images)

    def _as_trained_on(self, level: torch.Tensor) -> torch.Tensor:
        """Return a level as the students read it; what is kept on the device lies in that order already."""
        return level.to(self._dtype).float().contiguous(memory_format=torch.channels_last)

    def _compute_all(self, inputs: Mapping[str, torch.Tensor], batch_size: int, *, host: bool) -> dict[str, Levels]:
        count = len(next(iter(inputs.values())))
        where = torch.device("cpu") if host else self._device
        pinned = host and self._device.type == "cuda"
        order = torch.contiguous_format if host else torch.channels_last  # host: rows of a batch are copied as they lie
        stored: dict[str, Levels] = {
            name: [
                torch.empty(
                    (count, channels, size, size),
                    dtype=self._dtype,
                    device=where,
                    pin_memory=pinned,
                    memory_format=order,
                )
                for channels, size in zip(spec.channels, spec.sizes, strict=True)
            ]
            for name, spec in self._model.specs.items()
        }
        size = 1 if self._device.type == "cpu" else batch_size  # one sample's activations stay in a CPU's cache
        starts = range(0, count, size)
        with side_by_side(len(stored), self._device) as each:
            for start in track(starts, description="teacher features", total=len(starts)):
                batch = {name: tensor[start : start + size].to(self._device) for name, tensor in inputs.items()}
                for name, levels in self._see(batch, each).items():
                    for store, level in zip(stored[name], levels, strict=True):
                        store[start : start + size] = level
        return stored


def to_device(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return host values on the device without waiting for it: from pinned memory, which the copy keeps alive."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def bytes_per_sample(model: CRD, dtype: torch.dtype) -> int:
    """Return what the teacher features of one sample take, of all modalities together."""
    values = (
        channels * size * size
        for spec in model.specs.values()
        for channels, size in zip(spec.channels, spec.sizes, strict=True)
    )
    return dtype.itemsize * sum(values)


def batches(count: int, batch_size: int) -> Sequence[slice]:
    """Return slices that cover ``count`` samples in order; the last may be shorter."""
    return [slice(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
