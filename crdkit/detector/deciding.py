"""Thresholds of a saved detector: set from a folder of normal samples, and written in its place."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from crdkit._core.locks import hold
from crdkit.data import RawSample
from crdkit.data.decode import decode
from crdkit.detector._decide import Decided
from crdkit.detector._samples import PreparedSample
from crdkit.detector._saved import detector_folder, read_header, write_thresholds
from crdkit.detector._unusual import Unusual
from crdkit.detector.detector import Detector
from crdkit.detector.files import Inputs, load_detector, open_folder
from crdkit.errors import DataError


def decide_saved(
    folder: Path | str,
    *,
    false_alarms: float = 0.01,
    normals: Path | None = None,
    extrapolate: bool = False,
    add: bool = False,
    unusual: Unusual = "error",
    allow_plugins: bool = False,
) -> Decided:
    """Set the thresholds of a run's detector, or of a saved one, as `Detector.decide` does, and save them.

    Only the detector's config.json is replaced, at once; no other process may write into the folder meanwhile.

    Args:
        folder: of the run or the detector.
        false_alarms: wanted rate, above 0 and at most 0.5.
        normals: folder of normal samples that were neither trained nor calibrated on, as `open_folder` takes it; None:
            those that the detector has kept.
        extrapolate: take a threshold from an exponential tail where the rate is not supported.
        add: add ``normals`` to the kept ones, instead of replacing those.
        unusual: what to do about sensors that are not what the detector was trained on.
        allow_plugins: import and run the code that the detector names.

    Raises:
        DataError: a normal sample cannot be used, or a sample in the folder is defective.
        CrdkitError: the folder holds no detector, is being written, or cannot be written.
    """
    place = detector_folder(folder)
    read_header(place / "config.json")  # it is there: nothing is created
    with hold(_locked(place)):
        detector = load_detector(folder, allow_plugins=allow_plugins)
        detector.unusual = unusual
        if normals is None:
            decided = detector.decide(false_alarms, extrapolate=extrapolate)
        else:
            detector.to(detector.config.training.device)
            inputs = open_folder(detector, normals)
            _require_normal(inputs, normals)
            with closing(_prepared(detector, inputs)) as samples:
                decided = detector.decide(false_alarms, samples, extrapolate, add=add)
        write_thresholds(place, decided.thresholds)
    return decided


def _locked(place: Path) -> Path:
    """Return the folder whose lock says who writes to a detector: that of its run, if it is in one."""
    run = place.resolve().parent
    return run if place.name == "detector" and (run / "config.yaml").is_file() else place


def _require_normal(inputs: Inputs, folder: Path) -> None:
    defective = [record for record in inputs.records if record.label == 1]
    if defective:
        raise DataError(
            f"{folder}: {len(defective)} of {len(inputs.records)} samples are defective (first: "
            f"{inputs.path(defective[0])}); thresholds are set from normal samples: give a folder of good parts only"
        )


def _prepared(detector: Detector, inputs: Inputs) -> Generator[PreparedSample, None, None]:
    """Yield all samples; they are read ahead."""

    def build(sample: RawSample) -> PreparedSample:
        return detector.prepare(sample.sensors, name=inputs.path(sample.record))

    known = {sensor for record in inputs.records for sensor in record.files}
    sensors = [sensor for sensor in detector.sensors if sensor in known]
    decoded = decode(inputs.dataset, inputs.records, build, sensors=sensors, description="scoring normal samples")
    with closing(decoded):
        for _, sample in decoded:
            yield sample
