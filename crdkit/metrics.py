"""`crdkit.scoring.metrics`, under the name that scripts import."""

from crdkit.scoring.metrics import Regions, evaluate, label_regions, pro_curve, roc_curve

__all__ = ["Regions", "evaluate", "label_regions", "pro_curve", "roc_curve"]
