"""The samples of a page as plain values: what its filters, sliders and viewer work on, of one run or of several."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crdkit.report.data import ReportData
from crdkit.report.decisions import colours_of, decision
from crdkit.report.gallery import SIZE, mistakes, order
from crdkit.report.pictures import BUDGET, heat_tables, lacks, pictures, scales_of

FUSED = "fused"
"""Of the maps, unless a modality has that name."""
BINS = 60
"""Of the histogram over a threshold's slider."""
LISTED = 10
"""The most regions of a sample that are listed; the highest."""


@dataclass(frozen=True, kw_only=True)
class Explored:
    """One run's part of a page, its samples in the order of the page."""

    head: dict[str, Any]
    """What is common to all samples."""
    samples: list[dict[str, Any]]
    """Who each sample is."""
    judged: list[dict[str, Any]]
    """What the run says of each."""
    pictures: list[Any]
    """Of the first samples, see `crdkit.report.pictures.pictures`."""


def explore(
    data: ReportData,
    *,
    name: str = "",
    rows: Sequence[int] | None = None,
    pictured: int = SIZE,
    budget: int = BUDGET,
) -> Explored:
    """Return one run's part of a page.

    Args:
        data: of the run.
        name: what a page of several runs calls it.
        rows: the order of the samples; None: worst mistakes first.
        pictured: how many of them, from the first on, get pictures.
        budget: as in `crdkit.report.pictures.pictures`.
    """
    placed = order(data.labels, data.scores) if rows is None else list(rows)
    scales = scales_of(data)
    modalities = list(data.branch_maps)
    wrong = mistakes(data.labels, np.asarray(data.scores))
    peaks = {key: maps.reshape(len(maps), -1).max(axis=1) for key, maps in data.branch_maps.items()}
    return Explored(
        head={
            "name": name,
            **_threshold(data),
            "layers": [FUSED if FUSED not in modalities else f"{FUSED} (all)", *modalities],
            "scales": [[_short(scale.low), _short(scale.high)] for scale in scales],
            "colours": colours_of(modalities),
            "inputs": list(data.inputs),
        },
        samples=[
            {
                "id": data.sample_ids[row],
                "type": data.defect_types[row],
                "label": None if data.labels is None else int(data.labels[row]),
            }
            for row in placed
        ],
        judged=[_judged(data, row, peaks=peaks, wrong=float(wrong[row])) for row in placed],
        pictures=pictures(data, placed[: max(pictured, 0)], budget=budget),
    )


def assemble(runs: Sequence[Explored]) -> dict[str, Any]:
    """Return what the template of the explorer needs for runs on the same samples, in the same order."""
    first = runs[0]
    inputs = list(dict.fromkeys(name for run in runs for name in run.head["inputs"]))
    labels = [sample["label"] for sample in first.samples]
    totals = {"normal": labels.count(0), "anomalous": labels.count(1)}
    document = {
        "runs": [run.head for run in runs],
        "inputs": inputs,
        "rates": {kind: _intervals(total) for kind, total in totals.items()},
        "samples": [
            {**sample, "runs": [run.judged[place] for run in runs]} for place, sample in enumerate(first.samples)
        ],
    }
    shown = []
    for place in range(len(first.pictures)):
        own = [run.pictures[place] for run in runs]
        views = [dict(zip(run.head["inputs"], one["inputs"], strict=True)) for run, one in zip(runs, own, strict=True)]
        views = [{name: picture for name, picture in view.items() if picture is not None} for view in views]
        shown.append(
            {
                "inputs": [next((view[name] for view in views if name in view), None) for name in inputs],
                "truth": [own[0]["truth"], own[0]["frame"]],
                "runs": [{key: one[key] for key in ("maps", "regions", "frame")} for one in own],
            }
        )
    return {
        "document": in_script(document),
        "pictures": [in_script(picture) for picture in shown],
        "runs": [{**run.head, "histogram": _histogram(run, labels)} for run in runs],
        "layers": list(dict.fromkeys(layer for run in runs for layer in run.head["layers"])),
        "types": {kind: [s["type"] for s in first.samples].count(kind) for kind in _types(first)},
        "labelled": None not in labels,
        "two_classes": all(totals.values()),
        "regions": any(judged["count"] for run in runs for judged in run.judged),
        "truth": any(one["truth"] for one in first.pictures),
        "total": len(first.samples),
        "heat": heat_tables(),
    }


def in_script(document: Any) -> str:
    r"""Return JSON that may stand in a ``<script>``: no character in it can end the element or begin a comment.

    Examples:
        >>> in_script({"name": "</script><!--"})
        '{"name":"\\u003c/script\\u003e\\u003c!--"}'
    """
    text = json.dumps(_finite(document), separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the threshold with the highest F1, halfway between two scores.

    Examples:
        >>> best_threshold(np.array([0, 0, 1, 1]), np.array([1.0, 3.0, 2.0, 4.0]))
        1.5
    """
    values = np.unique(scores)
    edges = np.concatenate([[values[0] - (values[-1] - values[0] or 1.0)], values])
    cuts = (edges[:-1] + edges[1:]) / 2  # below each value
    found = [np.count_nonzero(labels[scores > cut]) for cut in cuts]
    alarms = [np.count_nonzero(scores > cut) for cut in cuts]
    return float(cuts[np.argmax([2 * f / (a + labels.sum()) for f, a in zip(found, alarms, strict=True)])])


def _threshold(data: ReportData) -> dict[str, Any]:
    """Return where a threshold's slider begins, why there, and how far it goes."""
    scores = np.asarray(data.scores, dtype=np.float64)
    complete = [row for row in range(len(scores)) if not lacks(data, row)] or list(range(len(scores)))
    decided = [data.decided[row].threshold for row in complete] if data.decided is not None else []
    known = [value for value in decided if value is not None]
    two = data.labels is not None and len(np.unique(data.labels)) == 2
    if known and math.isfinite(known[0]):
        start, why = float(known[0]), "decided"
    elif two and data.labels is not None:
        start, why = best_threshold(np.asarray(data.labels), scores), "best"
    else:
        start, why = float(scores.max()), "highest"
    ends = np.append(scores, start)
    low, high = float(ends.min()), float(ends.max())
    margin = 0.02 * (high - low) or 0.5
    return {"threshold": start, "why": why, "low": low - margin, "high": high + margin}


def _judged(data: ReportData, row: int, *, peaks: dict[str, np.ndarray], wrong: float) -> dict[str, Any]:
    names, missing = list(data.branch_maps), lacks(data, row)
    found = None if data.decided is None else data.decided[row]
    words = {} if found is None else decision(found)
    regions = [] if found is None else list(found.regions)
    shares = None if found is None else found.attribution
    return {
        "score": float(data.scores[row]),
        "threshold": None if found is None else found.threshold,
        "scores": [None if name in missing else _short(peaks[name][row]) for name in names],
        "lacks": missing,
        "rank": _rank(data, row, wrong),
        "words": words.get("text", ""),
        "raised": words.get("raised", ""),
        "shares": None if not shares else [round(float(shares.get(name, 0.0)), 4) for name in names],
        "count": len(regions),
        "regions": [
            [*region.box, region.area, _short(region.score), names.index(region.modality)]
            for region in regions[:LISTED]
        ],
    }


def _rank(data: ReportData, row: int, wrong: float) -> str:
    """Return in words where the sample ranks among the other class."""
    scores = np.asarray(data.scores)
    if data.labels is None or len(np.unique(data.labels)) < 2:
        return f"rank {int(np.count_nonzero(scores > scores[row])) + 1} of {len(scores)}"
    side, kind = ("below", "normal") if data.labels[row] else ("above", "anomalous")
    if wrong > 0:
        share = f"{100 * wrong:.0f}%" if wrong >= 0.005 else "under 1%"
        return f"ranked {side} {share} of the {kind} samples"
    return f"ranked {'above' if side == 'below' else 'below'} every {kind} sample"


def _histogram(run: Explored, labels: Sequence[int | None]) -> list[dict[str, Any]]:
    """Return bars of a picture 300 wide and 60 high: normal samples below, anomalous ones on top."""
    scores = np.array([judged["score"] for judged in run.judged])
    edges = np.linspace(run.head["low"], run.head["high"], BINS + 1)
    kinds = {"anomalous": np.array([label == 1 for label in labels])}
    kinds = {"normal": ~kinds["anomalous"], **kinds}
    counts = {kind: np.histogram(scores[chosen], edges)[0] for kind, chosen in kinds.items()}
    highest = max(1, int((counts["normal"] + counts["anomalous"]).max()))
    width, bars = 300 / BINS, []
    for place in range(BINS):
        top = 60.0
        for kind, found in counts.items():
            if found[place]:
                height = max(1.5, 58 * int(found[place]) / highest)
                top -= height
                box = {"x": place * width, "y": top, "width": width - 0.6, "height": height}
                bars.append({"kind": kind, **{key: f"{value:.4g}" for key, value in box.items()}})
    return bars


def _types(run: Explored) -> list[str]:
    """Return the defect types, that of normal samples first."""
    kinds = {sample["type"]: sample["label"] for sample in run.samples}
    return sorted(kinds, key=lambda kind: (kinds[kind] == 1, kind))


def _intervals(total: int) -> list[list[float]]:
    """Return the Clopper-Pearson interval (95 %) of 0, 1, ..., ``total`` of so many samples, in percent; see `Rate`.

    Examples:
        >>> _intervals(20)[1]
        [0.1, 24.9]
    """
    from scipy.special import betaincinv  # type: ignore[import-untyped, unused-ignore]

    if not total:
        return []
    counts = np.arange(total + 1)
    low, high = np.zeros(total + 1), np.ones(total + 1)
    low[1:] = betaincinv(counts[1:], total - counts[1:] + 1, 0.025)
    high[:-1] = betaincinv(counts[:-1] + 1, total - counts[:-1], 0.975)
    return [[round(100 * float(value), 1) for value in pair] for pair in zip(low, high, strict=True)]


def _short(value: float) -> str:
    return f"{float(value):.4g}"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value
