"""What the page and the status line show of a watch, made from its events alone and bounded in size."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from crdkit.watch.drift import Calibration, Drift

RECENT = 24
"""Samples of which a picture is kept."""
SCORES = 300
"""Samples whose scores are drawn."""
PROBLEMS = 20
"""Reports that are listed."""
MOST_BARS = 96
"""Spans of time that the rate of alarms is counted in; where there would be more, two become one."""
FIRST_SPAN = 60.0
"""Seconds of such a span at first."""
REPORTS = ("unreadable", "incomplete", "late", "repeated", "ignored", "gone", "unmoved", "torn", "unreachable")
"""Events that somebody should know of."""


@dataclass
class Span:
    """How many samples were decided in a span of time, and how many raised an alarm."""

    start: float
    """Seconds since 1970, a multiple of the width."""
    decided: int = 0
    alarms: int = 0


@dataclass
class Spans:
    """The rate of alarms over time, in at most `MOST_BARS` spans of one width.

    Examples:
        >>> spans = Spans()
        >>> for minute in range(200):
        ...     spans.add(60.0 * minute, alarm=minute % 10 == 0)
        >>> len(spans.spans), spans.width, sum(span.alarms for span in spans.spans)
        (50, 240.0, 20)
    """

    width: float = FIRST_SPAN
    spans: list[Span] = field(default_factory=list)

    def add(self, time: float, *, alarm: bool) -> None:
        """Count a sample; times do not run backwards by more than a span."""
        start = time - time % self.width
        if not self.spans or start > self.spans[-1].start:
            self.spans.append(Span(start))
            while (self.spans[-1].start - self.spans[0].start) / self.width >= MOST_BARS:
                self._widen()
        self.spans[-1].decided += 1
        self.spans[-1].alarms += alarm

    def _widen(self) -> None:
        self.width *= 2
        merged: dict[float, Span] = {}
        for span in self.spans:
            into = merged.setdefault(span.start - span.start % self.width, Span(span.start - span.start % self.width))
            into.decided += span.decided
            into.alarms += span.alarms
        self.spans = list(merged.values())


class Record:
    """Follows the events of a journal, old ones and new ones alike.

    Args:
        calibration: of the detector that watches now.
    """

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self.counts: Counter[str] = Counter()
        """Events by kind; "anomalous" counts alarms."""
        self.recent: deque[Mapping[str, Any]] = deque(maxlen=RECENT)
        """The last decisions, the newest last."""
        self.scores: deque[tuple[float, bool]] = deque(maxlen=SCORES)
        """Score and whether it raised an alarm."""
        self.problems: deque[Mapping[str, Any]] = deque(maxlen=PROBLEMS)
        """The last reports, the newest last."""
        self.spans = Spans()
        self.drift = Drift(calibration)
        self.seconds: deque[float] = deque(maxlen=RECENT)
        """From reading a sample to its decision."""
        self.warned: tuple[str, ...] = ()
        """Sensors, or "scores" and "alarms", that the journal says have moved."""
        self._detector: Any = None

    def follow(self, event: Mapping[str, Any], *, old: bool = False) -> None:
        """Take note of an event; ``old`` ones start no test, which would take long: call `Drift.test` after them."""
        kind = event["event"]
        self.counts[kind] += 1
        if kind == "started" and event.get("detector") != self._detector:
            self._detector = event.get("detector")
            self.drift = Drift(self.calibration)
            self.scores.clear()
        elif kind == "decided":
            self._decided(event, test=not old)
        elif kind == "drift":
            self.warned = tuple(event["moved"])
        elif kind in REPORTS:
            self.problems.append(event)

    def _decided(self, event: Mapping[str, Any], *, test: bool) -> None:
        alarm = event["pred_label"] is True
        self.counts["anomalous"] += alarm
        self.recent.append(event)
        self.scores.append((event["pred_score"], alarm))
        self.seconds.append(event["seconds"])
        self.spans.add(datetime.fromisoformat(event["time"]).timestamp(), alarm=alarm)
        self.drift.add(event["pred_score"], event["sensors"], complete=not event["missing"], test=test)

    @property
    def decided(self) -> int:
        """How many samples were decided."""
        return self.counts["decided"]

    @property
    def alarms(self) -> int:
        """How many of them raised an alarm."""
        return self.counts["anomalous"]

    @property
    def reported(self) -> int:
        """How many events somebody should know of."""
        return sum(self.counts[kind] for kind in REPORTS)

    @property
    def has_drifted(self) -> bool:
        """Whether what has moved is not what the journal says."""
        return self.drift.moved() != self.warned
