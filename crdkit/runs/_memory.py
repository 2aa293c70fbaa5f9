"""What to do when a device's memory runs out during a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from crdkit.errors import CrdkitError

if TYPE_CHECKING:
    from crdkit.runs._pipeline import Pipeline

_GIB = 2**30


@contextmanager
def explained_memory(run: Pipeline, device: torch.device) -> Iterator[None]:
    """Turn an error about a device without memory left into one that says what lies there and what would fit.

    Raises:
        CrdkitError: the memory ran out in the block.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise CrdkitError(f"{device}: its memory has run out: {_advice(run, device)}") from error


def _advice(run: Pipeline, device: torch.device) -> str:
    options = run.config.training
    half = f"training.batch_size={options.batch_size // 2}" if options.batch_size > 1 else "a smaller data.image_size"
    plan = getattr(run, "plan", None)  # none before the model is there
    kept = 0
    if plan is not None:
        kept = sum(size for split, size in plan.views.items() if plan.views_at[split] == "device")
        kept += plan.features if plan.features_at == "device" else 0
    if not kept:
        return f"views and features do not lie there, so a batch is too large: set {half}{_free(device)}"
    where = "recomputed" if device.type == "cpu" else "kept in host memory"
    smaller = kept // 2 * 100 // _GIB / 100
    return (
        f"views and teacher features take {kept / _GIB:.2f} GiB (training.resident_gib={options.resident_gib}); "
        f"set training.resident_gib={smaller:g}, so that they are {where}, or {half}{_free(device)}"
    )


def _free(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    free, total = torch.cuda.mem_get_info(device)
    return f" ({free / _GIB:.2f} of {total / _GIB:.2f} GiB are free now)"
