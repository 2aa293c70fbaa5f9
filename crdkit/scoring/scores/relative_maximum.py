"""The largest value of the anomaly map, relative to the level of the whole map."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from crdkit.scoring.levels import floor_of, mean_level
from crdkit.scoring.maps import anomaly_score
from crdkit.scoring.scores import FusedMaps, ImageScore, ScoreConfig, scores


class RelativeMaximumConfig(ScoreConfig):
    """Options of the relative maximum."""

    name: Literal["relative_maximum"] = "relative_maximum"
    power: float = Field(0.5, ge=0, le=1, description="of the map's mean that the maximum is divided by; 0: not at all")
    over: Literal["object", "all"] = Field(
        "object", description="which pixels the mean is of: the object's, where a view shows it, or all"
    )


@scores.register("relative_maximum")
class RelativeMaximum(ImageScore):
    """The largest value of the smoothed map over a power of the unsmoothed map's mean, in units of normal samples.

    A normal sample whose whole map is high, such as one of another batch of material, does not stand out by that; but
    neither does a defect that covers most of the object. The mean is relative to that of normal samples, so that
    scores are of the size of the maximum. Maps are counted from 0, or from the smallest normal value below it.

    Examples:
        >>> part = RelativeMaximum(RelativeMaximumConfig(), sigma=4, size=2)
        >>> maps = torch.tensor([[[1.0, 2.0], [1.0, 0.0]]])
        >>> part.calibrate(FusedMaps(raw=maps, smoothed=maps))
        >>> part(FusedMaps(raw=4 * maps, smoothed=4 * maps))  # four times as high everywhere
        tensor([4.])
    """

    Config = RelativeMaximumConfig
    config: RelativeMaximumConfig
    floor: torch.Tensor
    level: torch.Tensor

    def __init__(self, config: RelativeMaximumConfig, *, sigma: float, size: int) -> None:
        super().__init__(config, sigma=sigma, size=size)
        self.register_buffer("floor", torch.zeros(()))
        self.register_buffer("level", torch.ones(()))

    @property
    def uses_foreground(self) -> bool:
        """Whether the object's pixels count alone."""
        return self.config.over == "object"

    def _mean(self, maps: FusedMaps) -> torch.Tensor:
        return mean_level(maps.raw, maps.foreground if self.uses_foreground else None, floor=self.floor)

    def calibrate(self, normals: FusedMaps) -> None:
        """Learn the level of the maps of anomaly-free samples."""
        self.floor.copy_(floor_of(normals.raw))
        self.level.copy_(self._mean(normals).mean())

    def forward(self, maps: FusedMaps) -> torch.Tensor:
        """Return the (B,) relative maxima."""
        above = anomaly_score(maps.smoothed) - self.floor
        return above / (self._mean(maps) / self.level) ** self.config.power
