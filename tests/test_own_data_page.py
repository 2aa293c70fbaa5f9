"""The page on one's own data: files are made as it lists them, commands are run as typed, every key is there."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from conftest import TINY
from PIL import Image

from crdkit._core.progress import set_quiet
from crdkit.cli import main
from crdkit.config import load_config
from crdkit.data import datasets
from crdkit.runs.directory import read_metrics

PAGE = Path(__file__).parents[1] / "docs/own-data.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs the docs beside the tests")
TEXT = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
BLOCKS = {
    (language, title): text
    for language, title, text in re.findall(r'^```(\w+) title="([\w./]+)"\n(.*?)^```$', TEXT, re.MULTILINE | re.DOTALL)
}
SMALL = [text for text in TINY if not text.startswith(("data.category", "modalities", "training.epochs"))]
SIDE = 64


def picture(kind, seed):
    """What the page says of a file: an array that differs from file to file."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    raised = ((rows - 32) ** 2 + (columns - 32) ** 2 < 400) * (1 + 0.1 * rng.random((SIDE, SIDE)))
    return {
        "colour": rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8),
        "16-bit depth, millimetres": np.round(700 + 0.1 * columns - 40 * raised).astype(np.uint16),
        "16-bit heat": rng.integers(29_000, 31_000, (SIDE, SIDE), dtype=np.uint16),
        "scan, metres": np.stack([columns / 1000, rows / 1000, 0.7 - 0.04 * raised], -1).astype(np.float32),
        "mask": ((rows < 9) & (columns < 9)).astype(np.uint8),
    }[kind]


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tiff":
        tifffile.imwrite(path, array, photometric="rgb" if array.ndim == 3 else "minisblack")
    else:
        Image.fromarray(array).save(path)


def make(listing, root):
    """Make the files of a listing: ``folder/000.png ... 011.png   what they are``."""
    seed = 0
    for line in listing.splitlines():
        folder, first, last, kind = re.fullmatch(r"(.+)/(\w+\.\w+) \.\.\. (\w+\.\w+) +(.+)", line).groups()
        start, ending = re.fullmatch(r"(\D*)\d+(\.\w+)", first).groups()
        low, high = (re.search(r"\d+", name)[0] for name in (first, last))
        for number in range(int(low), int(high) + 1):
            seed += 1
            save(root / folder / f"{start}{number:0{len(low)}d}{ending}", picture(kind, seed))


def run(title):
    """Run the commands of a block as typed; a training gets what makes it small, without its teachers' weights."""
    for line in BLOCKS["sh", title].splitlines():
        program, *words = shlex.split(line)
        assert program == "crdkit"
        if words[0] == "train":
            config = load_config(words[1]).with_overrides(*(word for word in words[2:] if "=" in word))
            teacher = "encoder={name: timm, model: test_resnet, pretrained: false}"
            words += [*SMALL, "training.epochs=1", *(f"modalities.{name}.{teacher}" for name in config.modalities)]
        assert main(words) == 0, line
        set_quiet(True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory of the page's reader."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("without_reports")
def test_colour_and_depth_in_millimetres(folder, capsys):
    make(BLOCKS["text", "gears"], folder)
    run("gears")
    assert read_metrics(folder / "runs/gears")["counts"] == {"train": 11, "validation": 1, "test": 8}
    out = capsys.readouterr().out
    assert "data.scale.depth=0.001 'modalities.depth={name: depth, sensor: depth, " in out
    assert "found/gears: 4 samples" in out


@pytest.mark.usefixtures("without_reports")
def test_three_sensors_and_good_parts_only(folder, capsys):
    make(BLOCKS["text", "castings"], folder)
    (folder / "castings.yaml").write_text(BLOCKS["yaml", "castings.yaml"], encoding="utf-8")
    run("castings")
    metrics = read_metrics(folder / "runs/castings")
    assert metrics["counts"] == {"train": 18, "validation": 2, "test": None}
    assert list(metrics["branches"]) == ["left", "heat", "laser"]
    out = capsys.readouterr().out
    assert "modalities.cam_left={name: rgb, sensor: cam-left, " in out  # what the check proposes
    assert "found/castings: 4 samples" in out


@pytest.mark.usefixtures("without_reports")
def test_heat_in_a_table(folder, capsys):
    table = BLOCKS["csv", "boards/manifest.csv"]
    rows = list(csv.DictReader(table.splitlines()))
    for seed, row in enumerate(rows):
        save(folder / "boards" / row["thermal"], picture("16-bit heat", seed))
        if row["mask"]:
            save(folder / "boards" / row["mask"], picture("mask", seed))
    (folder / "boards/manifest.csv").write_text(table, encoding="utf-8")
    run("boards")
    metrics = read_metrics(folder / "runs/boards")
    assert metrics["counts"] == {"train": 4, "validation": 1, "test": 4}
    assert re.search(
        r"sensor 'thermal' is seen from 28[12]\d\d to 31[78]\d\d, by 5 normal samples", capsys.readouterr().out
    )


def test_a_folder_that_nobody_described(folder, capsys):
    make(BLOCKS["text", "line3"], folder)
    run("line3")
    out = capsys.readouterr().out.replace(str(folder.resolve()), "/data")
    assert out == BLOCKS["text", "line3/output"]


def test_the_manifest_of_the_page_is_read(folder):
    (folder / "manifest.yaml").write_text(BLOCKS["yaml", "manifest.yaml"], encoding="utf-8")
    for part in ("monday", "tuesday", "wednesday", "thursday/fine", "thursday/scratched"):
        save(folder / part / "a/colour.png", picture("colour", 0))
        save(folder / part / "a/heat.tiff", picture("16-bit heat", 0))
        save(folder / part / "a/label.png", picture("mask", 0))
    data = datasets.build(datasets.build_config({"name": "folder", "root": folder}))
    assert [len(data.records(split)) for split in ("train", "validation", "test")] == [2, 1, 2]
    assert data.records("test")[1].mask_file == folder / "thursday/scratched/a/label.png"


def test_every_option_is_in_the_table():
    fields = datasets.get("folder").Config.model_fields
    described = set(re.findall(r"`data\.(\w+)`", TEXT.partition("## Options")[2].partition("###")[0]))
    assert described == fields.keys()
    for key, default in re.findall(r"^\| `data\.(\w+)` \| (\S+) \|", TEXT, re.MULTILINE):
        assert yaml.safe_load(default) == fields[key].default, key


def test_the_page_is_in_the_navigation_and_linked():
    root = PAGE.parents[1]
    assert "own-data.md" in (root / "mkdocs.yml").read_text(encoding="utf-8")
    for page in ("README.md", "docs/index.md", "docs/predict.md"):
        link = PAGE.relative_to((root / page).parent).as_posix()
        assert f"({link})" in (root / page).read_text(encoding="utf-8")
