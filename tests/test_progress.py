from __future__ import annotations

import io
import sys

import pytest

from crdkit import progress


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


def test_quiet_means_quiet(capsys):
    progress.set_quiet(True)
    progress.say("nothing")
    assert list(progress.track([1], description="reading", total=1)) == [1]
    assert capsys.readouterr().err == ""
