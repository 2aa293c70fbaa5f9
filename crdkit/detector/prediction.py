"""What a detector predicts for one sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Result of one sample, as numpy arrays of the input's height and width.

    Examples:
        >>> maps = {"rgb": np.zeros((4, 6), np.float32), "depth": np.ones((4, 6), np.float32)}
        >>> found = Prediction(anomaly_map=sum(maps.values()), score=1.0, maps=maps, scores={"rgb": 0.0, "depth": 1.0})
        >>> found.anomaly_map.shape, max(found.scores, key=found.scores.get)
        ((4, 6), 'depth')
        >>> sorted(found.to_dict())
        ['anomaly_map', 'maps', 'missing', 'p_value', 'pred_label', 'pred_score', 'pred_scores', 'threshold']
    """

    anomaly_map: np.ndarray
    """(H, W) float32: fused and smoothed."""
    score: float
    """The image's anomaly score: the maximum of the fused map at the detector's own resolution."""
    maps: dict[str, np.ndarray]
    """By modality, (H, W) float32: smoothed, not normalised."""
    scores: dict[str, float] = field(default_factory=dict)
    """By modality: the maximum of its map at the detector's own resolution."""
    missing: tuple[str, ...] = ()
    """Modalities without a sensor; they have no map, and the others make up the fused one."""
    threshold: float | None = None
    """The highest score of the detector's held-out normal samples; None if it has none, or if a modality is missing."""
    p_value: float | None = None
    """Share of normal samples that score as high or higher (`crdkit.scoring.normal_scores`); None as ``threshold``."""

    @property
    def label(self) -> bool | None:
        """Whether the score is above the threshold: the sample is anomalous. None without a threshold."""
        return None if self.threshold is None else self.score > self.threshold

    def to_dict(self) -> dict[str, Any]:
        """Return the fields under anomalib's names where one exists."""
        return {
            "anomaly_map": self.anomaly_map,
            "pred_score": self.score,
            "pred_label": self.label,
            "threshold": self.threshold,
            "p_value": self.p_value,
            "maps": self.maps,
            "pred_scores": self.scores,
            "missing": self.missing,
        }
