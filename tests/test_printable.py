"""Names of files are shown, never obeyed: escape sequences, line breaks and undecodable bytes in what is printed."""

from __future__ import annotations

import shutil

import pytest

from crdkit._core.printable import printable
from crdkit.cli import main
from crdkit.cli.output import plain, show

HOSTILE = "a\x1b[31m\nb\u202e"
SHOWN = r"a\x1b[31m\nb\u202e"


def test_what_a_terminal_shows_stays_and_all_else_is_escaped():
    assert printable("späce ünd 日本 [x] ±") == "späce ünd 日本 [x] ±"
    assert printable(HOSTILE) == SHOWN


def test_errors_and_lines_escape_names(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path / HOSTILE)]) == 2
    show(f"skipped: {HOSTILE}")
    printed = capsys.readouterr()
    assert SHOWN in printed.err
    assert printed.out == f"skipped: {SHOWN}\n"
    assert len(printed.err.splitlines()) == 1


def test_cells_of_plain_tables_escape_names():
    from rich.table import Table

    table = Table("name")
    table.add_row("a\x1b[31m")
    assert plain(table).splitlines()[1] == r"a\x1b[31m"


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\nb", "a\udcff"])
def test_a_sample_with_such_a_name_is_predicted(finished, scans, tmp_path, capsys, name):
    source = scans / "biscuit/test/good"
    for sensor, ending in (("rgb", ".png"), ("xyz", ".tiff")):
        (tmp_path / "line" / sensor).mkdir(parents=True)
        shutil.copy(source / sensor / f"000{ending}", tmp_path / "line" / sensor / f"{name}{ending}")
    assert main(["-q", "predict", str(finished), str(tmp_path / "line")]) == 0
    assert f"rgb/{printable(name)}.png" in capsys.readouterr().out
