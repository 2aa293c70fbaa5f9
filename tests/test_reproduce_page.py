"""The pages Reproduce and Fidelity: their commands are understood, and the one-line table comes out as typed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from conftest import TINY

from crdkit._core.progress import set_quiet
from crdkit.cli import main
from crdkit.config import RunConfig, preset_names

PAGE = Path(__file__).parents[1] / "docs/reproduce.md"
FIDELITY = PAGE.with_name("fidelity.md")
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs the docs beside the tests")


def lines():
    """Every line of the shell blocks of both pages."""
    text = PAGE.read_text(encoding="utf-8") + FIDELITY.read_text(encoding="utf-8")
    return [
        line
        for block in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
    ]


def words_of(line):
    """The commands of a line, each split into words."""
    return [shlex.split(command) for command in line.split(" && ")]


def test_the_commands_of_the_page_are_understood():
    found = [words for line in lines() for words in words_of(line)]
    scripts = [command for command in found if command[:2] == ["python", "-m"]]
    assert {command[2] for command in scripts} == {"benchmarks.published_masks", "benchmarks.cudnn_settings"}
    assert all((PAGE.parents[1] / f"{command[2].replace('.', '/')}.py").exists() for command in scripts)
    words = [command for command in found if command not in scripts and command[:2] != ["crdkit", "data"]]
    assert {command[0] for command in words} == {"crdkit"}
    assert {"sweep", "train", "evaluate"} == {command[1] for command in words}
    published = {name for name in preset_names() if name.startswith(("crd-", "trd-", "rd-"))}
    assert {command[2] for command in words} == {*published, "quick", "quick-eyecandies-rdn"}
    for command in words:
        overrides = [word for word in command[3:] if "=" in word]
        run = RunConfig.preset(command[2]).with_overrides(*overrides)
        assert run.data.root is not None
        assert "--out" in command
        assert run.data.category is not None or command[1] == "sweep"


@pytest.mark.usefixtures("without_reports")
def test_the_table_of_a_data_set_never_seen(tmp_path, monkeypatch, capsys):
    """As typed there, with what makes it small appended."""
    (line,) = (line for line in lines() if " && " in line)
    made, swept = words_of(line)
    monkeypatch.chdir(tmp_path)
    counts = ["--train", "5", "--validation", "2", "--test-good", "1", "--test-per-defect", "1"]
    small = [override for override in TINY if not override.startswith("data.category")]
    assert main([*made[1:], *counts, "--size", "64"]) == 0
    assert main([*swept[1:], *small, "training.epochs=1"]) == 0
    set_quiet(True)
    table = json.loads((tmp_path / "runs/synthetic/results.json").read_text())
    assert list(table["categories"]) == ["biscuit", "capsule", "gear"]
    assert table["seeds"] == [0, 1]
    assert all(table["categories"][name]["runs"].keys() == {"0", "1"} for name in table["categories"])
    assert table["skipped"] == []
    rows = [
        line.split("|")[1].strip() for line in (tmp_path / "runs/synthetic/results.md").read_text().splitlines()[2:6]
    ]
    assert rows == ["biscuit", "capsule", "gear", "mean"]
