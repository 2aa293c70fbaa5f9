"""A whole split through the engine: its raw maps, for calibration, and its maps and scores, for metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate

import torch

from crdkit._core.device import fastest_convolutions, is_frequent
from crdkit._core.progress import track
from crdkit.detector._engine import Engine, RawMaps
from crdkit.detector._finite import FUSED, extremes_on_host, require_finite
from crdkit.scoring.scorer import Maps
from crdkit.views.split import LoadedSplit, batches


@torch.no_grad()
def raw_maps(engine: Engine, split: LoadedSplit, *, batch_size: int) -> RawMaps:
    """Return every branch's unsmoothed map of every sample, (N, S, S), and where the object is, on the device.

    Raises:
        CrdkitError: a map is not finite.
    """
    parts: list[RawMaps] = []
    rows = batches(len(split), batch_size)
    for chosen in rows:
        inputs, _ = split.batch(chosen)
        with _kernels(engine, chosen, rows):
            parts.append(engine.raw_maps(inputs.__getitem__))
    raw = {name: torch.cat([part.branches[name] for part in parts]) for name in engine.branches}
    inside = [part.foreground for part in parts if part.foreground is not None]
    require_finite(extremes_on_host(raw), lambda row: str(split.records[row].image_path))
    return RawMaps(raw, torch.cat(inside) if inside else None)


def score_split(engine: Engine, split: LoadedSplit, *, batch_size: int) -> Maps:
    """Return maps and scores of every sample, in order, on the device.

    A batch is the same for a share of the split: a skipped sample leaves it smaller, and only one in which something is
    missing is told so.

    Raises:
        CrdkitError: a map is not finite.
    """
    rows, parts = _rows(split, batch_size), []
    lacking = None if split.present is None else ~torch.stack([has.cpu() for has in split.present.values()]).all(dim=0)
    for chosen in track(rows, description="scoring", total=len(rows)):
        inputs, flags = split.batch(chosen)
        present = None
        if flags is not None and lacking is not None and lacking[chosen].any():
            present = {name: has.to(engine.device) for name, has in flags.items()}
        with _kernels(engine, chosen, rows):
            parts.append(engine(inputs.__getitem__, present))
    found = Maps(
        anomaly_map=torch.cat([part.anomaly_map for part in parts]),
        pred_score=torch.cat([part.pred_score for part in parts]),
        branches={name: torch.cat([part.branches[name] for part in parts]) for name in engine.branches},
        present=split.present,
    )
    extremes = extremes_on_host({FUSED: found.anomaly_map, **found.branches})
    require_finite(extremes, lambda row: str(split.records[row].image_path))
    return found


def _rows(split: LoadedSplit, batch_size: int) -> Sequence[slice]:
    """Return the rows of each batch: those whose places among all listed samples are in one batch."""
    if split.places is None:
        return batches(len(split), batch_size)
    sizes = Counter(place // batch_size for place in split.places)
    ends = [*accumulate(sizes.values())]
    return [slice(end - size, end) for end, size in zip(ends, sizes.values(), strict=True)]


def _kernels(engine: Engine, chosen: slice, rows: Sequence[slice]) -> AbstractContextManager[None]:
    """Let cuDNN time its kernels for the batches of a long split, but for a smaller last one."""
    full = chosen.stop - chosen.start == rows[0].stop - rows[0].start
    return fastest_convolutions() if full and is_frequent(len(rows)) else nullcontext()
