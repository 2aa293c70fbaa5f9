"""watch.html: what has arrived lately, and whether it is still like what the detector was calibrated on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from crdkit._core.files import write_text
from crdkit._core.printable import printable
from crdkit._core.progress import say
from crdkit.errors import CrdkitError
from crdkit.report.page import render
from crdkit.report.wording import shares_in_words
from crdkit.scoring.conformal import percent
from crdkit.watch import _charts
from crdkit.watch._pictures import Pictures
from crdkit.watch.drift import FEWEST, WINDOW, Moved
from crdkit.watch.record import Record

FILE = "watch.html"
EVERY = 2.0
"""Seconds between two versions of the page at least."""
AT_LEAST = 20.0
"""Seconds after which it is written although nothing happened: its age says whether somebody watches."""
_STALE = 90  # seconds from which on the page doubts it


class Page:
    """Writes the page, not too often.

    Args:
        out: where it goes.
        folder: that is watched.
        record: what has happened.
        pictures: of the last samples.
    """

    def __init__(self, out: Path, folder: Path, record: Record, pictures: Pictures) -> None:
        self._file, self._folder, self._record, self._pictures = out / FILE, folder, record, pictures
        self._written = -AT_LEAST
        self._shown: Any = None
        self._failed = False

    def write(self, *, watching: bool) -> None:
        """Write the page if it is time; when watching is over it always is."""
        now = time.monotonic()
        counts = dict(self._record.counts)
        fresh = counts == self._shown
        if watching and now - self._written < (AT_LEAST if fresh else EVERY):
            return
        try:
            write_text(self._file, self.render(watching=watching))
        except CrdkitError as error:  # a viewer may hold it; the journal is what counts
            if not self._failed:
                say(f"warning: {error}")
            self._failed = True
        self._written, self._shown = now, counts

    def render(self, *, watching: bool) -> str:
        """Return the page as it would be written now."""
        record = self._record
        calibration = record.calibration
        return render(
            "watch.html.j2",
            title=printable(self._folder.name),
            folder=printable(str(self._folder)),
            watching=watching,
            written=round(time.time()),
            clock=datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
            stale=_STALE,
            warnings=record.drift.warnings(),
            tiles=_tiles(record),
            alarms=_charts.alarm_chart(record),
            scores=_charts.score_chart(record),
            distribution=_charts.quantile_chart(calibration.normals, record.drift.window, calibration.threshold),
            canvas={"width": _charts.WIDTH, "height": _charts.HEIGHT, "left": _charts.LEFT, "right": _charts.RIGHT},
            drift=_drift_rows(record),
            window=WINDOW,
            fewest=FEWEST,
            samples=[self._sample(event) for event in reversed(record.recent)],
            reports=[_report(event) for event in reversed(record.problems)],
            threshold=calibration.threshold,
            normals=len(calibration.normals),
            rate=None if calibration.rate is None else percent(calibration.rate),
        )

    def _sample(self, event: Mapping[str, Any]) -> dict[str, Any]:
        label = event["pred_label"]
        notes = [f"without {', '.join(event['missing_sensors'])}"] if event["missing_sensors"] else []
        notes += [f"raised by {shares_in_words(event['attribution'])}"] if event["attribution"] else []
        notes += ["reported before it was complete"] if event["after_report"] else []
        return {
            "name": printable(event["sample"]),
            "time": _time(event),
            "kind": {True: "anomalous", False: "normal", None: "undecided"}[label],
            "score": f"{event['pred_score']:.4g}",
            "p_value": None if event["p_value"] is None else f"{event['p_value']:.2g}",
            "regions": len(event["regions"]),
            "notes": [printable(note) for note in (*notes, *event["odd"])],
            "picture": self._pictures.source(event["number"]),
        }


def _tiles(record: Record) -> list[tuple[str, str, str]]:
    """Return name, value and unit of each headline."""
    rate = f"{100 * record.alarms / record.decided:.1f}" if record.decided else "-"
    seconds = sorted(record.seconds)
    median = f"{1000 * seconds[len(seconds) // 2]:.0f}" if seconds else "-"
    return [
        ("samples decided", f"{record.decided:,}", ""),
        ("alarms", f"{record.alarms:,}", ""),
        ("of the samples", rate, "%"),
        ("reports", f"{record.reported:,}", ""),
        ("a decision takes", median, "ms"),
    ]


def _drift_rows(record: Record) -> list[dict[str, str]]:
    calibration, drift = record.calibration, record.drift
    rows = [] if calibration.threshold is None else [_drift_row("scores that passed", drift.scores)]
    return rows + [_drift_row(f"sensor {name}", drift.sensors.get(name)) for name in calibration.sensors]


def _drift_row(name: str, found: Moved | None) -> dict[str, str]:
    if found is None:
        return {"name": name, "kind": "", "state": "not tested yet", "detail": f"fewer than {FEWEST} so far"}
    kind, state = ("anomalous", "moved") if found.is_moved else ("normal", "as before")
    detail = f"{found.detail}; p {found.p_value:.2g}, level {found.level:.2g}"
    return {"name": name, "kind": kind, "state": state, "detail": detail}


def _report(event: Mapping[str, Any]) -> dict[str, str]:
    detail = event.get("detail") or f"line {event.get('line')} was torn by a kill; nothing else is lost"
    about = event.get("sample") or event.get("file") or "-"
    return {"time": _time(event), "kind": event["event"], "about": printable(about), "detail": printable(detail)}


def _time(event: Mapping[str, Any]) -> str:
    return datetime.fromisoformat(event["time"]).astimezone().strftime("%d %b %H:%M:%S")
