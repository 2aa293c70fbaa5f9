"""From a trained CRD to calibrated maps, scores and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from crdkit.aggregations import aggregations
from crdkit.anomaly_map import GaussianSmoothing, anomaly_map, anomaly_score
from crdkit.config import RunConfig
from crdkit.metrics import Regions, evaluate, label_regions
from crdkit.model import CRD, CRDOutput
from crdkit.presence import Presence
from crdkit.progress import track
from crdkit.resident import ResidentSplit, batches
from crdkit.threads import BranchMap, by_branch, side_by_side

DEFECT_METRICS = ("image_auroc", "aupro_0.30")


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Anomaly maps and scores of a batch or a split."""

    anomaly_map: torch.Tensor
    """(B, S, S) float32: fused, then smoothed."""
    pred_score: torch.Tensor
    """(B,) float32: the maximum of each fused map."""
    branches: dict[str, torch.Tensor]
    """By modality, (B, S, S) float32: smoothed, not normalised."""
    present: Presence | None = None
    """Which samples have each modality, (B,) bool; None: all. The branch's map of a missing one is zeros."""


class Scorer(nn.Module):
    """Turns a CRD's output into maps and scores: calibrated aggregation, then smoothing (CRD section 4.4)."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.size = config.data.image_size
        self.aggregation = aggregations.get(config.aggregation.name)(
            config.aggregation, modalities=tuple(config.modalities)
        )
        self.smoothing = GaussianSmoothing(config.scoring.sigma, size=self.size)

    @property
    def device(self) -> torch.device:
        """The device that maps are scored on."""
        return self.aggregation.mean.device

    def raw_maps(self, out: CRDOutput, *, each_branch: BranchMap = map) -> dict[str, torch.Tensor]:
        """Return every branch's unsmoothed (B, S, S) map: teacher against output."""
        return by_branch(
            each_branch, lambda name: anomaly_map(out.teacher[name], out.output[name], size=self.size), out.teacher
        )

    def forward(self, out: CRDOutput, *, each_branch: BranchMap = map) -> Maps:
        """Return the fused and the branches' maps, and the scores; a missing modality has no part in them.

        Args:
            out: of the model.
            each_branch: how the branches' maps are computed, see `crdkit.threads`.
        """
        raw = self.raw_maps(out, each_branch=each_branch)
        if out.present is not None:
            raw = {name: maps * out.present[name][:, None, None] for name, maps in raw.items()}
        branches = by_branch(each_branch, lambda name: self.smoothing(raw[name]), raw)
        fused = self.smoothing(self.aggregation.fuse(raw, out.present))
        return Maps(anomaly_map=fused, pred_score=anomaly_score(fused), branches=branches, present=out.present)


@torch.no_grad()
def calibrate(model: CRD, scorer: Scorer, normals: ResidentSplit, *, batch_size: int) -> None:
    """Let the aggregation learn from the maps of anomaly-free samples; only ``scorer`` changes."""
    model.eval()
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in model.modalities}
    with side_by_side(len(model.modalities), scorer.device) as each:
        for rows in batches(len(normals), batch_size):
            inputs, _ = normals.batch(rows)
            out = model(inputs, each_branch=each)
            for name, maps in scorer.raw_maps(out, each_branch=each).items():
                parts[name].append(maps)
    scorer.aggregation.calibrate({name: torch.cat(maps) for name, maps in parts.items()})


@torch.no_grad()
def score(model: CRD, scorer: Scorer, split: ResidentSplit, *, batch_size: int) -> Maps:
    """Return maps and scores of every sample of ``split``, in order, on the device."""
    model.eval()
    rows = batches(len(split), batch_size)
    with side_by_side(len(model.modalities), scorer.device) as each:
        parts = [
            scorer(model(*split.batch(row), each_branch=each), each_branch=each)
            for row in track(rows, description="scoring", total=len(rows))
        ]
    return Maps(
        anomaly_map=torch.cat([part.anomaly_map for part in parts]),
        pred_score=torch.cat([part.pred_score for part in parts]),
        branches={name: torch.cat([part.branches[name] for part in parts]) for name in model.modalities},
        present=split.present,
    )


def measure(maps: Maps, split: ResidentSplit, *, sampled_thresholds: bool = False) -> dict[str, Any]:
    """Return the entries ``aggregate``, ``branches`` and ``defect_types`` of metrics.json.

    A metric that cannot be computed is None. A defect type is measured against the normal test samples, and a branch
    on the samples that have its modality. ``sampled_thresholds`` adds AU-PRO with 100 thresholds, under its own names,
    to the former two.
    """
    regions = None if split.masks is None else label_regions(split.masks)
    everything = np.ones(len(split), dtype=bool)

    def metrics_of(values: torch.Tensor, chosen: np.ndarray) -> dict[str, float | None]:
        return _evaluate(values, split, regions, chosen=chosen, sampled_thresholds=sampled_thresholds)

    aggregate = metrics_of(maps.anomaly_map, everything)
    branches: dict[str, dict[str, float | None]] = {}
    for name, values in maps.branches.items():
        has = everything if maps.present is None else maps.present[name].cpu().numpy()
        branches[name] = metrics_of(values, has) if has.any() else dict.fromkeys(aggregate)
    return {"aggregate": aggregate, "branches": branches, "defect_types": _by_defect_type(maps, split, regions)}


def _evaluate(
    values: torch.Tensor,
    split: ResidentSplit,
    regions: Regions | None,
    *,
    chosen: np.ndarray,
    sampled_thresholds: bool = False,
) -> dict[str, float | None]:
    """Return the metrics of the samples that ``chosen`` (N,) marks."""
    masks, labels = split.masks, split.labels
    if not chosen.all():
        rows = torch.from_numpy(np.flatnonzero(chosen))
        values = values[rows.to(values.device)]
        masks = None if masks is None else masks[rows]
        labels = None if labels is None else labels[chosen]
        regions = None if regions is None else regions.of(chosen)
    return evaluate(values, masks, labels=labels, regions=regions, sampled_thresholds=sampled_thresholds)


def _by_defect_type(maps: Maps, split: ResidentSplit, regions: Regions | None) -> Mapping[str, Any]:
    if split.labels is None:
        return {}
    kinds = np.array([record.defect_type for record in split.records])
    result = {}
    for kind in sorted(set(kinds[split.labels == 1])):
        chosen = (split.labels == 0) | (kinds == kind)
        values = _evaluate(maps.anomaly_map, split, regions, chosen=chosen)
        result[str(kind)] = {key: values[key] for key in DEFECT_METRICS}
    return result
