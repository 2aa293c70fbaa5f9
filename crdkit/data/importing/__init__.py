"""Proposes a manifest for a folder that nobody described, and says what is unsure about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from crdkit.data.images import read_mask
from crdkit.data.importing._columns import Column, columns_of, look_at, sizes_differ
from crdkit.data.importing._headers import read_header
from crdkit.data.importing._known import refuse_known_layout, require_free
from crdkit.data.importing._listing import Listing, list_files
from crdkit.data.importing._masks import MOST_READ, find_binary_masks, leave_out_unreadable
from crdkit.data.importing._names import Named, read_names
from crdkit.data.importing._samples import Grouped, Sample, group, settle_labels, settle_splits
from crdkit.data.importing._structure import find_sensors
from crdkit.data.importing._units import Unit, unit_of, values_of
from crdkit.data.importing._words import Vocabulary
from crdkit.data.importing.proposal import Proposal, ProposedSensor, write_manifest
from crdkit.data.importing.questions import Answers, Question
from crdkit.errors import ConfigError, DataError, unknown_name

__all__ = ["Answers", "Proposal", "ProposedSensor", "Question", "propose_import", "require_free", "write_manifest"]

_FEW = 0.5  # share of the samples, below which a sensor is left out rather than the samples that lack it


def propose_import(folder: Path, answers: Answers | None = None) -> Proposal:
    """Propose a manifest for the files below ``folder``: names are read, headers are sampled, few files are decoded.

    Args:
        folder: with sensors in folders, in names of files, or in files that stack several.
        answers: what is known about it.

    Raises:
        DataError: the folder does not exist, holds no image, or is in a layout that needs no manifest.
        ConfigError: an answer names a word or a sensor that is not there.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     for name in ("ok/07_rgb.png", "ok/08_rgb.png", "nok/09_rgb.png"):
        ...         Path(scratch, name).parent.mkdir(exist_ok=True)
        ...         picture = np.random.default_rng(0).integers(0, 9, (8, 8, 3), np.uint8)
        ...         Image.fromarray(picture).save(Path(scratch, name))
        ...     proposal = propose_import(Path(scratch))
        >>> proposal.counts(), [sensor.name for sensor in proposal.sensors]
        ({'train': {'good': 2}, 'test': {'nok': 1}}, ['rgb'])
    """
    folder = folder.expanduser().resolve()
    answers = answers or Answers()
    listing = list_files(folder)
    if not listing.images:
        raise DataError(f"{folder}: holds no image; expected files that end in .png, .tiff, ...{_first_of(listing)}")
    words = Vocabulary(sensors=answers.sensor_names, good=answers.good, defect=answers.defect, masks=answers.masks)
    named, questions = find_sensors(read_names(listing.images, words), _form_of(folder))
    _require_used([*answers.good, *answers.defect, *answers.masks], words)
    in_names = any(name.casefold() in {one.sensor.casefold() for one in named} for name in answers.sensor_names)
    found = named
    named, unused = _settled(named, answers)
    grouped = group(named, key=answers.key)
    if not grouped.samples:
        raise DataError(f"{folder}: no sample was found; name the words of sensors with --sensor-names")
    questions += grouped.questions
    kept = [name for name in answers.sensor_names if in_names] + [
        n for n in answers.settings if answers.says("keep", n)
    ]
    binary = find_binary_masks(folder, grouped.samples, named=kept)
    questions = [q for q in questions if q.about not in {mask.about for mask in binary}] + binary
    columns, more = columns_of(folder, grouped.samples, answers, stack_names=() if in_names else answers.sensor_names)
    _require_sensors(answers, [one.sensor for one in found], columns)
    columns, looked = look_at(folder, columns, grouped.samples)
    columns, left_out = _worth_keeping(columns, grouped.samples, answers)
    stacked = {column.source for column in columns if column.name != column.source}
    questions = [question for question in questions if question.about not in stacked]
    questions += [*more, *looked, *left_out, *sizes_differ(folder, columns, grouped.samples, answers)]
    samples, more = _complete(grouped, columns, answers)
    unreadable, masks = leave_out_unreadable(folder, samples)
    questions += [*more, *masks, *settle_labels(samples, is_empty=_is_empty(folder))]
    questions += settle_splits(samples, test_share=answers.test_share)
    refuse_known_layout(folder, [column.name for column in columns])
    unused = {**listing.unused, **unused, **grouped.unused, **unreadable}
    return _proposal(folder, columns, samples, answers, questions=questions, unused=unused)


def _require_used(words: Sequence[str], vocabulary: Vocabulary) -> None:
    for word in words:
        if word not in vocabulary.used:
            raise ConfigError(f"no folder or file name has the word {word!r}; give one as it is written there")


def _require_sensors(answers: Answers, found: Sequence[str], columns: Sequence[Column]) -> None:
    known = sorted({*filter(None, found), *map(answers.name, found), *(column.name for column in columns)} - {""})
    for sensor in answers.settings:
        if sensor not in known:
            raise ConfigError(f"--sensor {sensor}=...: {unknown_name('sensor', sensor, known)}")


def _first_of(listing: Listing) -> str:
    return "".join(f"; {path} {reason}" for path, reason in [*listing.unused.items()][:1])


def _form_of(folder: Path) -> Callable[[str], tuple[object, ...]]:
    def form_of(path: str) -> tuple[object, ...]:
        try:
            return tuple(layer.form for layer in read_header(folder / path))
        except DataError:
            return ()

    return form_of


def _settled(named: Sequence[Named], answers: Answers) -> tuple[list[Named], dict[str, str]]:
    """Return the files as the user's settings of sensors have them, and those that are left out."""
    kept, unused = [], {}
    for one in named:
        new = answers.name(one.sensor)
        if not one.mask and answers.says("drop", one.sensor, new):
            unused[one.path] = f"is left out by --sensor {new}=drop"
        elif not one.mask and answers.says("mask", one.sensor, new):
            kept.append(replace(one, mask=True))
        else:
            kept.append(replace(one, sensor=new))
    return kept, unused


def _worth_keeping(
    columns: Sequence[Column], samples: Sequence[Sample], answers: Answers
) -> tuple[list[Column], list[Question]]:
    """Leave out sensors that show nothing, or that few samples have, and those that nothing reads."""
    kept, questions = [], []
    for column in columns:
        unit = answers.unit(column.name, column.source)
        if answers.says("keep", column.name, column.source):
            kept.append(column)
        elif column.constant:
            questions.append(_left_out(column, f"is constant in all {len(column.found)} files that were looked at"))
        elif column.files < _FEW * len(samples):
            questions.append(_left_out(column, f"only {column.files} of {len(samples)} samples have it"))
        elif column.layer.kind not in _READ and unit is None:
            reason = f"{column.layer.kind} is not read without a unit of length"
            questions.append(Question(column.name, f"{reason}; it is left out", f"--sensor {column.name}=unit:mm"))
        else:
            kept.append(column)
    return kept, questions


_READ = ("uint8", "uint16", "float16", "float32", "float64")


def _left_out(column: Column, why: str) -> Question:
    return Question(column.name, f"{why}; it is left out", f"--sensor {column.name}=keep")


def _complete(grouped: Grouped, columns: Sequence[Column], answers: Answers) -> tuple[list[Sample], list[Question]]:
    """Return the samples that have all sensors; the others too if the user says so."""
    sources = dict.fromkeys(column.source for column in columns)
    samples = [sample for sample in grouped.samples if sources.keys() & sample.files.keys()]
    short = [sample for sample in samples if sources.keys() - sample.files.keys()]
    if not short:
        return samples, []
    lacks = ", ".join(name for name in sources if name not in short[0].files)
    message = f"{len(short)} of {len(samples)} lack a sensor, such as {short[0].name} without {lacks}"
    if answers.keep_incomplete:
        how = "they are kept, for a training with training.modality_dropout above 0"
        return samples, [Question("samples", f"{message}; {how}")]
    for sample in short:
        why = "belongs to a sample that lacks a sensor"
        grouped.unused |= dict.fromkeys((*sample.files.values(), *([sample.mask] if sample.mask else [])), why)
    question = Question("samples", f"{message}; they are left out", "--keep-incomplete")
    return [sample for sample in samples if not sources.keys() - sample.files.keys()], [question]


def _is_empty(folder: Path) -> Callable[[str], bool]:
    read = 0

    def is_empty(path: str) -> bool:
        nonlocal read
        read += 1
        if read > MOST_READ:
            raise DataError(
                f"{folder}: nothing says which samples are good, and more than {MOST_READ} have a mask; name the words "
                "of good parts with --good"
            )
        return not read_mask(folder / path).any()

    return is_empty


def _proposal(
    folder: Path,
    columns: Sequence[Column],
    samples: Sequence[Sample],
    answers: Answers,
    *,
    questions: list[Question],
    unused: Mapping[str, str],
) -> Proposal:
    units: dict[str, Unit] = {}
    for column in columns:
        units[column.name], more = unit_of(column, answers)
        questions += more
    if not columns or not samples:
        questions.append(Question("samples", "none is left that has all sensors", stops=True))
    sensors = [
        ProposedSensor(
            name=column.name,
            files=sum(column.source in sample.files for sample in samples),
            part=str(column.part or ""),
            dtype=column.layer.kind,
            channels=column.layer.channels,
            size=column.layer.size,
            values=values_of(column),
            unit=units[column.name].name,
        )
        for column in columns
    ]
    return Proposal(
        folder=folder,
        sensors=sensors,
        samples=samples,
        columns={column.name: (column.source, str(column.part or "")) for column in columns},
        questions=questions,
        unused=unused,
        options=tuple(option for unit in units.values() for option in unit.options),
        plain=tuple(name for name, unit in units.items() if unit.plain),
    )
