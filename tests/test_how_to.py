"""The how-to recipes: every block runs as typed, in a folder with the names that the recipes use."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from PIL import Image
from typer.main import get_command

from crdkit._core.progress import set_quiet
from crdkit.cli import main
from crdkit.cli.app import app
from crdkit.config import load_config
from crdkit.detector import Detector

FOLDER = Path(__file__).parents[1] / "docs/how-to"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.stem != "index")
BLOCK = re.compile(r'^```(sh|python|csv)(?: title="([\w./]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
WRITES = {
    "compare-runs": ["comparison.html"],
    "decode-once": ["cache", "runs/second/metrics.json"],
    "interruption": ["runs/long/metrics.json"],
    "manifest": ["runs/boards/metrics.json"],
    "more-good-parts": ["runs/bagel-decided/config.json"],
    "other-data": ["evaluated/scores.csv"],
    "read-scores": ["found/predictions.jsonl"],
    "which-sensor": ["found/scores.csv"],
}
SLOW = ("--check", "--compile")
"""What other tests run: these lines are only understood."""
SMALL = [option for option in TINY if not option.startswith(("data.", "modalities", "training.epochs"))]


@pytest.fixture
def desk(finished, scans, tmp_path, monkeypatch):
    """The working directory of the recipes' reader."""
    good = scans / "biscuit/test/good"
    for category in ("bagel", "biscuit"):  # the run was trained on biscuit
        shutil.copytree(scans / "biscuit", tmp_path / "scans" / category)
    shutil.copytree(scans, tmp_path / "moved")
    shutil.copytree(finished, tmp_path / "runs/bagel", ignore=shutil.ignore_patterns("checkpoints"))
    for name in ("new", "new-good"):
        shutil.copytree(good, tmp_path / name, ignore=shutil.ignore_patterns("gt"))
    shutil.copy(good / "rgb/000.png", tmp_path / "part.png")
    shutil.copy(good / "xyz/000.tiff", tmp_path / "part.tiff")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_table(path, text):
    """Write a manifest and made-up 8-bit images for the files that it names."""
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    rng = np.random.default_rng(0)
    for name in re.findall(r"[\w/]+\.png", text):
        file = path.parent / name
        file.parent.mkdir(exist_ok=True)
        colour = file.stem.startswith("a")
        pixels = rng.integers(0, 256, (64, 64, 3) if colour else (64, 64), dtype=np.uint8)
        Image.fromarray(pixels if file.parent.name != "marks" else pixels // 250).save(file)


def write_network(path):
    """Write the smallest ONNX file there is, in place of an export, which takes seconds."""
    helper = pytest.importorskip("onnx").helper
    ends = [helper.make_tensor_value_info(name, 1, ["N"]) for name in ("rgb", "score")]
    graph = helper.make_graph([helper.make_node("Identity", ["rgb"], ["score"])], "part", ends[:1], ends[1:])
    opset = helper.make_opsetid("", 18)
    path.write_bytes(helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString())


def understood(words):
    """Check a command's options and, of a training, its keys and values; return the configuration."""
    command = get_command(app).commands[words[0]]
    command.make_context(words[0], words[1:])
    if words[0] in ("train", "sweep"):
        return load_config(words[1]).with_overrides(*(word for word in words[2:] if "=" in word))
    return None


def run(line, monkeypatch, *, used):
    """Run a line of a shell block; of a training whose run nothing ``used``, its configuration is built."""
    program, *words = shlex.split(line, comments=True)
    if program == "export":
        monkeypatch.setenv(*words[0].split("="))
        return
    if program == "python":
        assert (FOLDER.parents[1] / words[0]).exists(), line
        return
    if program == "torchrun":
        program, *words = words[words.index("-m") + 1 :]
        used = False
    assert program == "crdkit", line
    config = understood(words)
    if config is not None:
        teacher = "encoder={name: timm, model: test_resnet, pretrained: false}"
        words = [word.replace("data.category=bagel", "data.category=biscuit") for word in words]
        words += [*SMALL, "data.image_size=32", "training.epochs=1"]
        words += [f"modalities.{name}.{teacher}" for name in config.modalities]
    if (config is None or used) and not any(option in words for option in SLOW):
        assert main(words) == 0, line
        set_quiet(True)


def columns_exist(text):
    """Check what a block asks of a table, where pandas is not installed."""
    header = Path("found/scores.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    named = {name for found in re.findall(r'\[+("[^\]]+)\]', text) for name in re.findall(r'"(\w+)"', found)}
    assert named
    assert named <= set(header)


@pytest.mark.filterwarnings("ignore::crdkit.errors.FewNormalsWarning")
@pytest.mark.usefixtures("without_reports")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_recipe_runs_as_typed(page, desk, monkeypatch, capsys):
    recipe = page.read_text(encoding="utf-8")
    blocks = BLOCK.findall(recipe)
    assert blocks, "a recipe has something to type"
    written = WRITES.get(page.stem, [])
    monkeypatch.setattr(Detector, "compile", lambda self: self)  # takes seconds; test_onnx_runtime.py compiles
    if page.stem == "export-and-check":
        write_network(desk / "part.onnx")
    for language, title, text in blocks:
        if language == "csv":
            write_table(desk / title, text)
        elif language == "sh":
            for line in text.splitlines():
                out = line.partition("--out ")[2].split(" ")[0]
                run(line, monkeypatch, used=recipe.count(out) > 1 or any(out in name for name in written))
        elif "import pandas" in text and importlib.util.find_spec("pandas") is None:
            columns_exist(text)
        else:
            exec(compile(text, page.name, "exec"), {})
    for name in written:
        assert (desk / name).exists(), name
    if page.stem == "missing-sensor":
        assert "('depth',)" in capsys.readouterr().out


@pytest.mark.usefixtures("desk")
def test_the_program_that_watches_runs(capsys):
    page = (FOLDER.parent / "watch.md").read_text(encoding="utf-8")
    (program,) = (text for language, _, text in BLOCK.findall(page) if language == "python")
    exec(compile(program.replace("/data/line", "new"), "watch.md", "exec"), {})
    assert capsys.readouterr().out.startswith("3 ")


def test_every_recipe_is_listed_and_in_the_navigation():
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    navigation = (FOLDER.parents[1] / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES:
        assert f"({page.name})" in index
        assert f"how-to/{page.name}" in navigation
