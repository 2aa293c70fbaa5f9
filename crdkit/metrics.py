"""`crdkit.scoring.metrics`, `rates` and `intervals`, under the name that scripts import."""

from crdkit.scoring.intervals import Difference, compare, intervals
from crdkit.scoring.metrics import Regions, evaluate, label_regions, pro_curve, roc_curve
from crdkit.scoring.rates import ErrorRates, Rate, error_rates, recall_at

__all__ = [
    "Difference",
    "ErrorRates",
    "Rate",
    "Regions",
    "compare",
    "error_rates",
    "evaluate",
    "intervals",
    "label_regions",
    "pro_curve",
    "recall_at",
    "roc_curve",
]
