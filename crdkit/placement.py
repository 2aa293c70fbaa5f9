"""What is kept where: views and teacher features on the device while they fit, in pinned host memory, or not at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch

Level = Literal["device", "host", "recomputed"]
"""On the device; in host memory, copied batch by batch, one ahead; or computed anew for every batch."""

Batch = dict[str, list[torch.Tensor]]
"""By modality, tensors (B, ...) on the device."""

_Sent = tuple[Batch, torch.cuda.Event | None]
"""Where a batch will be, and the event of its arrival; None: it is there."""

_WORDS: dict[Level, str] = {"device": "kept on", "host": "kept in host memory for", "recomputed": "recomputed on"}


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the views of each split and the teacher features of the training split are, and their bytes."""

    views: dict[str, int]
    """Bytes by split."""
    views_at: dict[str, Level]
    features: int = 0
    """Bytes that the features take, or would take."""
    features_at: Level | None = None
    """None where nothing is trained."""
    budget: int
    """Bytes that both may take on the device."""

    def describe(self, device: torch.device) -> list[str]:
        """Return what was chosen, in lines for people."""
        lines = [
            f"views of {split}: {_gib(size)} GiB, {_WORDS[self.views_at[split]]} {device}"
            for split, size in self.views.items()
        ]
        if self.features_at is not None:
            lines.append(
                f"teacher features: {_gib(self.features)} GiB, {_WORDS[self.features_at]} {device} "
                f"(training.resident_gib={self.budget / 2**30:g})"
            )
        return lines

    def to_dict(self, *, cached: Collection[str] = ()) -> dict[str, Any]:
        """Return the entry ``resident`` of metrics.json; the splits ``cached`` were read from the cache."""
        views = {
            split: {"bytes": size, "at": self.views_at[split], "cached": split in cached}
            for split, size in self.views.items()
        }
        features = None if self.features_at is None else {"bytes": self.features, "at": self.features_at}
        return {"budget_bytes": self.budget, "views": views, "features": features}


def place(
    views: Mapping[str, int], *, features: int | None, device: torch.device, budget: int, pinned: int
) -> Placement:
    """Choose what is kept where.

    On a CPU, views are in its memory anyway, and features are kept if both fit in ``budget``. On another device
    features come first, as every step reads them: on the device, else in host memory, else they are recomputed. Views
    get what is left, those of the training split first if every step reads them, else last, as they are read once.

    Args:
        views: bytes of each split's views.
        features: bytes of the training split's teacher features; None where nothing is trained.
        device: where the model is.
        budget: bytes for both on the device.
        pinned: bytes of host memory for features.

    Examples:
        >>> chosen = place({"train": 3, "test": 2}, features=9, device=torch.device("cuda"), budget=10, pinned=0)
        >>> chosen.features_at, chosen.views_at
        ('device', {'train': 'host', 'test': 'host'})
    """
    if device.type == "cpu":
        fits = sum(views.values()) + (features or 0) <= budget
        level: Level = "device" if fits else "recomputed"
        at: dict[str, Level] = dict.fromkeys(views, "device")
    else:
        level = "device" if (features or 0) <= budget else "host" if (features or 0) <= pinned else "recomputed"
        left = budget - (features or 0) if level == "device" else budget
        at = {}
        for split in sorted(views, key=lambda split: (split == "train") != (level == "recomputed")):
            at[split] = "device" if views[split] <= left else "host"
            left -= views[split] if at[split] == "device" else 0
    return Placement(
        views=dict(views),
        views_at={split: at[split] for split in views},
        features=features or 0,
        features_at=None if features is None else level,
        budget=budget,
    )


class Rows:
    """Tensors (N, ...) of which batches are wanted on a device: gathered there, or copied from host memory.

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
        """Return the rows ``indices`` (B,), which are better on the CPU for tensors in host memory."""
        if self.host:
            return self._arrived(*self._send(indices))
        return {name: [tensor[indices] for tensor in tensors] for name, tensors in self._tensors.items()}

    def batches(self, chosen: Iterable[torch.Tensor]) -> Iterator[Batch]:
        """Yield `batch` of each ``chosen`` (B,); from host memory the next one is copied while the caller computes."""
        if not self.host:
            yield from map(self.batch, chosen)
            return
        sent: _Sent | None = None
        for indices in chosen:
            ready, sent = sent, self._send(indices)  # before the caller queues its work on the one before
            if ready is not None:
                yield self._arrived(*ready)
        if sent is not None:
            yield self._arrived(*sent)

    def _send(self, indices: torch.Tensor) -> _Sent:
        """Queue the copies of some rows."""
        rows = indices.tolist()
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            batch = {name: [self._copy(tensor, rows) for tensor in tensors] for name, tensors in self._tensors.items()}
            return batch, None if self._stream is None else self._stream.record_event()

    def _copy(self, tensor: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        # row by row from where it is pinned: gathering first would cost the host a copy of its own
        copy = torch.empty(len(rows), *tensor.shape[1:], dtype=tensor.dtype, device=self._device)
        for to, row in zip(copy, rows, strict=True):
            to.copy_(tensor[row], non_blocking=True)
        return copy

    def _arrived(self, batch: Batch, event: torch.cuda.Event | None) -> Batch:
        """Let the current stream, not the host, wait for the copies; their memory is its from here on."""
        if event is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(event)
            for tensor in (tensor for tensors in batch.values() for tensor in tensors):
                tensor.record_stream(stream)
        return batch


def in_host_memory(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return ``tensor`` in host memory from which ``device`` can copy while both work."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f}"
