"""The page Compose, block by block: what a reader copies is what runs here."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from crdkit._core.progress import set_quiet
from crdkit.cli import main
from crdkit.config.catalogue import REGISTRIES

PAGE = Path(__file__).parents[1] / "docs/compose.md"
SENSORS = ["rgb", "depth", "normals", "infrared"]
PARTS = {"modality": "local_contrast", "encoder": "gabor", "amplifier": "depthwise", "aggregation": "top_mean"}


class Block(NamedTuple):
    language: str
    title: str
    text: str


BLOCKS = [
    Block(*found)
    for found in re.findall(
        r'^```(\w+)(?: title="([\w.]+)")?\n(.*?)^```$', PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory; what is imported and registered from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # no word of a table is wrapped
    monkeypatch.setattr(sys, "path", list(sys.path))
    for registry in REGISTRIES.values():
        registry.names()
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def run(command: str) -> None:
    program, *arguments = shlex.split(command)
    if program == "pytest":
        assert pytest.main(["-p", "no:cacheprovider", *arguments]) == 0, command
        return
    assert program == "crdkit"
    assert main(arguments) == 0, command
    set_quiet(True)


def test_the_page_is_short():
    lines = [line for block in BLOCKS if block.language != "mermaid" for line in block.text.splitlines()]
    assert 40 < len([line for line in lines if line.strip()]) < 80


def test_the_page_does_what_it_says(folder, capsys):
    printed = {}
    for block in BLOCKS:
        if block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            for command in block.text.splitlines():
                run(command)
                printed[command] = capsys.readouterr().out
        elif block.language == "python":
            exec(compile(block.text, PAGE.name, "exec"), {})
            printed["predict"] = capsys.readouterr().out

    assert [block.text for block in BLOCKS if block.language == "mermaid"] == [
        printed["crdkit describe run.yaml --allow-plugins --mermaid"]
    ]
    for part in PARTS.values():
        assert part in printed["crdkit list --config run.yaml --allow-plugins"]
    described = printed["crdkit describe run.yaml --allow-plugins"]
    assert all(part in described for kind, part in PARTS.items() if kind in ("encoder", "amplifier"))
    assert all(f"rgb -> {name}" in described and f"{name} -> rgb" in described for name in SENSORS[1:])
    assert "1 passed" in printed["pytest -q test_my_parts.py"]

    metrics = json.loads((folder / "runs/gear/metrics.json").read_text())
    assert list(metrics["branches"]) == SENSORS
    assert metrics["aggregate"]["image_auroc"] is not None
    assert (folder / "runs/gear/report.html").is_file()
    assert re.fullmatch(rf"-?[\d.]+ \(128, 128\) {re.escape(str(SENSORS))}\n", printed["predict"])
