"""Teacher features of the training split: computed once and kept on the device or in host memory, or recomputed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext

import torch

from crdkit._core.branches import BranchMap, by_branch, side_by_side
from crdkit._core.device import convolutions_channels_last, fastest_convolutions, is_frequent, to_device
from crdkit._core.memory import Level
from crdkit._core.progress import track
from crdkit.model.crd import CRD
from crdkit.model.folding import fold_teachers, random_images
from crdkit.model.layers import Levels
from crdkit.training.config import TrainingConfig
from crdkit.training.shift import shift_images
from crdkit.training.step import uses_bf16

Batch = dict[str, list[torch.Tensor]]
"""By modality, tensors (B, ...) on the device."""

_PendingBatch = tuple[Batch, torch.cuda.Event | None]
"""A batch whose copies are queued, and the event of their completion; None: they are done."""


class TeacherFeatures:
    """Teacher features of resident inputs, by sample index: computed once and kept, or recomputed for every batch.

    Batches are float32 whatever dtype is kept, and hold the same values wherever they come from.

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
        else:
            convolutions_channels_last(model.teachers)
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

        This does not wait for the device if the features are kept there and ``indices`` are there too.
        """
        return self._levels(self._rows.batch(indices))

    def batches(
        self, order: torch.Tensor, batch_size: int, shifts: Mapping[str, torch.Tensor] | None = None
    ) -> Iterator[tuple[torch.Tensor, dict[str, Levels]]]:
        """Yield the indices, on the device, and the `batch` of ``order`` (N,), on the CPU, batch by batch.

        What is in host memory is copied one batch ahead. ``shifts`` move each sample's inputs before the teacher sees
        them, as `draw_shifts` returns them, on the device.

        Raises:
            ValueError: ``shifts`` are given, and features are kept.
        """
        if shifts is not None and self.level != "recomputed":
            raise ValueError(f"features that are kept ({self.level}) cannot be shifted; recompute them")
        there = to_device(order, self._device).split(batch_size)
        chosen = order.split(batch_size) if self._rows.host else there
        for indices, rows in zip(there, self._rows.batches(chosen), strict=True):
            moved = rows if shifts is None else _shift(rows, {name: shift[indices] for name, shift in shifts.items()})
            yield indices, self._levels(moved)

    def _levels(self, rows: Batch) -> dict[str, Levels]:
        if self.level == "recomputed":
            rows = self._run_teachers({name: images for name, (images,) in rows.items()})
        return {name: [self._to_student_input(level) for level in levels] for name, levels in rows.items()}

    def _run_teachers(self, images: Mapping[str, torch.Tensor], each: BranchMap = map) -> dict[str, Levels]:
        order = torch.contiguous_format if self._device.type == "cpu" else torch.channels_last
        return by_branch(each, lambda name: self._teachers[name](images[name].contiguous(memory_format=order)), images)

    def _to_student_input(self, level: torch.Tensor) -> torch.Tensor:
        """Return a level as the students read it; levels kept on the device have that memory layout already."""
        return level.to(self._dtype).float().contiguous(memory_format=torch.channels_last)

    def _compute_all(self, inputs: Mapping[str, torch.Tensor], batch_size: int, *, host: bool) -> dict[str, Levels]:
        count = len(next(iter(inputs.values())))
        where = torch.device("cpu") if host else self._device
        pinned = host and self._device.type == "cuda"
        order = torch.contiguous_format if host else torch.channels_last  # host: rows are copied one by one
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
                search = self._device.type == "cuda" and start + size <= count and is_frequent(len(starts))
                with fastest_convolutions() if search else nullcontext():
                    features = self._run_teachers(batch, each)
                for name, levels in features.items():
                    for store, level in zip(stored[name], levels, strict=True):
                        store[start : start + size] = level
        return stored


def _shift(batch: Batch, shifts: Mapping[str, torch.Tensor]) -> Batch:
    return {name: [shift_images(images, shifts[name])] for name, (images,) in batch.items()}


def feature_dtype(config: TrainingConfig, device: torch.device) -> torch.dtype:
    """Return the dtype that teacher features are kept in: what was asked for, or what the students compute in."""
    reduced = uses_bf16(config, device) if config.features == "auto" else config.features == "bf16"
    return torch.bfloat16 if reduced else torch.float32


class Rows:
    """Tensors (N, ...) whose batches are wanted on a device: gathered there, or copied from host memory.

    Args:
        tensors: by modality, all on ``device`` or all in host memory, pinned if that is a CUDA device.
        device: where batches are wanted.
        host: whether the tensors are in host memory and are to be copied.
    """

    def __init__(self, tensors: Mapping[str, Sequence[torch.Tensor]], *, device: torch.device, host: bool) -> None:
        self._tensors = tensors
        self._device = device
        self.host = host
        self._stream = torch.cuda.Stream(device) if host and device.type == "cuda" else None

    def batch(self, indices: torch.Tensor) -> Batch:
        """Return the rows ``indices`` (B,), which should be on the CPU for tensors in host memory."""
        if self.host:
            return self._await_copies(*self._queue_copies(indices))
        return {name: [tensor[indices] for tensor in tensors] for name, tensors in self._tensors.items()}

    def batches(self, chosen: Iterable[torch.Tensor]) -> Iterator[Batch]:
        """Yield `batch` of each ``chosen`` (B,); from host memory the next one is copied while the caller computes."""
        if not self.host:
            yield from map(self.batch, chosen)
            return
        pending: _PendingBatch | None = None
        for indices in chosen:
            ready, pending = pending, self._queue_copies(indices)  # before the caller's work
            if ready is not None:
                yield self._await_copies(*ready)
        if pending is not None:
            yield self._await_copies(*pending)

    def _queue_copies(self, indices: torch.Tensor) -> _PendingBatch:
        """Queue the copies of some rows."""
        rows = indices.tolist()
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            batch = {name: [self._copy(tensor, rows) for tensor in tensors] for name, tensors in self._tensors.items()}
            return batch, None if self._stream is None else self._stream.record_event()

    def _copy(self, tensor: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        # row by row from pinned memory: gathering first would cost the host another copy
        copy = torch.empty(len(rows), *tensor.shape[1:], dtype=tensor.dtype, device=self._device)
        for to, row in zip(copy, rows, strict=True):
            to.copy_(tensor[row], non_blocking=True)
        return copy

    def _await_copies(self, batch: Batch, event: torch.cuda.Event | None) -> Batch:
        """Let the current stream, not the host, wait for the copies; from here on it owns their memory."""
        if event is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(event)
            for tensor in (tensor for tensors in batch.values() for tensor in tensors):
                tensor.record_stream(stream)
        return batch
