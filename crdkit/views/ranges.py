"""The range of values that an image with one channel should be seen in: proposed here, and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from crdkit.data.statistics import SensorSummary

_FLAT = 0.1  # share of a range, below which the values that span it look all alike
_ROOM = 0.5  # of the values' span, on both sides: defects may be colder or warmer

Range = tuple[float, float]


def default_range(kind: str) -> Range:
    """Return the range that a view has without an option: that of the integers, or 0 to 1.

    Examples:
        >>> default_range("uint16"), default_range("float")
        ((0.0, 65535.0), (0.0, 1.0))
    """
    return (0.0, 1.0) if kind == "float" else (float(np.iinfo(kind).min), float(np.iinfo(kind).max))


def is_flat(values: Range, limits: Range) -> bool:
    """Whether ``values`` differ but span so little of ``limits`` that a view looks nearly flat.

    Examples:
        >>> is_flat((29400, 30100), (0, 65535)), is_flat((29400, 30100), (29000, 31000))
        (True, False)
    """
    return 0 < (values[1] - values[0]) / (limits[1] - limits[0]) < _FLAT


def usual_values(found: Sequence[SensorSummary]) -> Range:
    """Return from where to where the values of one sensor go; those that mean "not measured" do not count.

    Args:
        found: of all samples that measured something, at least one.
    """
    return min(summary.limits[0] for summary in found), max(summary.limits[1] for summary in found)


def propose_range(found: Sequence[SensorSummary]) -> Range:
    """Return a range for one sensor: its values with half their span on both sides, rounded.

    Pixels of "not measured" do not widen it, and that of integers stays within what they can hold.

    Args:
        found: of all samples that measured something, at least one.

    Examples:
        >>> from crdkit.data.statistics import summarise
        >>> image = np.random.default_rng(0).integers(29_400, 30_100, (64, 64)).astype(np.uint16)
        >>> image[:8] = 0  # a hole
        >>> propose_range([summarise({"thermal": image})["thermal"]])
        (29110.0, 30390.0)
    """
    low, high = usual_values(found)
    room = _ROOM * (high - low) or max(abs(high), 1.0) / 10
    digits = 1 - math.floor(math.log10(room))
    proposed = round(low - room, digits), round(high + room, digits)
    if all(summary.kind == "float" for summary in found):
        return proposed
    least, most = default_range(found[0].kind)
    return max(proposed[0], least), min(proposed[1], most)


def written(limits: Range) -> str:
    """Return a range as YAML.

    Examples:
        >>> written((29360.0, 30260.5))
        '[29360, 30260.5]'
    """
    return f"[{limits[0]:.10g}, {limits[1]:.10g}]"
