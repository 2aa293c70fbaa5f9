"""What an import is unsure of, and what its user says about it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from crdkit.errors import ConfigError, unknown_name

SETTINGS = ("drop", "keep", "mask", "name:NEW", "unit:mm")
NO_UNIT = "none"
_METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001, "um": 1e-6, "µm": 1e-6, "μm": 1e-6, "in": 0.0254}
_LENGTH = re.compile(rf"(\d+(?:\.\d+)?)?\s*({'|'.join(_METRES)})")


class Question(NamedTuple):
    """Something that the names and headers of files do not settle.

    Examples:
        >>> Question("thermal", "uint16, and its unit is not known", "--sensor thermal=unit:K").line
        'thermal: uint16, and its unit is not known (--sensor thermal=unit:K)'
    """

    about: str
    message: str
    option: str = ""
    """That settles it."""
    stops: bool = False
    """Whether nothing can be written before that."""

    @property
    def line(self) -> str:
        """The question in one line."""
        return f"{self.about}: {self.message}" + (f" ({self.option})" if self.option else "")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the user says about a folder.

    Examples:
        >>> Answers.of(["thermal=unit:K", "page2=name:depth", "page2=unit:mm"]).unit("depth", "page2")
        'mm'
    """

    sensor_names: Sequence[str] = ()
    """Words in names of folders and files that name sensors; of stacked files, the sensors in order."""
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By sensor: drop, keep, mask, name or unit, with its value."""
    good: Sequence[str] = ()
    """Words for good parts."""
    defect: Sequence[str] = ()
    """Words for defective parts."""
    masks: Sequence[str] = ()
    """Words for masks."""
    key: int | None = None
    """Which part of what is left of a name is the sample's, counted from 1; None to find out."""
    keep_incomplete: bool = False
    """Whether samples that lack a sensor are listed."""
    test_share: float = 0.2
    """Share of the good samples that is held out for the test, if no folder says which are."""

    @classmethod
    def of(cls, sensors: Sequence[str], **others: object) -> Answers:
        """Return answers with settings as the command line has them, ``NAME=SETTING``.

        Raises:
            ConfigError: one is no setting.
        """
        settings: dict[str, dict[str, str]] = {}
        for text in sensors:
            name, equals, setting = text.partition("=")
            key, _, value = setting.partition(":")
            if not name or not equals or (key in ("name", "unit")) != bool(value):
                raise ConfigError(f"--sensor {text!r}: expected NAME=SETTING, a setting of {', '.join(SETTINGS)}")
            if key not in ("drop", "keep", "mask", "name", "unit"):
                raise ConfigError(f"--sensor {text!r}: {unknown_name('setting', key, SETTINGS)}")
            if key == "name" and not re.fullmatch(r"\w[\w-]*", value):
                raise ConfigError(f"--sensor {text!r}: a sensor's name consists of letters, digits, _ and -")
            settings.setdefault(name, {})[key] = value
        return cls(settings=settings, **others)  # type: ignore[arg-type]

    def name(self, sensor: str) -> str:
        """Return how a sensor shall be called."""
        return self.settings.get(sensor, {}).get("name", sensor)

    def says(self, setting: str, *names: str) -> bool:
        """Whether a sensor, under one of its names, has a setting."""
        return any(setting in self.settings.get(name, {}) for name in names)

    def unit(self, *names: str) -> str | None:
        """Return the unit that is said of a sensor; None if none is."""
        return next((self.settings[name]["unit"] for name in names if self.says("unit", name)), None)


def metres(unit: str | None) -> float | None:
    """Return how many metres a unit of length is; None for any other unit.

    Examples:
        >>> metres("mm"), metres("0.1mm"), metres("K")
        (0.001, 0.0001, None)
    """
    match = _LENGTH.fullmatch(unit or "")
    return None if match is None else float(f"{float(match[1] or 1) * _METRES[match[2]]:.6g}")
