"""The charts of watch.html, as numbers on a canvas that the template draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np

from crdkit.scoring.conformal import percent
from crdkit.watch.record import Record, Span

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 30
"""Margins, for the labels."""
_LEAST_RATE = 0.05  # the axis of rates goes at least so far
_TICKS = 4
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.25)
_WIDEST = 30  # of a bar
_ROOM = 0.08  # of the axis of scores, beyond the lowest and the highest


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 2)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 2)


def alarm_chart(record: Record) -> dict[str, Any] | None:
    """Return a bar for each span of time, and the line of the configured rate; None before the first sample."""
    spans, width = record.spans.spans, record.spans.width
    if not spans:
        return None
    first, last = spans[0].start, spans[-1].start + width
    rate = record.calibration.rate
    step, top = _even(max(_LEAST_RATE, 2 * (rate or 0), *(span.alarms / span.decided for span in spans)))
    return {
        "bars": [
            {
                "x": _x((span.start - first) / (last - first)),
                "width": min(max(round(0.86 * (_x(width / (last - first)) - LEFT), 2), 1), _WIDEST),
                "y": _y(span.alarms / span.decided / top),
                "base": _y(0),
                "text": _span_in_words(span, width),
            }
            for span in spans
        ],
        "line": None if rate is None else {"y": _y(rate / top), "text": f"{percent(rate)} of good parts"},
        "ticks": [{"y": _y(level / top), "text": percent(level)} for level in np.arange(0, top + step / 2, step)],
        "times": [
            {"x": _x(share), "anchor": anchor, "text": clock(first + share * (last - first), span=last - first)}
            for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
        ],
        "width": _span_of_time(width),
    }


def _even(rate: float) -> tuple[float, float]:
    """Return the distance of the marks on an axis that holds a rate, and where it ends.

    Examples:
        >>> _even(0.05), _even(0.1125), _even(1.0)
        ((0.02, 0.06), (0.05, 0.15), (0.25, 1.0))
    """
    step = next((step for step in _STEPS if rate / step <= _TICKS), _STEPS[-1])
    return step, round(math.ceil(rate / step - 1e-9) * step, 9)


def score_chart(record: Record) -> dict[str, Any] | None:
    """Return a dot for each of the last samples, the threshold, and the band of good samples' scores."""
    if not record.scores:
        return None
    scores = np.array([score for score, _ in record.scores])
    calibration = record.calibration
    shown = [scores.min(), scores.max()]
    band = None
    if calibration.threshold is not None:
        low, high = np.quantile(calibration.normals, (0.05, 0.95))
        # far beyond the threshold it does not matter how far: the rest would be a line
        limit = calibration.threshold + 2 * max(calibration.threshold - min(calibration.normals), 1e-9)
        shown = [min(shown[0], low), min(max(shown[1], calibration.threshold), limit)]
        band = (float(low), float(high))
    bottom, top = shown[0] - _ROOM * (shown[1] - shown[0] or 1), shown[1] + _ROOM * (shown[1] - shown[0] or 1)

    def level(score: float) -> float:
        return _y(min(max((score - bottom) / (top - bottom), 0), 1))

    count = max(len(scores) - 1, 1)
    return {
        "dots": [
            {"x": _x(0.01 + 0.98 * place / count), "y": level(score), "alarm": alarm, "beyond": score > top}
            for place, (score, alarm) in enumerate(record.scores)
        ],
        "threshold": None if calibration.threshold is None else level(calibration.threshold),
        "band": band and {"y": level(band[1]), "height": round(level(band[0]) - level(band[1]), 2)},
        "ticks": [
            {"y": _y(share), "text": f"{bottom + share * (top - bottom):.3g}"} for share in np.linspace(0, 1, _TICKS)
        ],
        "count": len(scores),
    }


def quantile_chart(normals: Sequence[float], scores: Sequence[float], threshold: float | None) -> dict[str, Any] | None:
    """Return the cumulative distributions of calibration and last samples below the threshold, as two stepped lines."""
    if threshold is None:
        return None
    lines = {
        name: np.sort([score for score in values if score < threshold])
        for name, values in (("calibration", normals), ("now", scores))
    }
    if any(not len(values) for values in lines.values()):
        return None
    low = min(values[0] for values in lines.values())
    high = max(threshold, low + 1e-12)
    return {
        "lines": {name: _steps((values - low) / (high - low)) for name, values in lines.items()},
        "counts": {name: len(values) for name, values in lines.items()},
        "ticks": [{"y": _y(share), "text": percent(share)} for share in (0, 0.5, 1)],
        "scores": [
            {"x": _x(share), "anchor": anchor, "text": f"{low + share * (high - low):.3g}"}
            for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
        ],
    }


def _steps(values: np.ndarray) -> str:
    points, share = [f"{_x(0)},{_y(0)}"], 0.0
    for place, value in enumerate(values, start=1):
        points.append(f"{_x(float(value))},{_y(share)}")
        share = place / len(values)
        points.append(f"{_x(float(value))},{_y(share)}")
    return " ".join([*points, f"{_x(1)},{_y(1)}"])


def clock(time: float, *, span: float = 0.0) -> str:
    """Return a time of day, with the date if ``span`` seconds are more than a day."""
    return datetime.fromtimestamp(time).strftime("%d %b %H:%M" if span > 86_400 else "%H:%M")


def _span_in_words(span: Span, width: float) -> str:
    samples = f"{span.decided} sample{'s' if span.decided > 1 else ''}"
    return f"{clock(span.start, span=width)}, {_span_of_time(width)}: {span.alarms} of {samples} raised an alarm"


def _span_of_time(seconds: float) -> str:
    """Return a span in words.

    Examples:
        >>> _span_of_time(60.0), _span_of_time(7680.0)
        ('1 min', '2.1 h')
    """
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
