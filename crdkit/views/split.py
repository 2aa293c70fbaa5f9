"""A split decoded once: all its samples as views, read by training and evaluation instead of files."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from crdkit._core.memory import Level, in_host_memory
from crdkit.data import Dataset, RawSample, SampleRecord, Split
from crdkit.data.decode import decode_all, report_skipped
from crdkit.data.images import resize_mask
from crdkit.data.inside import refuse_links_outside
from crdkit.data.sensors import without_blank
from crdkit.errors import DataError
from crdkit.views import View
from crdkit.views._cache import CachedSplit, find_entry
from crdkit.views.fitting import require_known_sensors, require_registrable
from crdkit.views.summary import SampleSummary, summarise

Views = Mapping[str, View]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadedSplit:
    """All readable samples of one split.

    Examples:
        >>> record = SampleRecord(sample_id="good/000", split="test", label=0, defect_type="good", files={})
        >>> split = LoadedSplit(records=(record,), inputs={"rgb": torch.zeros(1, 3, 8, 8)})
        >>> len(split), split.labels, split.without("rgb").present
        (1, array([0]), {'rgb': tensor([False])})
    """

    records: tuple[SampleRecord, ...]
    inputs: dict[str, torch.Tensor]
    """By modality, (N, C, S, S) float32 in [0, 1], on the device or in host memory; zeros where a sample lacks it."""
    present: dict[str, torch.Tensor] | None = None
    """Which samples have each modality, (N,) bool on the device; None: all."""
    masks: torch.Tensor | None = None
    """(N, S, S) bool on the CPU; None unless every sample has ground truth."""
    skipped: int = 0
    """Samples that could not be read (``data.on_bad_sample=skip``)."""
    summaries: tuple[SampleSummary, ...] = ()
    """What the sensors and views of each sample hold."""
    places: tuple[int, ...] | None = None
    """Of the records among all that were listed, where some were skipped."""
    cached: bool = False
    """Whether it was read from the cache."""
    device: torch.device | None = None
    """Where batches are wanted, if that is not where the inputs are."""

    def __len__(self) -> int:
        return len(self.records)

    @property
    def labels(self) -> np.ndarray | None:
        """(N,) 0 or 1; None unless every sample is labelled."""
        labels = [record.label for record in self.records]
        return None if None in labels else np.array(labels, dtype=np.int64)

    def batch(self, rows: slice) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor] | None]:
        """Return the inputs of some samples on the device, and which modalities they have."""
        present = None if self.present is None else {name: has[rows] for name, has in self.present.items()}
        inputs = {name: tensor[rows] for name, tensor in self.inputs.items()}
        if self.device is not None:
            inputs = {name: tensor.to(self.device, non_blocking=True) for name, tensor in inputs.items()}
        return inputs, present

    def at(self, level: Level, device: torch.device) -> LoadedSplit:
        """Return the split with its views on ``device``, or in host memory for batches that are wanted there."""
        if device.type == "cpu":
            return self
        move = in_host_memory if level == "host" else torch.Tensor.to
        inputs = {name: move(tensor, device) for name, tensor in self.inputs.items()}
        present = None if self.present is None else {name: has.to(device) for name, has in self.present.items()}
        return replace(self, inputs=inputs, present=present, device=device)

    def complete(self) -> LoadedSplit:
        """Return the split without the samples that lack a modality.

        Raises:
            DataError: each of them lacks one.
        """
        if self.present is None:
            return self
        rows = torch.stack([has.cpu() for has in self.present.values()]).all(dim=0)
        if not rows.any():
            raise DataError(f"every sample of the split {self.records[0].split!r} lacks a sensor; add complete ones")
        if rows.all():
            return replace(self, present=None)
        chosen = rows.nonzero().flatten().tolist()
        return replace(
            self,
            records=tuple(self.records[row] for row in chosen),
            inputs={name: tensor[rows.to(tensor.device)] for name, tensor in self.inputs.items()},
            present=None,
            places=None,
            masks=None if self.masks is None else self.masks[rows],
            summaries=tuple(self.summaries[row] for row in chosen if self.summaries),
        )

    def without(self, *names: str) -> LoadedSplit:
        """Return the split as it would be if the sensors of the modalities ``names`` had failed."""
        device = self.device or next(iter(self.inputs.values())).device
        present = {name: torch.ones(len(self), dtype=torch.bool, device=device) for name in self.inputs}
        present |= dict(self.present or {}) | {name: torch.zeros_like(present[name]) for name in names}
        blank = {name: torch.zeros_like(self.inputs[name]) for name in names}
        return replace(self, inputs={**self.inputs, **blank}, present=present)


def visible(views: Views, sensors: Container[str]) -> Views:
    """Return the views whose sensors are all among ``sensors``."""
    return {name: view for name, view in views.items() if all(sensor in sensors for sensor in view.sensors)}


def view_sample(views: Views, sensors: Mapping[str, np.ndarray], *, image_size: int) -> dict[str, torch.Tensor]:
    """Return one sample's (C, S, S) views of its raw sensors, for every modality that has all of its sensors."""
    return {name: view(sensors, image_size=image_size) for name, view in visible(views, sensors).items()}


def stack_views(views: Sequence[torch.Tensor | None], size: int) -> torch.Tensor:
    """Stack (C, size, size) views; zeros stand for missing ones."""
    blank = torch.zeros(next((len(view) for view in views if view is not None), 1), size, size)
    return torch.stack([blank if view is None else view for view in views])


def list_split(dataset: Dataset, split: Split, *, views: Views, incomplete: bool = False) -> Sequence[SampleRecord]:
    """List the samples of a split; with ``incomplete`` also those that lack files of sensors.

    Such a sample's record holds the files that exist, if they are enough for some modality.

    Raises:
        DataError: see `Dataset.records`.
    """
    if split != "test":  # what is predicted may lack sensors
        require_registrable(dataset, views=views)
    if not incomplete:
        listed = dataset.records(split)
        require_known_sensors(dataset, listed, views=views)
        refuse_links_outside(dataset, listed)
        return listed
    records = []
    for record in dataset.lenient().records(split):
        there = {sensor: path for sensor, path in record.files.items() if path.exists()}
        lacks_some = visible(views, there).keys() != visible(views, record.files).keys()
        records.append(replace(record, files=there) if lacks_some and visible(views, there) else record)
    refuse_links_outside(dataset, records)
    return records


def load_split(
    dataset: Dataset, split: Split, *, views: Views, records: Sequence[SampleRecord] | None = None
) -> LoadedSplit:
    """Load the samples of one split into host memory, from the cache if it has them.

    Args:
        dataset: reads the samples.
        split: its name.
        views: by modality.
        records: all of the split, if `list_split` has listed them before.

    Raises:
        DataError: a file is missing or unreadable; see `crdkit.data.decode.decode` for skipping.

    Warns:
        CacheWarning: the cache is damaged or cannot be written.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from crdkit.data.adapters.mvtec3d import MVTec3D
        >>> from crdkit.data.synthetic import write_mvtec3d
        >>> from crdkit.views.depth import Depth
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_mvtec3d(Path(folder, "scans"), categories=["gear"], train=3, test_per_defect=0, size=32)
        ...     dataset = MVTec3D(MVTec3D.Config(root=root, category="gear", image_size=32))
        ...     split = load_split(dataset, "train", views={"depth": Depth(Depth.Config())})
        >>> len(split), tuple(split.inputs["depth"].shape)
        (3, (3, 1, 32, 32))
    """
    if records is None:
        records = list_split(dataset, split, views=views)
    entry = find_entry(dataset, records, views=views)
    found = None if entry is None else entry.read()
    if found is not None and found[1] and dataset.config.on_bad_sample == "error":
        found = None  # decoding raises the error
    if found is not None:
        _logger.info("reading %s: %d samples from the cache", split, len(records) - len(found[1]))
    decoded = found or decode_split(dataset, records, views=views, description=f"reading {split}")
    report_skipped(list(decoded[1].values()), total=len(records))
    if entry is not None and found is None:
        entry.write(*decoded)
    return from_decoded(records, decoded, views=views, cached=found is not None)


def from_decoded(
    records: Sequence[SampleRecord], decoded: CachedSplit, *, views: Iterable[str], cached: bool = False
) -> LoadedSplit:
    """Return what `decode_split` has made of ``records`` as a split; ``cached``: whether the cache had it."""
    tensors, skipped, summaries = decoded
    present = {name: tensors[f"present.{name}"] for name in views}
    kept = tuple(index for index in range(len(records)) if index not in skipped)
    return LoadedSplit(
        records=tuple(records[index] for index in kept),
        inputs={name: tensors[f"inputs.{name}"] for name in present},
        present=None if all(bool(has.all()) for has in present.values()) else present,
        masks=tensors.get("masks"),
        skipped=len(skipped),
        summaries=tuple(summaries),
        places=kept if skipped else None,
        cached=cached,
    )


def decode_split(dataset: Dataset, records: Sequence[SampleRecord], *, views: Views, description: str) -> CachedSplit:
    """Decode a split in parallel, each view into its row of its modality's tensor.

    Returns:
        ``inputs.<modality>``, ``present.<modality>`` and, if every sample has ground truth, ``masks``, as a
        `LoadedSplit` holds them; why each unreadable record, by its index, was left out; and summaries of the rest.
    """
    size = dataset.config.image_size
    needed = sorted({sensor for view in views.values() for sensor in view.sensors})
    build = partial(_view_raw, views=views, image_size=size, drop=dataset.config.on_blank_sensor == "missing")

    inputs: dict[str, torch.Tensor] = {}
    present = {name: torch.zeros(len(records), dtype=torch.bool) for name in views}
    masks: list[np.ndarray | None] = []
    summaries: list[SampleSummary] = []
    skipped: dict[int, str] = {}
    outcomes = decode_all(dataset, records, build, sensors=needed, description=description)
    with closing(outcomes):
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, DataError):
                skipped[index] = str(outcome)
                continue
            tensors, mask, summary = outcome
            summaries.append(summary)
            for name, view in tensors.items():
                if name not in inputs:
                    inputs[name] = torch.empty(len(records), *view.shape)
                rows = inputs[name]
                if view.shape != rows.shape[1:]:
                    raise DataError(
                        f"modality {name!r} gives {tuple(view.shape)} for sample {records[index].sample_id!r}, but "
                        f"{tuple(rows.shape[1:])} for those before; every sample must have the same number of channels"
                    )
                rows[len(masks)] = view
                present[name][len(masks)] = True
            masks.append(mask)
    kept = len(masks)
    for name, rows in inputs.items():
        rows[:kept][~present[name][:kept]] = 0
    blank = torch.zeros(1, 1, size, size).expand(len(records), -1, -1, -1)
    known = [mask for mask in masks if mask is not None]
    stacked = {f"inputs.{name}": inputs.get(name, blank)[:kept].contiguous() for name in views}
    stacked |= {f"present.{name}": has[:kept] for name, has in present.items()}
    if known and len(known) == kept:
        stacked["masks"] = torch.from_numpy(np.stack(known) > 0)
    return stacked, skipped, summaries


def _view_raw(
    sample: RawSample, *, views: Views, image_size: int, drop: bool
) -> tuple[dict[str, torch.Tensor], np.ndarray | None, SampleSummary]:
    """Return one sample's views, its mask, and its summary; with ``drop`` without sensors that are blank."""
    if drop:
        sample = replace(sample, sensors=without_blank(sample.sensors))
        if views and not visible(views, sample.sensors):
            raise DataError("every modality lacks a sensor that is not 0 or NaN everywhere; leave the sample out")
    mask = None if sample.mask is None else resize_mask(sample.mask, image_size)
    seen = view_sample(views, sample.sensors, image_size=image_size)
    return seen, mask, summarise(sample, seen)


def batches(count: int, batch_size: int) -> Sequence[slice]:
    """Return slices that cover ``count`` samples in order; the last may be shorter."""
    return [slice(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
