"""Units of sensors: said by the user, guessed from names and values, or not known."""

from __future__ import annotations

import re
from typing import NamedTuple

from crdkit.data.importing._columns import Column
from crdkit.data.importing.questions import NO_UNIT, Answers, Question, metres
from crdkit.data.scans import MAX_METRES

_LIKE_DEPTH = re.compile("depth|tiefe|profond|height|hohe|range|tof|disparity|profile", re.IGNORECASE)


class Unit(NamedTuple):
    """What the values of a sensor are."""

    name: str
    """"" if it is not known, or has none."""
    options: tuple[str, ...] = ()
    """Of the data set, that a training needs."""
    plain: bool = False
    """Whether it is no distance, although its name may say so."""


def unit_of(column: Column, answers: Answers) -> tuple[Unit, list[Question]]:
    """Return the unit of a sensor, and what is unsure about it."""
    floats = column.layer.kind.startswith("float")
    scan = floats and column.layer.channels == 3
    said = answers.unit(column.name, column.source)
    if column.layer.kind == "uint8" and said is None:
        return Unit(""), []
    fills = [summary.fill for summary in column.found if summary.fill is not None]
    options = [f"data.invalid.{column.name}={fills[0]:.9g}"] if fills else []
    questions = (
        [Question(column.name, f"holds {fills[0]:.6g} in many pixels, far from the rest; taken for 'not measured'")]
        if fills
        else []
    )
    if said is not None:
        factor = metres(said)
        if factor is not None and not (floats and factor == 1):
            options.append(f"data.scale.{column.name}={factor:.9g}")
        return Unit("" if said == NO_UNIT else said, tuple(options), plain=factor is None), questions
    low, high = values_of(column)
    held = f"{column.layer.kind}, {low:.6g} to {high:.6g}"
    if scan or _LIKE_DEPTH.search(column.name):
        guess = "m" if floats and max(abs(low), abs(high)) <= MAX_METRES else "mm"
        options += [f"data.scale.{column.name}=0.001"] if guess == "mm" else []
        message = f"{held}; its unit is not known, taken for {guess}"
        other = "mm" if guess == "m" else "0.1mm"
        questions.append(Question(column.name, message, f"--sensor {column.name}=unit:{other}"))
        return Unit(f"{guess}?", tuple(options)), questions
    message = f"{held}; its unit is not known, taken for plain values and not for distances"
    questions.append(Question(column.name, message, f"--sensor {column.name}=unit:K, or unit:mm"))
    return Unit("", tuple(options), plain=True), questions


def values_of(column: Column) -> tuple[float, float]:
    """Return between which values most of what was looked at lies; zeros if nothing was."""
    limits = [summary.limits for summary in column.found]
    return (min(low for low, _ in limits), max(high for _, high in limits)) if limits else (0.0, 0.0)
