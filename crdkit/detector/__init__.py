"""A trained detector: saved, loaded, used for predictions."""

from crdkit.detector._samples import PreparedSample
from crdkit.detector._saved import detector_folder, read_config
from crdkit.detector._unusual import Unusual
from crdkit.detector.detector import Detector
from crdkit.detector.prediction import Prediction
from crdkit.scoring.regions import Region

__all__ = ["Detector", "Prediction", "PreparedSample", "Region", "Unusual", "detector_folder", "read_config"]
