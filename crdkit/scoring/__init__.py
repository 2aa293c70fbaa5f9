"""From features to maps, from maps to scores, and the metrics of both."""

from crdkit.scoring.scorer import Maps, Scorer, ScoringConfig

__all__ = ["Maps", "Scorer", "ScoringConfig"]
