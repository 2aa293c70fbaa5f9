"""From a CRD's features to anomaly maps and scores: the branches' maps, calibrated, fused and smoothed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from crdkit._core.branches import BranchMap, by_branch
from crdkit.model.layers import Presence
from crdkit.scoring.aggregations import Aggregation
from crdkit.scoring.maps import GaussianSmoothing, anomaly_map
from crdkit.scoring.scores import FusedMaps, ImageScore


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Anomaly maps and scores of a batch or a split."""

    anomaly_map: torch.Tensor
    """(B, S, S) float32: fused, then smoothed."""
    pred_score: torch.Tensor
    """(B,) float32: the image scores."""
    branches: dict[str, torch.Tensor]
    """By modality, (B, S, S) float32: smoothed, not normalised."""
    present: Presence | None = None
    """Which samples have each modality, (B,) bool; None: all. The branch's map of a missing one is zeros."""


class Scorer(nn.Module):
    """Turns features into maps and scores: calibrated aggregation, smoothing, image score (CRD section 4.4)."""

    def __init__(self, aggregation: Aggregation, score: ImageScore) -> None:
        super().__init__()
        self.size = score.size
        self.aggregation = aggregation
        self.smoothing = GaussianSmoothing(score.sigma, size=score.size)
        self.score = score

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

    def calibrate(self, raw: Mapping[str, torch.Tensor], foreground: torch.Tensor | None = None) -> None:
        """Let aggregation and score learn from the `raw_maps` of anomaly-free samples that lack nothing."""
        self.aggregation.calibrate(raw)
        fused = self.aggregation.fuse(raw)
        self.score.calibrate(FusedMaps(raw=fused, smoothed=self.smoothing(fused), foreground=foreground))

    def forward(
        self,
        raw: Mapping[str, torch.Tensor],
        present: Presence | None = None,
        *,
        foreground: torch.Tensor | None = None,
        each_branch: BranchMap = map,
    ) -> Maps:
        """Return the fused and the branches' maps, and the scores; for missing modalities see `Aggregation.fuse`.

        Args:
            raw: of `raw_maps`.
            present: which samples have each modality; None: all.
            foreground: (B, S, S) bool, where the object is; None: not known.
            each_branch: runs a function for each branch, as `map` does.
        """
        if present is not None:
            raw = {name: maps * present[name][:, None, None] for name, maps in raw.items()}
        branches = by_branch(each_branch, lambda name: self.smoothing(raw[name]), raw)
        fused = self.aggregation.fuse(raw, present)
        maps = FusedMaps(raw=fused, smoothed=self.smoothing(fused), foreground=foreground)
        return Maps(anomaly_map=maps.smoothed, pred_score=self.score(maps), branches=branches, present=present)
