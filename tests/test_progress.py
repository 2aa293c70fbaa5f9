from __future__ import annotations

import io
import sys

import pytest

from crdkit._core import progress


@pytest.fixture
def loud():
    progress.set_quiet(False)


def test_plain_lines_where_there_is_no_terminal(loud, capsys, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    assert list(progress.track("abcd", description="reading", total=4, every_s=2)) == list("abcd")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["reading: 2/4, 2 s left", "reading: 4/4 in 5.0 s"]


def test_short_work_says_nothing(loud, capsys):
    assert list(progress.track([1, 2], description="reading", total=2)) == [1, 2]
    assert capsys.readouterr().err == ""


def test_a_bar_with_eta_on_a_terminal(loud, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress.track([1, 2, 3], description="reading", total=3)) == [1, 2, 3]
    assert "reading" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
    assert "ETA" in terminal.getvalue()


def test_notes_stand_below_the_bar_and_behind_the_line(loud, capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    done = []
    options = {"description": "training", "total": 3, "note": lambda: [f"loss {len(done)}", "rgb: filter 1"]}
    clock = iter(range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    done.extend(item for item in progress.track([1, 2, 3], every_s=2, **options))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "training: 2/3, 1 s left; loss 2; rgb: filter 1", "training: 3/3 in 4.0 s; loss 3; rgb: filter 1",
    ]  # fmt: skip
    monkeypatch.undo()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.overall("sweep", total=1):
        done.extend(item for item in progress.track([1, 2, 3], **options))
    assert list(progress.track([1], description="reading", total=1)) == [1]
    done.extend(item for item in progress.track([1, 2, 3], **options))
    shown = terminal.getvalue()
    assert "loss 9" in shown
    assert "rgb: filter 1" in shown


def test_quiet_means_quiet(capsys):
    progress.set_quiet(True)
    progress.say("nothing")
    assert list(progress.track([1], description="reading", total=1)) == [1]
    assert capsys.readouterr().err == ""


def test_long_tasks_are_counted_in_lines_where_there_is_no_terminal(loud, capsys, monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.overall("sweep", total=4, done=1) as bar:
        for done in (2, 2, 3, 4):
            bar.update(done)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["sweep: 1/4 done before", "sweep: 2/4, 20 s left", "sweep: 3/4, 10 s left", "sweep: 4/4 in 30.0 s"]


def test_a_bar_over_other_bars_on_a_terminal(loud, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.overall("sweep", total=2) as bar:
        for done in (1, 2):
            assert list(progress.track([1, 2, 3], description="reading", total=3)) == [1, 2, 3]
            bar.update(done)
        progress.say("between the bars")
    assert progress._bars is None
    written = terminal.getvalue()
    assert all(text in written for text in ("sweep", "reading", "2/2", "between the bars", "ETA"))
    assert sys.stderr is terminal


def test_quiet_sweeps_say_nothing(capsys):
    progress.set_quiet(True)
    with progress.overall("sweep", total=1) as bar:
        bar.update(1)
    assert capsys.readouterr().err == ""
