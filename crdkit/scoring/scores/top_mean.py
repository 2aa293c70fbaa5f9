"""The mean of the largest values of the anomaly map."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from crdkit.scoring.levels import top_mean
from crdkit.scoring.scores import FusedMaps, ImageScore, ScoreConfig, scores


class TopMeanConfig(ScoreConfig):
    """Options of the top mean."""

    name: Literal["top_mean"] = "top_mean"
    share: float = Field(0.01, gt=0, le=1, description="of the pixels: the largest values that are averaged")
    over: Literal["object", "all"] = Field(
        "all", description="which pixels: those of the object, where a view shows it, or all"
    )


@scores.register("top_mean")
class TopMean(ImageScore):
    """The mean of the largest values of the smoothed map: large defects count more than with the maximum.

    Examples:
        >>> maps = torch.tensor([[[0.0, 2.0], [1.0, 0.0]]])
        >>> TopMean(TopMeanConfig(share=0.5), sigma=4, size=2)(FusedMaps(raw=maps, smoothed=maps))
        tensor([1.5000])
    """

    Config = TopMeanConfig
    config: TopMeanConfig

    @property
    def uses_foreground(self) -> bool:
        """Whether the object's pixels count alone."""
        return self.config.over == "object"

    def forward(self, maps: FusedMaps) -> torch.Tensor:
        """Return the (B,) means."""
        inside = maps.foreground if self.uses_foreground else None
        return top_mean(maps.smoothed, inside, share=self.config.share)
