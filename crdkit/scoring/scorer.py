"""From a CRD's features to anomaly maps and scores: the branches' maps, calibrated, fused and smoothed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import nn

from crdkit._core.branches import BranchMap, by_branch
from crdkit._core.registry import StrictConfig
from crdkit.model.layers import Presence
from crdkit.scoring.aggregations import Aggregation
from crdkit.scoring.maps import GaussianSmoothing, anomaly_map, anomaly_score


class ScoringConfig(StrictConfig):
    """How maps become a score, and what is measured on them besides the exact metrics."""

    sigma: float = Field(4.0, ge=0, le=1000, description="standard deviation of the smoothing, in pixels of the map")
    sampled_thresholds: bool = Field(
        False, description="measure AU-PRO with 100 thresholds too (aupro100t_*), as some published numbers are"
    )


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Anomaly maps and scores of a batch or a split."""

    anomaly_map: torch.Tensor
    """(B, S, S) float32: fused, then smoothed."""
    pred_score: torch.Tensor
    """(B,) float32: the maximum of each ``anomaly_map``."""
    branches: dict[str, torch.Tensor]
    """By modality, (B, S, S) float32: smoothed, not normalised."""
    present: Presence | None = None
    """Which samples have each modality, (B,) bool; None: all. The branch's map of a missing one is zeros."""


class Scorer(nn.Module):
    """Turns features into maps and scores: calibrated aggregation, then smoothing (CRD section 4.4).

    Args:
        aggregation: fuses the branches' maps.
        sigma: of the smoothing, pixels.
        size: side of the maps, pixels.
    """

    def __init__(self, aggregation: Aggregation, *, sigma: float, size: int) -> None:
        super().__init__()
        self.size = size
        self.aggregation = aggregation
        self.smoothing = GaussianSmoothing(sigma, size=size)

    @property
    def device(self) -> torch.device:
        """The device that maps are scored on."""
        return self.aggregation.mean.device

    def raw_maps(
        self,
        teacher: Mapping[str, Sequence[torch.Tensor]],
        output: Mapping[str, Sequence[torch.Tensor]],
        *,
        each_branch: BranchMap = map,
    ) -> dict[str, torch.Tensor]:
        """Return every branch's unsmoothed (B, S, S) map: teacher against output, levels (B, C, H, W) by modality."""
        return by_branch(each_branch, lambda name: anomaly_map(teacher[name], output[name], size=self.size), teacher)

    def forward(
        self, raw: Mapping[str, torch.Tensor], present: Presence | None = None, *, each_branch: BranchMap = map
    ) -> Maps:
        """Return the fused and the branches' maps, and the scores; for missing modalities see `Aggregation.fuse`.

        Args:
            raw: of `raw_maps`.
            present: which samples have each modality; None: all.
            each_branch: runs a function for each branch, as `map` does.
        """
        if present is not None:
            raw = {name: maps * present[name][:, None, None] for name, maps in raw.items()}
        branches = by_branch(each_branch, lambda name: self.smoothing(raw[name]), raw)
        fused = self.smoothing(self.aggregation.fuse(raw, present))
        return Maps(anomaly_map=fused, pred_score=anomaly_score(fused), branches=branches, present=present)
