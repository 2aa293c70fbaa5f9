"""What metrics.json says of the samples: how many there are, and which were held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from crdkit.data import SPLITS, Dataset, Split
from crdkit.views.split import LoadedSplit


def count_samples(
    splits: Mapping[Split, LoadedSplit], *, present: Mapping[str, torch.Tensor], overlapping: int
) -> dict[str, Any]:
    """Return how many samples each split has (None: it was not read), were skipped, lack a sensor or overlap."""
    skipped = sum(split.skipped for split in splits.values())
    missing = {name: int((~has).sum()) for name, has in present.items() if not has.all()}
    return {
        **{split: len(splits[split]) if split in splits else None for split in SPLITS},
        **({"skipped": skipped} if skipped else {}),
        **({"missing": missing} if missing else {}),
        **({"overlapping": overlapping} if overlapping else {}),
    }


def describe_held_out(dataset: Dataset, splits: Mapping[Split, LoadedSplit]) -> dict[str, Any]:
    """Return the key "held_out" of metrics.json, if the validation split was taken from the training samples."""
    taken = dataset.held_out if "validation" in splits else None
    return {} if taken is None else {"held_out": {"samples": len(splits["validation"]), **taken}}
