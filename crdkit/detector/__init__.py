"""A trained detector: saved, loaded, used for predictions."""

from crdkit.detector._decide import Decided
from crdkit.detector._explaining import WhenAttributed
from crdkit.detector._samples import PreparedSample
from crdkit.detector._saved import detector_folder, read_config, read_thresholds
from crdkit.detector._unusual import Unusual
from crdkit.detector.detector import Detector
from crdkit.detector.prediction import Prediction
from crdkit.scoring.regions import Region

__all__ = [
    "Decided",
    "Detector",
    "Prediction",
    "PreparedSample",
    "Region",
    "Unusual",
    "WhenAttributed",
    "detector_folder",
    "read_config",
    "read_thresholds",
]
