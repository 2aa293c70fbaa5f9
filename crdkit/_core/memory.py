"""Plans memory: views and teacher features on the device while they fit, in pinned host memory, or recomputed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

Level = Literal["device", "host", "recomputed"]
"""On the device; in host memory, copied one batch ahead; or computed again for every batch."""

_ON_A_CPU = 8 * 2**30

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
    automatic: bool = False
    """Whether the budget follows from the device's free memory."""

    def describe(self, device: torch.device) -> list[str]:
        """Return what was chosen, as lines to print."""
        lines = [
            f"views of {split}: {_gib(size)} GiB, {_LEVEL_PHRASES[self.views_at[split]]} {device}"
            for split, size in self.views.items()
        ]
        if self.features_at is not None:
            lines.append(
                f"teacher features: {_gib(self.features)} GiB, {_LEVEL_PHRASES[self.features_at]} {device} "
                f"(training.resident_gib={'auto: ' * self.automatic}{self.budget / 2**30:.4g})"
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


def resident_budget(gib: float | Literal["auto"], device: torch.device) -> int:
    """Return the bytes that views and features may take: a number of GiB, or half of what a GPU has free now.

    The other half is for the activations of a batch; on a CPU, "auto" is 8 GiB.

    Examples:
        >>> resident_budget(2, torch.device("cpu")) / 2**30, resident_budget("auto", torch.device("cpu")) / 2**30
        (2.0, 8.0)
    """
    if gib != "auto":
        return int(gib * 2**30)
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else _ON_A_CPU


def plan_memory(
    views: Mapping[str, int],
    *,
    features: int | None,
    device: torch.device,
    budget: int,
    pinned: int,
    features_pinned: int | None = None,
    recompute: bool = False,
    automatic: bool = False,
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
        features_pinned: bytes that the features take there, which rounds sizes up; None: as many as elsewhere.
        recompute: whether features differ from epoch to epoch, so that keeping them is no use.
        automatic: whether the budget was "auto", for the description.

    Examples:
        >>> plan = plan_memory({"train": 3, "test": 2}, features=9, device=torch.device("cuda"), budget=10, pinned=0)
        >>> plan.features_at, plan.views_at
        ('device', {'train': 'host', 'test': 'host'})
    """
    if device.type == "cpu":
        fits = sum(views.values()) + (features or 0) <= budget and not recompute
        level: Level = "device" if fits else "recomputed"
        at: dict[str, Level] = dict.fromkeys(views, "device")
    else:
        on_host = (features or 0) if features_pinned is None else features_pinned
        level = "device" if (features or 0) <= budget else "host" if on_host <= pinned else "recomputed"
        level = "recomputed" if recompute else level
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
        automatic=automatic,
    )


def in_host_memory(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return ``tensor`` in host memory from which ``device`` can copy while both work."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f}"
