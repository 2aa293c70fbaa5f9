"""The sensors that files hold, by what their headers declare and what some of them contain."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crdkit.data.importing._headers import Layer, Layers, read_header
from crdkit.data.importing._samples import Sample, sensor_order
from crdkit.data.importing.questions import Answers, Question, metres
from crdkit.data.invalid import mark_invalid
from crdkit.data.parts import FilePart, read_part
from crdkit.data.statistics import SensorSummary, summarise
from crdkit.errors import DataError

HEADERS = 16
"""Files of each sensor whose header is looked at."""
DECODED = 6
"""Files of each sensor that are decoded."""
_RESERVED = ("split", "defect_type", "label", "mask")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One sensor."""

    name: str
    source: str
    """Under which its files are listed."""
    layer: Layer
    files: int
    found: tuple[SensorSummary, ...] = ()
    constant: bool = False

    @property
    def part(self) -> FilePart | None:
        """What it takes of its files."""
        return self.layer.part


def columns_of(
    folder: Path, samples: Sequence[Sample], answers: Answers, *, stack_names: Sequence[str]
) -> tuple[list[Column], list[Question]]:
    """Return the sensors of samples, those of one kind first, and what is unsure about them.

    Args:
        folder: the data folder.
        samples: with their files.
        answers: of the user.
        stack_names: names for what files hold, in order.
    """
    columns: list[Column] = []
    questions: list[Question] = []
    for source in sorted({sensor for sample in samples for sensor in sample.files}, key=sensor_order):
        files = [sample.files[source] for sample in samples if source in sample.files]
        layers, more = _layers(folder, source, files, scan=metres(answers.unit(source)) is not None)
        questions += more
        names, more = _names(source, layers, stack_names)
        questions += more
        for name, layer in zip(names, layers, strict=True):
            new = answers.name(name)
            if new in _RESERVED or new in {column.name for column in columns}:
                new = f"{new}_{len(columns) + 1}"
            if not answers.says("drop", name, new):
                columns.append(Column(name=new, source=source, layer=layer, files=len(files)))
    return columns, questions


def _layers(folder: Path, source: str, files: Sequence[str], *, scan: bool) -> tuple[Layers, list[Question]]:
    """Return what the files of a sensor hold, each layer of one that a view may read.

    Args:
        folder: the data folder.
        source: name of the sensor.
        files: its files.
        scan: whether integers in three channels are X, Y and Z, as a unit of length is said of them.
    """
    found: Counter[tuple[tuple[str, int], ...]] = Counter()
    first: dict[tuple[tuple[str, int], ...], tuple[str, Layers]] = {}
    damaged = []
    for file in spread(files, HEADERS):
        try:
            layers = read_header(folder / file)
        except DataError as error:
            damaged.append(str(error))
            continue
        forms = tuple(layer.form for layer in layers)
        found[forms] += 1
        first.setdefault(forms, (file, layers))
    questions = [
        Question(source, f"{len(damaged)} of the files that were looked at cannot be read, the first: {why}")
        for why in damaged[:1]
    ]
    if not found:
        return (), questions
    usual = found.most_common(1)[0][0]
    if len(found) > 1:
        other = next(forms for forms in found if forms != usual)
        message = (
            f"its files differ in type: {first[usual][0]} is {first[usual][1][0].words}, {first[other][0]} is "
            f"{first[other][1][0].words}"
        )
        questions.append(Question(source, message, f"--sensor {source}=drop", stops=True))
    layers = first[usual][1]
    points = [one for one in layers if one.channels == 3 and one.kind != "uint8" and not one.kind.startswith("float")]
    if points and not scan:
        message = f"its files hold {points[0].words}: X, Y and Z if a unit is said, else three sensors"
        questions.append(Question(source, message, f"--sensor {source}=unit:mm"))
    return tuple(part for layer in layers for part in _split(layer, scan=scan)), questions


def _split(layer: Layer, *, scan: bool) -> list[Layer]:
    """Return a layer, or its channels where no view reads all of them together."""
    floats = layer.kind.startswith("float")
    if layer.channels == 1 or (layer.channels == 3 and (scan or floats or layer.kind == "uint8")):
        return [layer]
    page = layer.part.page if layer.part else None
    groups = [(1, 3), (4, 4)] if (layer.channels, layer.kind) == (4, "uint8") else []
    groups = groups or [(channel, channel) for channel in range(1, layer.channels + 1)]
    return [
        replace(layer, channels=last - first + 1, part=FilePart(page=page, channels=(first, last)), name="")
        for first, last in groups
    ]


def _names(source: str, layers: Layers, stack_names: Sequence[str]) -> tuple[list[str], list[Question]]:
    if len(layers) < 2:
        return [source] * len(layers), []
    if stack_names:
        if len(stack_names) == len(layers):
            return list(stack_names), []
        message = f"its files hold {len(layers)} sensors, but {len(stack_names)} names are given"
        return [f"{source}_{n}" for n, _ in enumerate(layers)], [
            Question(source, message, "--sensor-names", stops=True)
        ]
    names: list[str] = []
    for number, layer in enumerate(layers, start=1):
        given = re.sub(r"[^\w-]+", "_", layer.name).strip("_")
        name = given or ("rgb" if layer.channels == 3 and layer.kind == "uint8" else f"{source}_{number}")
        names.append(name if name not in names else f"{source}_{number}")
    held = "; ".join(f"{name}: {layer.part}, {layer.words}" for name, layer in zip(names, layers, strict=True))
    message = f"each file holds {len(layers)} sensors; their names are a guess: {held}"
    return names, [Question(source, message, f"--sensor-names {','.join(names)}")]


def look_at(folder: Path, columns: Iterable[Column], samples: Sequence[Sample]) -> tuple[list[Column], list[Question]]:
    """Decode some files of each sensor, and return the sensors with what they hold."""
    looked, questions = [], []
    for column in columns:
        files = [sample.files[column.source] for sample in samples if column.source in sample.files]
        arrays, refused = [], []
        for file in spread(files, DECODED):
            try:
                arrays.append(read_part(folder / file, column.part))
            except DataError as error:
                refused.append(str(error))
        if refused:
            questions.append(
                Question(column.name, f"cannot be read: {refused[0]}", f"--sensor {column.name}=drop", stops=not arrays)
            )
        found = tuple(_summary(array) for array in arrays if array.size)
        constant = bool(arrays) and all(array.min() == array.max() for array in arrays)
        looked.append(replace(column, found=found, constant=constant))
    return looked, questions


def _summary(array: np.ndarray) -> SensorSummary:
    """Return what a sensor holds; its limits are without the value that seems to mean "not measured", in scans too."""
    found = summarise({"": array})[""]
    if found.fill is None or found.usual is not None:
        return found
    return replace(found, usual=summarise({"": mark_invalid(array, found.fill)})[""].limits)


def sizes_differ(
    folder: Path, columns: Sequence[Column], samples: Sequence[Sample], answers: Answers
) -> list[Question]:
    """Return which sensors of a sample have other sizes than its first one, by the headers of some samples."""
    questions = []
    for column in columns[1:]:
        both = [sample for sample in samples if {columns[0].source, column.source} <= sample.files.keys()]
        for sample in spread(both, HEADERS):
            size, other = (_size(folder, sample, one) for one in (columns[0], column))
            if size and other and size != other:
                message = (
                    f"is {other[0]} x {other[1]}, but {columns[0].name} is {size[0]} x {size[1]} in {sample.name}; all "
                    "sensors of a sample must have one size: resample the files, leave one out, or keep it and train "
                    "with data.registration"
                )
                option = f"--sensor {column.name}=drop, or =keep"
                kept = answers.says("keep", column.name, column.source)
                questions.append(Question(column.name, message, option, stops=not kept))
                break
    return questions


def _size(folder: Path, sample: Sample, column: Column) -> tuple[int, int] | None:
    try:
        layers = read_header(folder / sample.files[column.source])
    except DataError:
        return None
    page = column.part.page if column.part else None
    found = next((layer for layer in layers if (layer.part.page if layer.part else None) == page), None)
    return None if found is None else found.size


def is_binary(path: Path) -> bool:
    """Whether a file is an image of one channel with at most two values, one of them 0."""
    try:
        array = read_part(path, None)
    except DataError:
        return False
    values = np.unique(array)
    return array.ndim == 2 and array.dtype == np.uint8 and len(values) <= 2 and values[0] == 0


def spread(files: Sequence[str] | Sequence[Sample], count: int) -> Sequence[Any]:
    """Return at most ``count`` of ``files``, from all places."""
    return files[:: -(-len(files) // count) or 1]
