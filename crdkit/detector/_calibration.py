"""Scores of the samples that a detector is calibrated on, each from a fit that has not seen it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import combinations

import torch

from crdkit._core.progress import track
from crdkit.detector._engine import Engine, RawMaps
from crdkit.scoring.conformal import Normals, Rule
from crdkit.scoring.scorer import Scorer
from crdkit.scoring.thresholds import Modalities, Thresholds
from crdkit.views import View
from crdkit.views.split import LoadedSplit, batches, visible

MAX_SETS = 16
"""Of modalities, that thresholds are made for."""
_ALONE = 25  # samples up to which each is a fold of its own
_FOLDS = 10


def sets_of_modalities(views: Mapping[str, View], *, spares: bool) -> list[Modalities]:
    """Return the sets of modalities that samples may have: all, and if sensors may be missing those without some.

    Sets without one sensor come first, then those without two, and so on, as long as all of a kind fit into
    `MAX_SETS`: for five sensors those without one or two.

    Examples:
        >>> from crdkit.views import views
        >>> both = {name: views.build(views.build_config(name)) for name in ("rgb", "depth", "normals")}
        >>> sets_of_modalities(both, spares=True)
        [('rgb', 'depth', 'normals'), ('depth', 'normals'), ('rgb',)]
    """
    sensors = sorted({sensor for view in views.values() for sensor in view.sensors})
    found = {tuple(views): None}
    for count in range(1, len(sensors) if spares else 1):
        kept = (set(sensors).difference(lost) for lost in combinations(sensors, count))
        more = {tuple(seen): None for there in kept if (seen := visible(views, there))}
        if len(found | more) > MAX_SETS:
            break
        found |= more
    return list(found)


def folds(count: int) -> list[slice]:
    """Return the folds of ``count`` samples: each alone up to 25 of them, else ten of consecutive ones."""
    return list(batches(count, 1 if count <= _ALONE else -(-count // _FOLDS)))


def calibrate(
    engine: Engine,
    normals: LoadedSplit,
    raw: RawMaps,
    *,
    sets: Sequence[Modalities],
    batch_size: int,
    false_alarms: float,
) -> Thresholds:
    """Fit the engine's scorer to normal samples, and return thresholds from their scores by cross-fitting.

    Each sample is scored by a scorer that was fitted to the other folds; the engine's own is fitted to all. A single
    sample is scored by the fit to itself.

    Args:
        engine: with the scorer.
        normals: samples that lack nothing.
        raw: their raw maps; rows are exchanged meanwhile.
        sets: of modalities to make thresholds for; the first is that of all.
        batch_size: samples at once.
        false_alarms: the wanted rate.
    """
    chosen = folds(len(normals))
    if len(chosen) == 1:
        rule: Rule = "in-sample"
        engine.scorer.calibrate(raw.branches, raw.foreground)
        scorers = [engine.scorer]
    else:
        rule = "jackknife" if len(normals) <= _ALONE else "cross-fitting"
        scorers = list(track(_fits(engine.scorer, raw, chosen), description="cross-fitting", total=len(chosen)))
        engine.scorer.calibrate(raw.branches, raw.foreground)
    rows = batches(len(normals), batch_size)
    parts: dict[Modalities, list[torch.Tensor]] = {modalities: [] for modalities in sets}
    work = [(modalities, chosen_rows) for modalities in sets for chosen_rows in rows]
    for modalities, part in track(work, description="scoring normal samples", total=len(work)):
        if modalities == sets[0]:
            maps, present = raw.of(part), None
        else:
            maps, present = _without(engine, normals, part, modalities)
        for number, fold in enumerate(chosen):
            inside = slice(max(fold.start - part.start, 0), max(min(fold.stop, part.stop) - part.start, 0))
            if inside.start < inside.stop:
                few, there = maps.of(inside), present and {name: has[inside] for name, has in present.items()}
                scored = scorers[number](few.branches, there, foreground=few.foreground)
                peaks = scored.anomaly_map.flatten(1).amax(dim=1)
                parts[modalities].append(torch.stack([scored.pred_score, peaks]))
    found = {modalities: torch.cat(columns, dim=1).tolist() for modalities, columns in parts.items()}
    return Thresholds(
        scores={modalities: Normals(scores, rule=rule) for modalities, (scores, _) in found.items()},
        peaks={modalities: Normals(peaks, rule=rule) for modalities, (_, peaks) in found.items()},
        false_alarms=false_alarms,
        sha256=_sha256(normals),
    )


def _fits(scorer: Scorer, raw: RawMaps, chosen: Sequence[slice]) -> Iterator[Scorer]:
    """Yield a copy of the scorer for each fold, fitted to all others."""
    for fold in chosen:
        fitted = deepcopy(scorer)
        with _left_out(raw, fold) as others:
            fitted.calibrate(others.branches, others.foreground)
        yield fitted


@contextmanager
def _left_out(raw: RawMaps, fold: slice) -> Iterator[RawMaps]:
    """Yield the rows outside a fold: it takes the place of the first ones for a moment, as a copy would take memory."""
    count = fold.stop - fold.start
    _exchange(raw, fold, count)
    try:
        yield raw.of(slice(count, None))
    finally:
        _exchange(raw, fold, count)


def _exchange(raw: RawMaps, fold: slice, count: int) -> None:
    for values in (*raw.branches.values(), raw.foreground):
        if values is not None and fold.start:
            first = values[:count].clone()
            values[:count] = values[fold]
            values[fold] = first


def _without(
    engine: Engine, normals: LoadedSplit, rows: slice, modalities: Modalities
) -> tuple[RawMaps, dict[str, torch.Tensor]]:
    """Return raw maps of samples that have only ``modalities``, and which they have: students see each other."""
    inputs, _ = normals.batch(rows)
    inputs = {name: values if name in modalities else torch.zeros_like(values) for name, values in inputs.items()}
    count = rows.stop - rows.start
    present = {name: torch.full((count,), name in modalities, device=engine.device) for name in inputs}
    return engine.raw_maps(inputs.__getitem__, present), present


def _sha256(normals: LoadedSplit) -> str:
    digest = hashlib.sha256()
    for name, values in sorted(normals.inputs.items()):
        digest.update(f"{name} {tuple(values.shape)}".encode())
        for view in values:
            digest.update(view.cpu().contiguous().numpy().data)
    return digest.hexdigest()
