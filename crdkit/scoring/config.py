"""Options of everything after the features: smoothing, image score, measurements."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from crdkit._core.registry import StrictConfig
from crdkit.scoring.scores import ScoreConfig, scores


class ScoringConfig(StrictConfig):
    """How maps become a score, and what is measured on them besides the exact metrics."""

    sigma: float = Field(4.0, ge=0, le=1000, description="standard deviation of the smoothing, in pixels of the map")
    score: Annotated[ScoreConfig, scores] = Field(
        default_factory=lambda: scores.build_config("maximum"), description="how a map becomes an image's score"
    )
    false_alarms: float = Field(0.01, gt=0, le=0.5, description="rate of false alarms that `fit` sets thresholds for")
    sampled_thresholds: bool = Field(
        False, description="measure AU-PRO with 100 thresholds too (aupro100t_*), as some published numbers are"
    )
