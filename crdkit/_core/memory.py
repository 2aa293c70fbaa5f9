"""Plans memory: views and teacher features on the device while they fit, in pinned host memory, or recomputed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

Level = Literal["device", "host", "recomputed"]
"""On the device; in host memory, copied one batch ahead; or computed again for every batch."""

_LEVEL_PHRASES: dict[Level, str] = {
    "device": "kept on",
    "host": "kept in host memory for",
    "recomputed": "recomputed on",
}


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Where the views of each split and the teacher features of the training split are kept, and their bytes."""

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
        """Return what was chosen, as lines to print."""
        lines = [
            f"views of {split}: {_gib(size)} GiB, {_LEVEL_PHRASES[self.views_at[split]]} {device}"
            for split, size in self.views.items()
        ]
        if self.features_at is not None:
            lines.append(
                f"teacher features: {_gib(self.features)} GiB, {_LEVEL_PHRASES[self.features_at]} {device} "
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


def plan_memory(
    views: Mapping[str, int], *, features: int | None, device: torch.device, budget: int, pinned: int
) -> MemoryPlan:
    """Choose where views and features are kept.

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
        >>> plan = plan_memory({"train": 3, "test": 2}, features=9, device=torch.device("cuda"), budget=10, pinned=0)
        >>> plan.features_at, plan.views_at
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
    return MemoryPlan(
        views=dict(views),
        views_at={split: at[split] for split in views},
        features=features or 0,
        features_at=None if features is None else level,
        budget=budget,
    )


def in_host_memory(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return ``tensor`` in host memory from which ``device`` can copy while both work."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f}"
