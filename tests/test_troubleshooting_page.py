"""docs/troubleshooting.md: every command is given, and ends in the message that the page shows."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import crdkit
from crdkit.cli import main

PAGE = Path(__file__).parents[1] / "docs/troubleshooting.md"
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    (command, message)
    for block in BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    for command, message in re.findall(r"^\$ crdkit (.*)\n(error: .*)$", block, re.MULTILINE)
]


@pytest.fixture(scope="module")
def desk(finished, tmp_path_factory):
    """A folder with what the page describes."""
    from crdkit.data.synthetic import write_mvtec3d

    folder = tmp_path_factory.mktemp("desk")
    scans = write_mvtec3d(folder / "scans", categories=["gear"], train=3, test_good=1, test_per_defect=1, size=64)
    shutil.copytree(finished, folder / "runs/gear")
    damaged, unpaired, leak = (folder / name for name in ("damaged", "unpaired", "leak"))
    for copy in (damaged, unpaired, leak):
        shutil.copytree(scans, copy)
    file = damaged / "gear/train/good/xyz/000.tiff"
    file.write_bytes(file.read_bytes()[:2000])
    (unpaired / "gear/train/good/xyz/000.tiff").unlink()
    for sensor in ("rgb/000.png", "xyz/000.tiff"):
        shutil.copy(leak / "gear/train/good" / sensor, leak / "gear/test/good" / sensor)
    scan = tifffile.imread(scans / "gear/test/good/xyz/000.tiff")
    tifffile.imwrite(folder / "millimetres.tiff", np.float32(1000) * scan, photometric="rgb")
    Image.open(scans / "gear/test/good/rgb/000.png").resize((32, 32)).save(folder / "small.png")
    (folder / "text.png").write_text("hello", encoding="utf-8")
    (folder / "stranger.yaml").write_text("base: quick\nplugins: [strangers_code]\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(("command", "message"), EXAMPLES, ids=[command[:60] for command, _ in EXAMPLES])
def test_the_message_is_the_one_on_the_page(desk, monkeypatch, capsys, command, message):
    monkeypatch.chdir(desk)
    before = sorted(path for path in desk.rglob("*") if "runs/new" not in path.as_posix())
    assert main(shlex.split(command)) == 2
    error = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert re.fullmatch(".*".join(map(re.escape, message.split("..."))), error), error
    assert sorted(path for path in desk.rglob("*") if "runs/new" not in path.as_posix()) == before


def test_the_page_names_every_class_of_error_and_twenty_messages():
    text = PAGE.read_text(encoding="utf-8")
    classes = [name for name in crdkit.errors.__dict__ if name.endswith("Error") and not name.startswith("_")]
    assert all(f"`{name}`" in text for name in classes), classes
    assert text.count("\n### ") >= 20
