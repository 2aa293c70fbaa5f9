"""How certain the metrics of a scored split are, and how often its decisions are wrong: entries of metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from crdkit.scoring.intervals import intervals
from crdkit.scoring.measure import measure
from crdkit.scoring.rates import Rate, error_rates, recall_at
from crdkit.scoring.scorer import Maps
from crdkit.scoring.thresholds import Thresholds
from crdkit.views.split import LoadedSplit

RECALLS = {"image_recall_0.01": 0.01, "image_recall_0.05": 0.05}


def measure_certainty(maps: Maps, split: LoadedSplit, thresholds: Thresholds | None) -> dict[str, Any]:
    """Return the entries ``intervals`` and ``decisions`` of metrics.json.

    ``intervals`` holds [low, high] of each metric of the fused map at 95 %, see `crdkit.metrics.intervals`.
    ``decisions`` holds the ``false_alarms`` and ``misses`` (fields of `Rate`) of the samples that there is a threshold
    for, that of their own modalities, and the recall at 1 % and 5 % false alarms. What cannot be computed is None.
    """
    labels = split.labels
    if labels is None:
        names = measure(maps, split)["aggregate"]
        return {"intervals": dict.fromkeys(names), "decisions": dict.fromkeys(("false_alarms", "misses", *RECALLS))}
    found = intervals(maps.anomaly_map, split.masks, maps.pred_score, labels=labels)
    scores = maps.pred_score.cpu().numpy().astype(float)
    cuts = _cuts(maps, thresholds)
    decided = ~np.isnan(cuts)
    rates = error_rates((scores - cuts)[decided], labels[decided], threshold=0.0)
    return {
        "intervals": {name: None if interval is None else list(interval) for name, interval in found.items()},
        "decisions": {
            "false_alarms": _or_none(rates.false_alarms),
            "misses": _or_none(rates.misses),
            **{name: recall_at(scores, labels, rate) for name, rate in RECALLS.items()},
        },
    }


def describe_decisions(decisions: Mapping[str, Any]) -> list[str]:
    """Return lines that say what ``decisions`` of metrics.json holds.

    Examples:
        >>> rate = asdict(Rate.of_counts(1, 20))
        >>> found = {"false_alarms": rate, "misses": None, "image_recall_0.01": 0.5, "image_recall_0.05": None}
        >>> describe_decisions(found)
        ['false alarms: 1 of 20 (5.0 %; 0.1 to 24.9 % at 95 % confidence)', 'found at 1 % false alarms: 50.0 %']
    """
    lines = [
        f"{name.replace('_', ' ')}: {Rate(**decisions[name])}"
        for name in ("false_alarms", "misses")
        if decisions[name] is not None
    ]
    for name, rate in RECALLS.items():
        if decisions[name] is not None:
            lines.append(f"found at {100 * rate:g} % false alarms: {100 * decisions[name]:.1f} %")
    return lines


def _cuts(maps: Maps, thresholds: Thresholds | None) -> np.ndarray:
    """Return each sample's threshold, NaN where there is none for its modalities."""
    present = {name: np.ones(len(maps.pred_score), dtype=bool) for name in maps.branches}
    present |= {name: has.cpu().numpy() for name, has in (maps.present or {}).items()}
    cuts = np.full(len(maps.pred_score), np.nan)
    for row in range(len(cuts)):
        modalities = tuple(name for name in maps.branches if present[name][row])
        if thresholds is not None and modalities in thresholds.images:
            cuts[row] = thresholds.images[modalities].value
    return cuts


def _or_none(rate: Rate) -> dict[str, Any] | None:
    return asdict(rate) if rate.total else None
