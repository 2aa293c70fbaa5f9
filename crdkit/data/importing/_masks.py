"""Masks: by their name, or because they look like some; those that cannot be read as masks are left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crdkit.data._names import GOOD
from crdkit.data._own_data.arranged import MASK_SUFFIXES
from crdkit.data.importing._columns import HEADERS, is_binary, spread
from crdkit.data.importing._headers import read_header
from crdkit.data.importing._samples import Sample
from crdkit.data.importing._words import BAD
from crdkit.data.importing.questions import Question
from crdkit.errors import DataError

_LOOKED_AT = 4
MOST_READ = 1000
"""Masks that are decoded to tell which are empty."""


def find_binary_masks(folder: Path, samples: Sequence[Sample], *, named: Sequence[str]) -> list[Question]:
    """Take a sensor for masks that only defective samples have, whose images are binary; ``named`` ones are sensors."""
    questions = []
    for sensor in sorted({name for sample in samples for name in sample.files}.difference(named)):
        having = [sample for sample in samples if sensor in sample.files]
        others = [sample for sample in samples if sensor not in sample.files]
        only_bad = all(sample.label != GOOD for sample in having) and any(sample.label != BAD for sample in others)
        alone = any(len(sample.files) == 1 or sample.mask for sample in having)
        files = [folder / sample.files[sensor] for sample in having]
        if alone or not only_bad or {file.suffix.lower() for file in files} - set(MASK_SUFFIXES):
            continue
        if all(is_binary(file) for file in files[:_LOOKED_AT]):
            for sample in having:
                sample.mask = sample.files.pop(sensor)
            message = f"taken for masks: {len(having)} samples have it, none of them good, and its images are binary"
            questions.append(Question(sensor, message, f"--sensor {sensor}=keep"))
    return questions


def leave_out_unreadable(folder: Path, samples: Sequence[Sample]) -> tuple[dict[str, str], list[Question]]:
    """Leave all masks out if some of those that are looked at are no masks; return them, and a question."""
    having = [sample for sample in samples if sample.mask is not None]
    for sample in spread(having, HEADERS):
        why = _why_not(folder, sample)
        if why:
            unused = {str(one.mask): why for one in having}
            for one in having:
                one.mask = None
            message = f"{len(having)} files are left out: {next(iter(unused))} {why}"
            return unused, [Question("masks", message)]
    return {}, []


def _why_not(folder: Path, sample: Sample) -> str:
    path = folder / str(sample.mask)
    if path.suffix.lower() not in MASK_SUFFIXES:
        return f"ends in none of {', '.join(MASK_SUFFIXES)}, as a mask must; convert it"
    try:
        (mask,) = read_header(path)
        image = read_header(folder / next(iter(sample.files.values())))[0]
    except DataError as error:
        return f"cannot be read: {error}"
    if (mask.channels > 1 and not mask.palette) or (mask.kind == "uint16" and mask.channels > 1):
        return f"has {mask.channels} channels, but a mask has one in which 0 is normal; convert it"
    if mask.size != image.size:
        return f"is {mask.height} x {mask.width}, but its sample is {image.height} x {image.width}; resample it"
    return ""
