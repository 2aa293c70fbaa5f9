"""The part of a detector that reads sensors as its training did, and brings them onto one grid."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from crdkit.data import Sensors
from crdkit.detector._inputs import SensorData, require_mapping
from crdkit.detector._samples import Preparation


class ReadsSensors:
    """Reads and registers sensors."""

    _preparation: Preparation

    @property
    def sensors(self) -> tuple[str, ...]:
        """Sorted names of the raw sensors that `predict` needs or can use."""
        return self._preparation.sensors

    def read(self, files: Mapping[str, Path | str]) -> dict[str, np.ndarray]:
        """Read one sample's files as the detector's data set does: with its ``data.scale`` and ``data.invalid``.

        Args:
            files: by sensor name; those that `predict` can do without may be left out.

        Returns:
            The arrays that `predict` takes: not registered yet.

        Raises:
            DataError: a file is missing or cannot be read; the message starts with the sensor.
            UnknownNameError: the detector has no such sensor.
        """
        return self._preparation.read(files)

    def register(self, sensors: Mapping[str, SensorData]) -> Sensors:
        """Return one sample's sensors as arrays on one grid, by the ``data.registration`` of the training.

        `predict` does this itself; its maps have the pixels of what is returned here, which it takes too.

        Args:
            sensors: as for `predict`.

        Raises:
            DataError: a sensor cannot be read or moved.
        """
        require_mapping(sensors)
        return self._preparation.register(sensors)

    def require_sensors(self, sensors: Collection[str], *, where: str = "") -> None:
        """Refuse samples that have only the named sensors if predictions need others.

        Raises:
            DataError: the detector needs the others, or no modality is left; the message starts with ``where``.
        """
        self._preparation.require_sensors(sensors, where=where)
