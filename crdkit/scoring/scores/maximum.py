"""The largest value of the anomaly map, as published."""

from __future__ import annotations

import torch

from crdkit.scoring.maps import anomaly_score
from crdkit.scoring.scores import FusedMaps, ImageScore, ScoreConfig, scores


@scores.register("maximum")
class Maximum(ImageScore):
    """The largest value of the smoothed map (CRD section 4.4).

    Examples:
        >>> maps = torch.tensor([[[0.0, 2.0], [1.0, 0.0]]])
        >>> Maximum(Maximum.Config(), sigma=4, size=2)(FusedMaps(raw=maps, smoothed=maps))
        tensor([2.])
    """

    class Config(ScoreConfig):
        """Has no options."""

        name: str = "maximum"

    def forward(self, maps: FusedMaps) -> torch.Tensor:
        """Return the (B,) maxima."""
        return anomaly_score(maps.smoothed)
