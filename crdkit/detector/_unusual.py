"""Refuses sensors that are not what a detector was trained on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, get_args

from crdkit.data import Sensors
from crdkit.data.statistics import SensorStatistics, Summaries, compare, from_json, summarise
from crdkit.errors import ConfigError, DataError, UnusualDataWarning
from crdkit.views.split import LoadedSplit

Unusual = Literal["error", "warn", "ignore"]
"""What to do about a sensor that is not what the detector was trained on."""


class UsualSensors:
    """Compares samples with what a detector was trained on; without statistics everything is usual.

    Args:
        statistics: of the training and validation samples, as `crdkit.data.statistics.to_json` gives them.
    """

    def __init__(self, statistics: Mapping[str, Any]) -> None:
        self._saved = statistics
        self._unusual: Unusual = "error"

    @cached_property
    def _statistics(self) -> dict[str, SensorStatistics]:
        return from_json(self._saved)

    @property
    def unusual(self) -> Unusual:
        """What to do about an unusual sensor."""
        return self._unusual

    @unusual.setter
    def unusual(self, value: Unusual) -> None:
        if value not in get_args(Unusual):
            raise ConfigError(f"unusual (={value!r}) must be one of {', '.join(get_args(Unusual))}")
        self._unusual = value

    def check(self, sensors: Sensors, *, name: str = "") -> None:
        """Refuse one sample's raw sensors if they have another unit, dtype or number of channels.

        Raises:
            DataError: they do, and `unusual` is "error".

        Warns:
            UnusualDataWarning: they do, and `unusual` is "warn"; or they are odd, but not unusable.
        """
        if self._statistics and self._unusual != "ignore":
            self.check_summary(summarise(sensors), name=name)

    def check_summary(self, sample: Summaries, *, name: str = "") -> None:
        """As `check`, from what the sample's sensors hold; warnings start with ``name``."""
        if self._unusual == "ignore":
            return
        where = f"{name}: " if name else ""
        for oddity in compare(self._statistics, sample):
            message = f"sensor {oddity.sensor!r}: {oddity.message}"
            if oddity.severity == "error" and self._unusual == "error":
                raise DataError(f"{message}; convert it, or accept it with --unusual warn (detector.unusual = 'warn')")
            warnings.warn(f"{where}{message}", UnusualDataWarning, stacklevel=2)


class ComparesSensors:
    """The part of a detector that compares samples with what it was trained on."""

    _usual: UsualSensors

    @property
    def unusual(self) -> Unusual:
        """What predictions do about sensors of another unit, dtype or number of channels than in training.

        "error" refuses them, "warn" warns of them, "ignore" does not look. It can be set, and is not saved.
        """
        return self._usual.unusual

    @unusual.setter
    def unusual(self, value: Unusual) -> None:
        self._usual.unusual = value

    def require_usual(self, split: LoadedSplit) -> None:
        """Compare the sensors of a split with what the detector was trained on, as predictions do; see `unusual`.

        Raises:
            DataError: a sample has sensors of another unit, dtype or number of channels; the message names its files.
        """
        for record, summary in zip(split.records, split.summaries, strict=False):
            files = ", ".join(map(str, record.files.values()))
            try:
                self._usual.check_summary(summary.sensors, name=files)
            except DataError as error:
                raise DataError(f"{files}: {error}") from error
