"""Metrics of a scored split: fused, of every branch, and of every defect type."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from crdkit.scoring.metrics import Regions, evaluate, label_regions
from crdkit.scoring.scorer import Maps
from crdkit.views.split import LoadedSplit

DEFECT_METRICS = ("image_auroc", "aupro_0.30")


def measure(maps: Maps, split: LoadedSplit, *, sampled_thresholds: bool = False) -> dict[str, Any]:
    """Return the entries ``aggregate``, ``branches`` and ``defect_types`` of metrics.json.

    A metric that cannot be computed is None. A defect type is measured against the normal test samples, and a branch
    on the samples that have its modality. ``sampled_thresholds`` adds AU-PRO with 100 thresholds, under its own names,
    to ``aggregate`` and ``branches``.
    """
    masks, labels = split.masks, split.labels
    regions = None if masks is None else label_regions(masks)

    def metrics_of(
        values: torch.Tensor,
        chosen: np.ndarray,
        scores: torch.Tensor | None = None,
        *,
        sampled: bool = sampled_thresholds,
    ) -> dict[str, float | None]:
        return _evaluate(values, scores, masks, labels, regions, chosen=chosen, sampled_thresholds=sampled)

    everything = np.ones(len(split), dtype=bool)
    aggregate = metrics_of(maps.anomaly_map, everything, maps.pred_score)
    branches: dict[str, dict[str, float | None]] = {}
    for name, values in maps.branches.items():
        has = everything if maps.present is None else maps.present[name].cpu().numpy()
        branches[name] = metrics_of(values, has) if has.any() else dict.fromkeys(aggregate)
    defects: dict[str, dict[str, float | None]] = {}
    if labels is not None:
        kinds = np.array([record.defect_type for record in split.records])
        for kind in sorted(set(kinds[labels == 1])):
            found = metrics_of(maps.anomaly_map, (labels == 0) | (kinds == kind), maps.pred_score, sampled=False)
            defects[str(kind)] = {key: found[key] for key in DEFECT_METRICS}
    return {"aggregate": aggregate, "branches": branches, "defect_types": defects}


def _evaluate(
    values: torch.Tensor,
    scores: torch.Tensor | None,
    masks: torch.Tensor | None,
    labels: np.ndarray | None,
    regions: Regions | None,
    *,
    chosen: np.ndarray,
    sampled_thresholds: bool,
) -> dict[str, float | None]:
    """Return the metrics of the samples that ``chosen`` (N,) marks."""
    if not chosen.all():
        rows = torch.from_numpy(np.flatnonzero(chosen))
        values = values[rows.to(values.device)]
        scores = None if scores is None else scores[rows.to(scores.device)]
        masks = None if masks is None else masks[rows]
        labels = None if labels is None else labels[chosen]
        regions = None if regions is None else regions.of(chosen)
    return evaluate(values, masks, scores, labels=labels, regions=regions, sampled_thresholds=sampled_thresholds)
