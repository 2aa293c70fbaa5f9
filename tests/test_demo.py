from __future__ import annotations

import socket

import pytest

from crdkit._core.progress import set_quiet
from crdkit.cli import demo, main
from crdkit.config import RunConfig

SMALL = {"train": 4, "validation": 2, "test_good": 2, "test_per_defect": 1, "size": 64}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(demo, "SAMPLES", SMALL)
    monkeypatch.setattr(demo, "OVERRIDES", ("data.image_size=64", "training.epochs=1", "graph.filter.size=2"))


def test_demo_ends_with_table_and_reports_without_a_network(small, tmp_path, capsys, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("the demo opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert main(["--quiet", "demo", "--out", str(tmp_path / "demo")]) == 0
    set_quiet(True)
    printed = capsys.readouterr().out
    assert "AU-PRO@30%" in printed
    for category in demo.CATEGORIES:
        report = tmp_path / "demo/runs" / category / "report.html"
        assert report.is_file()
        assert str(report) in printed
        assert (tmp_path / "demo/data" / category / "test/dent/gt").is_dir()


def test_demo_never_overwrites(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep me")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]


def test_the_demo_trains_the_preset_quick(tmp_path):
    run = demo.demo_config(tmp_path, "gear")
    quick = RunConfig.preset("quick")
    assert (run.modalities, run.graph, run.student) == (quick.modalities, quick.graph, quick.student)
