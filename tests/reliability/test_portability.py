"""The whole journey where machines differ: names of folders, no home, no terminal, no network, another locale."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from crdkit.data.synthetic import write_folder

ROOT = Path(__file__).resolve().parents[2]
ODD = "späce ünd 日本 'q' #1"
TINY = (
    *("data.category=gear", "data.image_size=32", "training.device=cpu", "training.epochs=1", "student.depths=1"),
    *("student.embedding_blocks=1", "graph.filter.size=2", "training.batch_size=4", "modalities.depth=null"),
    "modalities.rgb.encoder={name: timm, model: test_resnet, pretrained: false}",
)
NO_NETWORK = """
import socket, sys

def refuse(*_, **__):
    raise OSError("this machine has no network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""

ONE_AFTER_THE_OTHER = """
import json, sys

from crdkit.cli import main

for arguments in json.loads(sys.argv[1]):
    code = main(arguments)
    if code:
        sys.exit(code)
"""
"""Most of a command's time is that of its imports."""


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A function that runs crdkit as on a bare machine, and returns what it printed."""
    place = tmp_path_factory.mktemp("bare") / ODD
    (place / "temporary").mkdir(parents=True)
    (place / "patch").mkdir()
    (place / "patch" / "sitecustomize.py").write_text(NO_NETWORK)
    kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS", "LD_LIBRARY_PATH") if name in os.environ}
    environment = {
        **kept,
        "HOME": "/nonexistent",
        "TMPDIR": str(place / "temporary"),
        "LC_ALL": "C",
        "PYTHONPATH": os.pathsep.join([str(place / "patch"), str(ROOT)]),
        "HF_HUB_OFFLINE": "1",
    }

    def run(*commands, code=0):
        """Run one command as its user does, or several in one process."""
        texts = [[str(argument) for argument in command] for command in commands]
        program = ["-m", "crdkit", *texts[0]] if len(texts) == 1 else ["-c", ONE_AFTER_THE_OTHER, json.dumps(texts)]
        done = subprocess.run(
            [sys.executable, *program],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        output = done.stdout.decode() + done.stderr.decode()  # UTF-8, or this fails
        assert done.returncode == code, output
        assert "Traceback" not in output
        assert "\x1b[" not in output, "colours without a terminal"
        return output

    return place, run


def test_train_predict_and_report_in_an_odd_folder_on_a_bare_machine(bare):
    place, run = bare
    root = write_folder(place / "dätä 数", categories=["gear"], train=4, test_good=2, test_per_defect=1, size=32)
    options = [option for option in TINY if not option.startswith("data.category")]
    options += ["data.name=folder", f"data.root={root}", "data.category=gear"]
    out = place / "rün 1"
    run(["train", "quick", *options, "--out", out])
    assert json.loads((out / "metrics.json").read_text(encoding="utf-8"))["counts"]["test"] > 0
    assert (out / "report.html").stat().st_size > 10_000

    image = next((root / "gear").rglob("rgb/*.png"))
    printed = run(
        ["predict", out, root / "gear" / "test" / "good", "--out", place / "fünd"],
        ["predict", out, f"rgb={image}", "--out", place / "eins"],
        ["data", "check", root / "gear"],
        ["describe", out],
    )
    assert "test_resnet" in printed  # its teacher, as describe names it
    assert (place / "eins" / "scores.csv").exists()
    with (place / "fünd" / "scores.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2
    assert len(list((place / "fünd" / "overlays").rglob("*.png"))) == 2
    message = run(["predict", out, place / "nöwhere", "--out", place / "x"], code=2)
    assert "nöwhere" in message

    written = [path for folder in (out, place / "fünd") for path in folder.rglob("*")]
    hostile = re.compile(r'[<>:"|?*\\]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)
    assert not [path for path in written if hostile.search(path.name)], "a name that Windows refuses"
    left = [
        path.name for path in (place / "temporary").iterdir() if not path.name.startswith("torchinductor_")
    ]  # torch's
    assert left == []


def test_nothing_in_the_package_names_a_folder_of_one_system():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "crdkit").rglob("*.py")]
    assert not [found for text in sources for found in re.findall(r"""["'](/tmp|/var|/home|C:\\)[^"']*["']""", text)]


def test_every_text_file_is_opened_with_its_encoding():
    """Without one, Windows and old locales read and write another."""
    for path in sorted((ROOT / "crdkit").rglob("*.py")):
        for line in path.read_text(encoding="utf-8").splitlines():
            opened = re.search(r"""\.(read_text|write_text)\(|\.open\(["'][rwax]\+?["']""", line)
            assert not opened or "encoding" in line or ">>>" in line or "... " in line, f"{path}: {line}"
