"""From features to maps, from maps to scores, and the metrics of both."""

from crdkit.scoring.config import ScoringConfig
from crdkit.scoring.scorer import Maps, Scorer

__all__ = ["Maps", "Scorer", "ScoringConfig"]
