"""One sample from its files to what the journal says of it: a decision, or why there is none."""

from __future__ import annotations

import time
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from crdkit.data import Sensors
from crdkit.data.parts import FilePart
from crdkit.data.statistics import from_json, summarise
from crdkit.detector import Detector, Prediction
from crdkit.errors import CrdkitError, DataError, UnusualDataWarning
from crdkit.watch._arrivals import Due
from crdkit.watch._journal import Event
from crdkit.watch._ledger import Files
from crdkit.watch._pictures import Pictures
from crdkit.watch.drift import Calibration, numbers


def calibration_of(detector: Detector) -> Calibration:
    """Return what a detector keeps of its calibration and training, for `crdkit.watch.drift`."""
    sensors = from_json(detector.sensor_statistics)
    thresholds = detector.thresholds
    if thresholds is None or not thresholds.images:
        return Calibration(normals=(), threshold=None, rate=None, sensors=sensors)
    image = thresholds.images[thresholds.complete]
    normals = thresholds.scores[thresholds.complete].values
    return Calibration(normals=normals, threshold=image.value, rate=image.rate, sensors=sensors)


class Decider:
    """Decides samples of a folder.

    Args:
        detector: to score with.
        folder: that their files lie in.
        pictures: where a picture of each goes.
        parts: what sensors take of files that hold several.
    """

    def __init__(
        self, detector: Detector, folder: Path, pictures: Pictures, *, parts: Mapping[str, FilePart] | None = None
    ) -> None:
        self._detector, self._folder, self._pictures, self._parts = detector, folder, pictures, parts or {}
        self._last: tuple[int, Sensors, Prediction] | None = None

    def identity(self) -> dict[str, Any]:
        """Return what tells detectors apart, as far as decisions depend on it."""
        thresholds, calibration = self._detector.thresholds, calibration_of(self._detector)
        return {
            "sensors": list(self._detector.sensors),
            "modalities": list(self._detector.views),
            "threshold": calibration.threshold,
            "false_alarms": calibration.rate,
            "normals": "" if thresholds is None else thresholds.sha256,
        }

    def can_do_with(self, sensors: Collection[str]) -> bool:
        """Whether the detector can decide from these sensors."""
        try:
            self._detector.require_sensors(sensors)
        except DataError:
            return False
        return True

    def __call__(self, due: Due, *, number: int) -> Event | None:
        """Return the event of a sample; None if its files have changed meanwhile.

        Args:
            due: the sample.
            number: of the decision, counted from 0.
        """
        began = time.monotonic()
        about = {"sample": due.sample, "files": due.files}
        files = {
            sensor: f"{self._folder / file.path}{self._parts.get(sensor, '')}" for sensor, file in due.files.items()
        }
        odd: list[str] = []
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UnusualDataWarning)
                sensors = self._detector.register(self._detector.read(files))
                found = self._detector.predict(sensors)
        except CrdkitError as error:
            return {"event": "unreadable", **about, "detail": str(error)} if self._is_unchanged(due.files) else None
        for warning in caught:
            if issubclass(warning.category, UnusualDataWarning):
                odd.append(str(warning.message))
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        if not self._is_unchanged(due.files):
            return None
        self._last = number, sensors, found
        return {
            "event": "decided",
            **about,
            "number": number,
            **found.to_dict(maps=False),
            "image_path": next(iter(due.files.values())).path,
            "missing_sensors": [sensor for sensor in self._detector.sensors if sensor not in due.files],
            "odd": odd,
            "sensors": {sensor: numbers(summary) for sensor, summary in summarise(sensors).items()},
            "seconds": round(time.monotonic() - began, 4),
        }

    def draw(self) -> None:
        """Keep a picture of the sample that was decided last, which is not in the way of its decision.

        Raises:
            CrdkitError: it cannot be written.
        """
        if self._last is not None:
            self._pictures.add(*self._last)
        self._last = None

    def _is_unchanged(self, files: Files) -> bool:
        for file in files.values():
            try:
                state = (self._folder / file.path).stat()
            except OSError:
                return False
            if (state.st_size, state.st_mtime_ns) != (file.size, file.modified):
                return False
        return True
