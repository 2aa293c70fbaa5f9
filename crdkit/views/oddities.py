"""Data that can be read but look wrong: another unit, views without content, fill values, images that are turned."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crdkit.data import DatasetConfig, SampleRecord
from crdkit.data.findings import Finding
from crdkit.data.orientation import UPRIGHT
from crdkit.data.statistics import SensorStatistics, SensorSummary, compare, merge
from crdkit.errors import DataError, UnusualDataWarning
from crdkit.views import View
from crdkit.views.ranges import default_range, is_flat, propose_range, usual_values, written
from crdkit.views.single_channel import SingleChannel
from crdkit.views.summary import SampleSummary

Samples = Sequence[tuple[SampleRecord, SampleSummary]]

_CONSTANT = 1e-6  # of the view's 0 to 1
_ONLY_FOREGROUND = 0.98  # share of a view's pixels
_COARSE = 2.0  # distance of neighbouring points, in background distances
_TOO_FAR = 2000.0  # background distances that a scan may reach: what no sensor resolves
_FAR_FROM_MEDIAN = 4.0  # times


def find_oddities(
    samples: Samples, *, views: Mapping[str, View], data: DatasetConfig, configured: bool = True
) -> list[Finding]:
    """Return what is wrong or unusual in the views and sensors of samples that belong together; errors first.

    An error is what cannot be trained on: a modality whose views are all constant. Warnings are views that are constant
    or only foreground, scans of another unit than the others or than the view expects, values that seem to stand for
    "not measured", images that use little of their range, test samples that differ from the others in what they hold,
    and orientation tags that differ.

    Args:
        samples: of all splits; those of the test split are only compared with the others.
        views: by modality.
        data: options of the dataset, for the remedies.
        configured: whether ``views`` are modalities of a configuration, whose keys a remedy can name.
    """
    normal = [(record, summary) for record, summary in samples if record.split != "test"]
    test = [(record, summary) for record, summary in samples if record.split == "test"]
    findings: list[Finding] = []
    for name, view in views.items():
        seen = [(record, summary) for record, summary in normal if name in summary.views]
        if seen:
            findings += [*_odd_views(name, view, seen, data), *_odd_range(name, view, seen, configured=configured)]
    for sensor in dict.fromkeys(sensor for _, summary in normal for sensor in summary.sensors):
        found = [(record, summary.sensors[sensor]) for record, summary in normal if sensor in summary.sensors]
        findings += _odd_sensor(sensor, found, data)
    findings += [*_unlike(test, merge([summary.sensors for _, summary in normal])), *_turned(samples)]
    return sorted(findings, key=lambda finding: finding.severity)


def report_oddities(samples: Samples, *, views: Mapping[str, View], data: DatasetConfig) -> None:
    """Refuse what cannot be trained on, and warn of the rest of what `find_oddities` finds.

    Raises:
        DataError: the first finding that is an error.

    Warns:
        UnusualDataWarning: every other one.
    """
    for finding in find_oddities(samples, views=views, data=data):
        message = f"{finding.path}: {finding.message}"
        if finding.severity == "error":
            raise DataError(message)
        warnings.warn(message, UnusualDataWarning, stacklevel=2)


def _unlike(samples: Samples, statistics: Mapping[str, SensorStatistics]) -> list[Finding]:
    """Return how samples differ from those that ``statistics`` are of: the first of each sensor."""
    first: dict[str, tuple[Path, str]] = {}
    counts: Counter[str] = Counter()
    for record, summary in samples:
        for oddity in compare(statistics, summary.sensors):
            first.setdefault(oddity.sensor, (_file(record, oddity.sensor), oddity.message))
            counts[oddity.sensor] += 1
    return [
        _warning(path, f"sensor {sensor!r}: {message}", count=counts[sensor])
        for sensor, (path, message) in first.items()
    ]


def _turned(samples: Samples) -> Iterator[Finding]:
    """Yield that files have other orientation tags than most, if some have."""
    tags = [
        (_file(record, sensor), found.orientation)
        for record, summary in samples
        for sensor, found in summary.sensors.items()
    ]
    counts = Counter(tag for _, tag in tags)
    if len(counts) > 1:
        usual = counts.most_common(1)[0][0]
        path, tag = next(found for found in tags if found[1] != usual)
        yield _warning(
            path,
            f"its orientation tag is {_tag(tag)}, that of most files {_tag(usual)}; pixels are read as they are "
            "stored, so this image is turned against the others: store its pixels upright, without the tag",
            count=len(tags) - counts[usual],
        )


def _tag(tag: int) -> str:
    return "1 (upright)" if tag == UPRIGHT else str(tag)


def _odd_views(name: str, view: View, samples: Samples, data: DatasetConfig) -> Iterator[Finding]:
    found = [summary.views[name] for _, summary in samples]
    constant = [place for place, seen in enumerate(found) if seen.high - seen.low < _CONSTANT]
    unit = _unit_hint(view, samples, data) if _separates_background(view, samples) else ""
    if len(constant) == len(samples):
        yield Finding(
            severity="error",
            path=_file(samples[0][0], view.sensors[0]),
            message=f"modality {name!r} shows nothing: each of {len(samples)} views is {found[0].high:.3g} everywhere"
            f"{unit or '; look at its files, or leave the modality out'}",
        )
        return
    if constant:
        record = samples[constant[0]][0]
        message = f"the view {name!r} is {found[constant[0]].high:.3g} everywhere"
        yield _warning(_file(record, view.sensors[0]), message, count=len(constant))
    if _separates_background(view, samples):
        yield from _odd_foreground(name, view, samples, unit)


def _odd_foreground(name: str, view: View, samples: Samples, unit: str) -> Iterator[Finding]:
    sensor = view.sensors[0]
    shares = np.array([summary.views[name].foreground for _, summary in samples])
    usual = float(np.median(shares))
    full = np.flatnonzero(shares > _ONLY_FOREGROUND)
    pitches = [pitch for _, summary in samples if (pitch := summary.sensors[sensor].pitch)]
    distance: float = getattr(view.config, "background_distance")  # noqa: B009 not every view has it
    first = _file(samples[0][0], sensor)
    reach = float(np.median([summary.sensors[sensor].magnitude for _, summary in samples]))
    if reach > _TOO_FAR * distance:
        yield _warning(
            first,
            f"modality {name!r} cannot tell what is {distance:g} m from the background plane at this distance{unit}",
        )
    elif pitches and np.median(pitches) > _COARSE * distance:
        yield _warning(
            first,
            f"neighbouring points are {np.median(pitches):.3g} m apart, but modality {name!r} takes what is "
            f"{distance:g} m from the background plane for the object{unit}",
        )
    elif usual > _ONLY_FOREGROUND:
        yield _warning(
            first,
            f"modality {name!r} finds hardly any background; set its plane fit to 'none' if there is none{unit}",
        )
    elif len(full):
        yield _warning(
            _file(samples[full[0]][0], sensor),
            f"modality {name!r} finds hardly any background here, but {1 - usual:.0%} in the median sample",
            count=len(full),
        )


def _odd_range(name: str, view: View, samples: Samples, *, configured: bool) -> Iterator[Finding]:
    if not isinstance(view, SingleChannel):
        return
    sensor = view.sensors[0]
    found = [summary.sensors[sensor] for _, summary in samples if summary.sensors[sensor].measured]
    kinds = {summary.kind for summary in found}
    limits = view.config.range
    if limits is None and len(kinds) == 1:
        limits = default_range(*kinds)
    if not found or limits is None:
        return
    low, high = usual_values(found)
    if is_flat((low, high), limits):
        share = (high - low) / (limits[1] - limits[0])
        where = f"set modalities.{name}." if configured else "give its modality "
        remedy = f"{where}range={written(propose_range(found))}"
        yield _warning(
            _file(samples[0][0], sensor),
            f"the view {name!r} is nearly flat: the values of all samples, {low:.6g} to {high:.6g}, span {share:.1%} "
            f"of the range from {limits[0]:g} to {limits[1]:g}; {remedy}",
        )


def _odd_sensor(
    sensor: str, samples: Sequence[tuple[SampleRecord, SensorSummary]], data: DatasetConfig
) -> Iterator[Finding]:
    filled = [(record, summary.fill) for record, summary in samples if summary.fill is not None]
    if filled:
        record, value = filled[0]
        stored = value / getattr(data, "scale", {}).get(sensor, 1.0)
        yield _warning(
            _file(record, sensor),
            f"sensor {sensor!r} holds {value:.6g} in many pixels, far from all its other values; if it means that "
            f"nothing was measured there, set data.invalid.{sensor}={stored:.6g}",
            count=len(filled),
        )
    sizes = [
        (record, summary.magnitude)
        for record, summary in samples
        if summary.pitch is not None and summary.measured and summary.fill is None
    ]
    usual = float(np.median([size for _, size in sizes])) if sizes else 0.0
    far = [(record, size) for record, size in sizes if max(size, usual) > _FAR_FROM_MEDIAN * min(size, usual)]
    if far:
        record, size = far[0]
        yield _warning(
            _file(record, sensor),
            f"sensor {sensor!r} reaches {size:.3g} m here, but {usual:.3g} m in the median sample: is it another unit? "
            "convert it, or leave the sample out",
            count=len(far),
        )


def _separates_background(view: View, samples: Samples) -> bool:
    """Return whether a view sets the background of a scan to 0; judged by its options and its sensor."""
    options: Any = view.config
    fit = getattr(options, "plane", getattr(options, "mode", "none"))
    scan = samples[0][1].sensors[view.sensors[0]].kind == "float"
    return scan and hasattr(options, "background_distance") and fit != "none"


def _unit_hint(view: View, samples: Samples, data: DatasetConfig) -> str:
    sensor = view.sensors[0]
    reach = samples[0][1].sensors[sensor].magnitude
    remedy = f"set data.scale.{sensor} to metres per unit" if hasattr(data, "scale") else "convert the files"
    return f"; this scan reaches {reach:.3g} m: if that is another unit, {remedy}"


def _file(record: SampleRecord, sensor: str) -> Path:
    return record.files.get(sensor, record.image_path)


def _warning(path: Path, message: str, *, count: int = 1) -> Finding:
    others = f" (the first of {count} samples)" if count > 1 else ""
    return Finding(severity="warning", path=path, message=f"{message}{others}")
