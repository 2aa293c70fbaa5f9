"""What a detector is given: the sensors of one sample, checked, as the views that its modalities see."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from crdkit.config.build import build_views
from crdkit.config.run_config import RunConfig
from crdkit.data import Sensors
from crdkit.data.registration import RegisteredSensors
from crdkit.data.sensors import check_sensors, without_blank
from crdkit.detector._inputs import SensorData, first_file, read_files, require_mapping, to_arrays
from crdkit.detector._unusual import UsualSensors
from crdkit.errors import DataError
from crdkit.views.split import view_sample, visible


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedSample:
    """One sample as the detector's modalities see it."""

    height: int
    width: int
    """Of the raw sensors."""
    views: Mapping[str, torch.Tensor]
    """By modality, if it has its sensors, (C, S, S) float32 in [0, 1]."""
    missing: tuple[str, ...]
    """Modalities that lack a sensor."""
    name: str = ""
    """What messages call it, if it has a name."""
    image_path: str | None = None
    """The first of its files, if it was given as such."""


class Preparation:
    """Turns raw sensors into views, in any thread.

    Args:
        config: the run that made the detector.
        usual: compares samples with what the detector was trained on.
    """

    def __init__(self, config: RunConfig, usual: UsualSensors) -> None:
        self.config = config
        self._registration = config.data.registration
        as_delivered = config.data.model_copy(update={"registration": None})
        self._reading = config.model_copy(update={"data": as_delivered})
        self.views = build_views(config)
        self.usual = usual
        self.size = config.data.image_size
        self._spares = config.training.modality_dropout > 0
        self._drops_blank = config.data.on_blank_sensor == "missing"

    @property
    def sensors(self) -> tuple[str, ...]:
        """Sorted names of the raw sensors that a view reads."""
        return tuple(sorted({sensor for view in self.views.values() for sensor in view.sensors}))

    def read(self, files: Mapping[str, Path | str]) -> dict[str, np.ndarray]:
        """Return one sample's sensors as the data set of the detector reads them from files.

        Raises:
            DataError: see `Detector.read`.
            UnknownNameError: see `Detector.read`.
        """
        return read_files(files, self._reading, known=self.sensors)

    def register(self, sensors: Mapping[str, SensorData]) -> Sensors:
        """Return those of one sample's sensors that a view reads as arrays, on one grid.

        Raises:
            DataError: see `Detector.register`.
        """
        arrays = to_arrays(sensors, self._reading, wanted=self.sensors)
        if self._registration is None or isinstance(sensors, RegisteredSensors):
            return RegisteredSensors(arrays)
        return self._registration.bring(arrays)[0]

    def measure(self, sensors: Mapping[str, SensorData], *, name: str = "") -> tuple[tuple[str, ...], Sensors]:
        """Return the modalities that lack a sensor, and the checked arrays of those that are there.

        Args:
            sensors: raw measurements by sensor name.
            name: what warnings call the sample.

        Raises:
            DataError: see `Detector.predict`.

        Warns:
            UnusualDataWarning: see `UsualSensors.check`.
        """
        require_mapping(sensors)
        self.require_sensors(sensors)
        measured = check_sensors(self.register(sensors))
        if self._drops_blank:
            measured = without_blank(measured)
            self.require_sensors(measured)
        self.usual.check(measured, name=name)
        seen = visible(self.views, measured)
        return tuple(modality for modality in self.views if modality not in seen), measured

    def __call__(self, sensors: Mapping[str, SensorData], *, name: str = "") -> PreparedSample:
        """Return the views of one sample; ``name`` is what later messages call it.

        Raises:
            DataError: see `Detector.predict`.
        """
        missing, measured = self.measure(sensors, name=name)
        height, width = size_of(measured)
        views = view_sample(self.views, measured, image_size=self.size)
        return PreparedSample(
            height=height, width=width, views=views, missing=missing, name=name, image_path=first_file(sensors)
        )

    def require_sensors(self, sensors: Collection[str], *, where: str = "") -> None:
        """Refuse samples that have only the named sensors if predictions need others.

        Raises:
            DataError: the detector needs the others, or no modality is left; the message starts with ``where``.
        """
        absent = [name for name in self.sensors if name not in sensors]
        if not absent or (self._spares and visible(self.views, sensors)):
            return
        hint = (
            "every modality lacks one of its sensors"
            if self._spares
            else "train with training.modality_dropout > 0 to do without one"
        )
        raise DataError(
            f"{where}sensor {', '.join(map(repr, absent))} is missing: this detector needs "
            f"{list(self.sensors)}, got {sorted(map(str, sensors))}; {hint}"
        )


def size_of(measured: Sensors) -> tuple[int, int]:
    """Return the height and width that all sensors of a sample have."""
    height, width = next(iter(measured.values())).shape[:2]
    return height, width
