"""Scores of the samples that a detector is calibrated on, each from a fit that has not seen it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
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
_ANCHORS = 12  # samples that tell how the scales of two fits differ


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
    known = _evenly(len(normals), _ANCHORS)
    found: dict[Modalities, torch.Tensor] = {}
    work = [(modalities, rows) for modalities in sets for rows in batches(len(normals), batch_size)]
    parts: list[torch.Tensor] = []
    anchors: list[tuple[int, _Shown]] = []
    for modalities, part in track(work, description="scoring normal samples", total=len(work)):
        maps = _Shown(raw.of(part), None) if modalities == sets[0] else _without(engine, normals, part, modalities)
        for number, fold in enumerate(chosen):
            inside = slice(max(fold.start - part.start, 0), max(min(fold.stop, part.stop) - part.start, 0))
            if inside.start < inside.stop:
                parts.append(maps.of(inside).scored(scorers[number]))
        anchors += [
            (row, maps.of(slice(row - part.start, row - part.start + 1))) for row in known if row in _rows(part)
        ]
        if part.stop == len(normals):
            found[modalities] = _on_one_scale(torch.cat(parts, dim=1), anchors, scorers, engine.scorer, chosen)
            parts, anchors = [], []
    return Thresholds(
        scores={modalities: Normals(values[0].tolist(), rule=rule) for modalities, values in found.items()},
        peaks={modalities: Normals(values[1].tolist(), rule=rule) for modalities, values in found.items()},
        false_alarms=false_alarms,
        sha256=_sha256(normals),
    )


@dataclass(frozen=True)
class _Shown:
    """Raw maps of samples, and which modalities they have."""

    raw: RawMaps
    present: Mapping[str, torch.Tensor] | None

    def of(self, rows: slice) -> _Shown:
        """Return those of some samples."""
        return _Shown(self.raw.of(rows), self.present and {name: has[rows] for name, has in self.present.items()})

    def scored(self, scorer: Scorer) -> torch.Tensor:
        """Return image scores and peaks of the fused maps, (2, B) float64."""
        maps = scorer(self.raw.branches, self.present, foreground=self.raw.foreground)
        return torch.stack([maps.pred_score, maps.anomaly_map.flatten(1).amax(dim=1)]).double()


def _on_one_scale(
    values: torch.Tensor,
    anchors: Sequence[tuple[int, _Shown]],
    scorers: Sequence[Scorer],
    final: Scorer,
    chosen: Sequence[slice],
) -> torch.Tensor:
    """Return the (2, N) scores and peaks by fits without each fold in the unit of the final fit.

    Fits differ in scale, most of all where modalities are missing; pooled as they are, their scores would be spread
    more widely than those of new samples. A line through scores of samples that both fits have seen takes that away.
    """
    if scorers[0] is final:
        return values
    values, wanted = values.clone(), torch.cat([shown.scored(final) for _, shown in anchors], dim=1)
    for scorer, fold in zip(scorers, chosen, strict=True):
        both = [place for place, (row, _) in enumerate(anchors) if row not in _rows(fold)]
        own = torch.cat([anchors[place][1].scored(scorer) for place in both], dim=1)
        for kind in range(len(values)):
            line = _line(own[kind], wanted[kind, both])
            values[kind, fold] = line[0] + line[1] * values[kind, fold]
    return values


def _line(own: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return offset and slope of the least-squares line; a slope of 1 for fewer than three different points."""
    spread = own - own.mean()
    slope = (spread * (wanted - wanted.mean())).sum() / spread.square().sum()
    if len(own) < 3 or not slope.isfinite() or slope <= 0:
        slope = torch.ones_like(slope)
    return wanted.mean() - slope * own.mean(), slope


def _evenly(count: int, most: int) -> list[int]:
    """Return up to ``most`` of ``count`` rows, evenly spread."""
    chosen = min(count, most)
    return sorted({(2 * place + 1) * count // (2 * chosen) for place in range(chosen)})


def _rows(part: slice) -> range:
    return range(part.start, part.stop)


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


def _without(engine: Engine, normals: LoadedSplit, rows: slice, modalities: Modalities) -> _Shown:
    """Return the raw maps of samples that have only ``modalities``: those of the students change without the others."""
    inputs, _ = normals.batch(rows)
    inputs = {name: values if name in modalities else torch.zeros_like(values) for name, values in inputs.items()}
    count = rows.stop - rows.start
    present = {name: torch.full((count,), name in modalities, device=engine.device) for name in inputs}
    return _Shown(engine.raw_maps(inputs.__getitem__, present), present)


def _sha256(normals: LoadedSplit) -> str:
    digest = hashlib.sha256()
    for name, values in sorted(normals.inputs.items()):
        digest.update(f"{name} {tuple(values.shape)}".encode())
        for view in values:
            digest.update(view.cpu().contiguous().numpy().data)
    return digest.hexdigest()
