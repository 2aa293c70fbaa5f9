"""What a watch shows on a terminal and elsewhere."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from crdkit._core import progress
from crdkit.cli import watching
from crdkit.watch.drift import Calibration
from crdkit.watch.record import Record

GOOD = {
    "event": "decided", "time": "2026-01-01T00:00:00+00:00", "sample": "a", "pred_label": False, "pred_score": 0.5,
    "p_value": 0.25, "seconds": 0.1, "sensors": {}, "missing": [],
}  # fmt: skip
ALARM = {**GOOD, "sample": "b", "pred_label": True, "pred_score": 9.0, "p_value": 0.01}
LATE = {"event": "late", "time": GOOD["time"], "sample": "c", "detail": "sensor 'xyz' came late"}


@pytest.fixture
def record():
    found = Record(Calibration(normals=(), threshold=None, rate=None, sensors={}))
    for event in (GOOD, ALARM, LATE):
        found.follow(event)
    return found


@pytest.fixture(autouse=True)
def loud(quiet):
    progress.set_quiet(False)


def test_alarms_and_reports_are_lines_and_the_state_now_and_then(record, capsys, monkeypatch):
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(watching.time, "monotonic", lambda: next(clock))
    with watching.shown(Path("line"), Path("out")) as display:
        for event in ({"event": "started"}, GOOD, ALARM, LATE):
            display.event(event)
        for _ in range(4):
            display.look(record, 3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:3] == ["b: anomalous, score 9, p 0.01", "late: c: sensor 'xyz' came late"]
    assert lines[3:] == ["2 decided, 1 alarm (50.0 %), 3 waiting, 1 report, last b: anomalous, score 9, p 0.01"]


def test_a_terminal_has_one_line_that_changes(record, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    with watching.shown(Path("line"), Path("out")) as display:
        display.look(record, 3)
        display.event(ALARM)
    assert "2 decided, 1 alarm (50.0 %), 3 waiting" in terminal.getvalue()
    assert "b: anomalous, score 9, p 0.01" in terminal.getvalue()


def test_quiet_means_quiet(record, capsys):
    progress.set_quiet(True)
    with watching.shown(Path("line"), Path("out")) as display:
        display.event(ALARM)
        display.look(record, 0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({"event": "drift", "detail": ""}, "drift: as calibrated again"),
        ({"event": "drift", "detail": "moved"}, "drift: moved"),
        ({"event": "ignored", "file": "notes.txt", "detail": "why"}, "ignored: notes.txt: why"),
        ({"event": "unreachable", "detail": "away"}, "unreachable: away"),
        ({**GOOD, "pred_label": None, "p_value": None}, "a: undecided, score 0.5"),
    ],
    ids=["back", "moved", "file", "folder", "undecided"],
)
def test_events_in_words(event, text):
    assert watching.in_words(event) == text


def test_a_torn_line_in_words():
    assert watching.in_words({"event": "torn", "line": 7}).startswith("torn: line 7 of the journal is incomplete")
