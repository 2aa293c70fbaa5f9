"""What sensors hold in a few numbers: of one sample, of all that a detector was trained on, and how the two differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from crdkit.data import RawSample
from crdkit.data.invalid import fill_value
from crdkit.data.orientation import UPRIGHT, read_orientation

_SAMPLED = 1024  # pixels that are looked at
_TAIL = 0.05  # share of the values left out at either end
_MIN_REPEATED = 3  # looked-at pixels of one value from which on it may stand for "not measured"
_OTHER_UNIT = 4.0  # times beyond all training samples, from which on values have another unit
_OTHER_EXPOSURE = 8.0  # the same for integers, whose values follow the light
_OTHER_SPREAD = 10.0  # times the widest spread of a training sample
_FEW_MEASURED = 0.25  # of the lowest share of measured pixels in training
_MIN_COLOURS = 5  # training samples from which on the order of the channels can be judged
_MIN_COLOUR_DISTANCE = 0.1  # of the brightness, by which the channels then differ from those in training
_MIN_DEVIATIONS = 6.0  # the same in standard deviations over the training samples


@dataclass(frozen=True, kw_only=True)
class SensorSummary:
    """One sample's array of one sensor in a few numbers, from a thousand of its pixels.

    Examples:
        >>> millimetres = summarise({"depth": np.full((8, 8), 700.0)})["depth"]
        >>> millimetres.kind, millimetres.channels, millimetres.magnitude
        ('float', 1, 700.0)
    """

    kind: str
    """``float``, or the name of the dtype."""
    channels: int
    """1 for (H, W)."""
    measured: float
    """Share of the pixels that are finite and, if they are floats, not 0; in a scan Z decides."""
    low: float
    high: float
    """Between which 90 % of the measured values lie."""
    magnitude: float
    """Below which 95 % of the pixels lie, each with its channel of the largest absolute value."""
    means: tuple[float, ...]
    """Of each channel."""
    pitch: float | None = None
    """Median distance of neighbouring points of a scan along the axis on which they differ most, in its unit."""
    fill: float | None = None
    """A value that seems to stand for "not measured", see `crdkit.data.invalid.fill_value`."""
    orientation: int = UPRIGHT
    """Tag of its file, see `crdkit.data.orientation`."""
    usual: tuple[float, float] | None = None
    """``low`` and ``high`` of a sensor with one channel, without what seems to stand for "not measured": ``fill``, and
    zeros of integers that are far from the rest."""

    @property
    def limits(self) -> tuple[float, float]:
        """Between which 90 % of the values lie that seem to be measured."""
        return (self.low, self.high) if self.usual is None else self.usual


@dataclass(frozen=True, kw_only=True)
class Oddity:
    """How a sample's sensor differs from those that a detector was trained on.

    Examples:
        >>> oddity = Oddity(severity="error", sensor="depth", message="values of 650 to 720, in training 0.65 to 0.72")
        >>> f"sensor {oddity.sensor!r}: {oddity.message}"
        "sensor 'depth': values of 650 to 720, in training 0.65 to 0.72"
    """

    severity: Literal["error", "warning"]
    sensor: str
    message: str


@dataclass(frozen=True, kw_only=True)
class SensorStatistics:
    """One sensor of all training and validation samples: the lowest and the highest of what `SensorSummary` holds.

    Examples:
        >>> metres, millimetres = (summarise({"depth": np.full((8, 8), depth)})["depth"] for depth in (0.7, 700.0))
        >>> trained = merge([{"depth": metres}])["depth"]
        >>> [oddity.severity for oddity in trained.compare("depth", millimetres)]
        ['error']
    """

    samples: int
    kinds: tuple[str, ...]
    channels: tuple[int, ...]
    measured: float
    """The lowest share of measured pixels."""
    low: float
    high: float
    spread: tuple[float, float]
    """Lowest and highest of ``high - low``."""
    magnitude: tuple[float, float]
    colour: tuple[float, ...] | None
    """Each channel's mean relative to that of all channels, minus 1, averaged over the samples; None if their number
    differs. Light changes all channels alike, so this tells their order."""
    colour_spread: float
    """Standard deviation of that over the samples, of the channel in which it is largest."""

    def compare(self, sensor: str, found: SensorSummary) -> Iterator[Oddity]:
        """Yield how a sample differs from the training samples: errors first, warnings only if there are none."""
        if not found.measured:  # its views refuse it
            return
        errors = list(self._different_kind(found)) or list(self._different_unit(found))
        for message in errors:
            yield Oddity(severity="error", sensor=sensor, message=message)
        for message in () if errors else self._mild(found):
            yield Oddity(severity="warning", sensor=sensor, message=message)

    def _different_kind(self, found: SensorSummary) -> Iterator[str]:
        if found.kind not in self.kinds:
            yield f"{found.kind} values, but the detector was trained on {' and '.join(self.kinds)}"
        if found.channels not in self.channels:
            trained = " and ".join(map(str, self.channels))
            yield f"{found.channels} channels, but the detector was trained on {trained}"

    def _different_unit(self, found: SensorSummary) -> Iterator[str]:
        floats = found.kind == "float"
        larger = found.magnitude / max(self.magnitude[1], 1e-300)
        smaller = self.magnitude[0] / max(found.magnitude, 1e-300)
        ratio = max(larger, smaller)
        if floats and found.channels > 1:
            other = ratio > _OTHER_UNIT
        elif floats:
            apart = found.low > self.high or found.high < self.low
            spread = found.high - found.low
            wider, narrower = spread / max(self.spread[1], 1e-300), self.spread[0] / max(spread, 1e-300)
            other = ratio > _OTHER_UNIT and (apart or (wider if larger > smaller else narrower) > _OTHER_SPREAD)
        else:
            other = found.channels == 1 and found.low > self.high and larger > _OTHER_EXPOSURE
        if other:
            factor = found.magnitude / (sum(self.magnitude) / 2)
            yield (
                f"values of {_span(found.low, found.high)}, but the detector was trained on "
                f"{_span(self.low, self.high)}: about {factor:.2g} times as large, "
                f"as in {'another unit' if floats else 'images of another bit depth'}"
            )

    def _mild(self, found: SensorSummary) -> Iterator[str]:
        if found.measured < _FEW_MEASURED * self.measured:
            yield f"{found.measured:.1%} of the pixels are measured, but {self.measured:.1%} or more in training"
        if found.kind != "float" and found.magnitude * _OTHER_EXPOSURE < self.magnitude[0]:
            yield f"values up to {found.magnitude:.4g}, but up to {self.magnitude[0]:.4g} and more in training"
        if self._looks_reversed(found):
            yield "the channels look reversed (BGR instead of RGB)"

    def _looks_reversed(self, found: SensorSummary) -> bool:
        if found.channels != 3 or found.kind == "float" or self.samples < _MIN_COLOURS or self.colour is None:
            return False
        trained, colour = np.array(self.colour), _colour(np.array(found.means))
        away, back = np.abs(colour - trained).max(), np.abs(colour[::-1] - trained).max()
        return bool(away > max(_MIN_COLOUR_DISTANCE, _MIN_DEVIATIONS * self.colour_spread) and back < away / 4)


Summaries = Mapping[str, SensorSummary]
"""Of one sample, by sensor."""


def summarise(sensors: Mapping[str, np.ndarray]) -> dict[str, SensorSummary]:
    """Return what one sample's sensors hold, each an array (H, W) or (H, W, C), from a thousand of its pixels.

    Examples:
        >>> summarise({"rgb": np.full((9, 9, 3), (10, 20, 30), np.uint8)})["rgb"].means
        (10.0, 20.0, 30.0)
    """
    return {name: _summarise(array) for name, array in sensors.items()}


def summarise_sensors(sample: RawSample) -> dict[str, SensorSummary]:
    """Return `summarise` of a sample's sensors, with the orientation tags of their files."""
    files = sample.record.files
    return {
        name: replace(summary, orientation=read_orientation(files[name])) if name in files else summary
        for name, summary in summarise(sample.sensors).items()
    }


def _summarise(array: np.ndarray) -> SensorSummary:
    floats = np.issubdtype(array.dtype, np.floating)
    stride = max(1, int(np.sqrt(array.shape[0] * array.shape[1] / _SAMPLED)))
    pixels = array[::stride, ::stride].astype(np.float64)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    known = np.ones(pixels.shape[:2], bool)
    if floats:
        known = np.isfinite(pixels).all(axis=2) & (pixels[..., -1] != 0)
    values = pixels[known] if known.any() else np.zeros((1, pixels.shape[2]))
    scan = floats and array.ndim == 3 and array.shape[2] == 3
    low, high = _tails(values[:, -1] if scan else values.ravel())
    fill = fill_value(array) if floats else None
    return SensorSummary(
        kind="float" if floats else array.dtype.name,
        channels=pixels.shape[2],
        measured=float(known.mean()),
        low=low,
        high=high,
        magnitude=_tails(np.abs(values).max(axis=1))[1],
        means=tuple(values.mean(axis=0).tolist()),
        pitch=_pitch(pixels, known, stride) if scan else None,
        fill=fill,
        usual=_usual(values.ravel(), 0.0 if not floats else fill) if pixels.shape[2] == 1 else None,
    )


def _usual(values: np.ndarray, fill: float | None) -> tuple[float, float] | None:
    """Return the tails of what is not ``fill``, if that repeats and is farther from it than it is wide; else None."""
    rest = values if fill is None else values[values != fill]
    if not rest.size or len(values) - len(rest) < _MIN_REPEATED:
        return None
    low, high = _tails(rest)
    return (low, high) if fill is not None and max(low - fill, fill - high) > high - low else None


def _tails(values: np.ndarray) -> tuple[float, float]:
    """Return the values with 5 % of all below and above them."""
    last = len(values) - 1
    low, high = int(_TAIL * last), last - int(_TAIL * last)
    ordered = np.partition(values, (low, high))
    return float(ordered[low]), float(ordered[high])


def _pitch(points: np.ndarray, known: np.ndarray, stride: int) -> float | None:
    both = known[:, 1:] & known[:, :-1]
    if not both.any():
        return None
    steps = np.abs((points[:, 1:] - points[:, :-1])[both]).max(axis=1)
    return float(np.median(steps)) / stride


def merge(samples: Sequence[Summaries]) -> dict[str, SensorStatistics]:
    """Return the statistics of every sensor that some of ``samples`` have; those without a measurement do not count."""
    names = dict.fromkeys(name for sample in samples for name in sample)
    found = {name: [sample[name] for sample in samples if name in sample and sample[name].measured] for name in names}
    return {name: _merge(summaries) for name, summaries in found.items() if summaries}


def _merge(summaries: Sequence[SensorSummary]) -> SensorStatistics:
    spreads = [summary.high - summary.low for summary in summaries]
    magnitudes = [summary.magnitude for summary in summaries]
    channels = sorted({summary.channels for summary in summaries})
    means = np.array([summary.means for summary in summaries]) if len(channels) == 1 else None
    colours = None if means is None else _colour(means)
    return SensorStatistics(
        samples=len(summaries),
        kinds=tuple(sorted({summary.kind for summary in summaries})),
        channels=tuple(channels),
        measured=min(summary.measured for summary in summaries),
        low=min(summary.low for summary in summaries),
        high=max(summary.high for summary in summaries),
        spread=(min(spreads), max(spreads)),
        magnitude=(min(magnitudes), max(magnitudes)),
        colour=None if colours is None else tuple(colours.mean(axis=0).tolist()),
        colour_spread=0.0 if colours is None else float(colours.std(axis=0).max()),
    )


def _colour(means: np.ndarray) -> np.ndarray:
    """Return means (..., C) of channels relative to their mean, minus 1; 0 for black."""
    level = means.mean(axis=-1, keepdims=True)
    return np.asarray(means / np.where(level == 0, 1, level) - (level != 0))


def to_json(statistics: Mapping[str, SensorStatistics]) -> dict[str, Any]:
    """Return statistics as plain values for a JSON file."""
    return {name: asdict(sensor) for name, sensor in statistics.items()}


def from_json(values: Mapping[str, Any]) -> dict[str, SensorStatistics]:
    """Return the statistics that `to_json` gave, before or after they were in a file.

    Raises:
        ValidationError: a key is missing, or a value is not of its kind.
    """
    return TypeAdapter(dict[str, SensorStatistics]).validate_python(dict(values))


def compare(statistics: Mapping[str, SensorStatistics], sample: Summaries) -> list[Oddity]:
    """Return how the sensors of ``sample`` differ from those that the detector was trained on; errors first."""
    oddities = [
        oddity for name in sample if name in statistics for oddity in statistics[name].compare(name, sample[name])
    ]
    return sorted(oddities, key=lambda oddity: oddity.severity)


def _span(low: float, high: float) -> str:
    return f"{low:.4g} to {high:.4g}"
