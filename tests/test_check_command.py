"""crdkit data check: which layout it took and why, what a training would refuse, and the command that trains."""

from __future__ import annotations

import re
import shlex
import shutil

import numpy as np
import pytest
import tifffile
from conftest import TINY
from PIL import Image

from crdkit._core.progress import set_quiet
from crdkit.cli import main
from crdkit.config.suggest import suggest_training
from crdkit.data.discover import recognise
from crdkit.data.synthetic import write_eyecandies, write_folder
from crdkit.runs.directory import read_metrics

SMALL = [text for text in TINY if not text.startswith(("data.category", "modalities"))]
TEACHER = "encoder={name: timm, model: test_resnet, pretrained: false}"


def check(capsys, folder, *options):
    code = main(["data", "check", str(folder), *options])
    set_quiet(True)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def command_in(out):
    (line,) = (line for line in out.splitlines() if line.startswith("train: "))
    return shlex.split(line.removeprefix("train: "))


def train(out, *modalities, options=()):
    """Run the printed command, with what makes it small."""
    program, *words = command_in(out)
    assert (program, words[0], words[-2]) == ("crdkit", "train", "--out")
    small = [*SMALL, "training.epochs=1", *(f"modalities.{name}.{TEACHER}" for name in modalities), *options]
    code = main(["-q", *words[:-2], *small, *words[-2:]])
    set_quiet(True)
    return code


@pytest.fixture
def category(scans, tmp_path, monkeypatch):
    """A copy of the tiny data set in the layout mvtec3d; runs are written beside it."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(scans / "biscuit", tmp_path / "data/biscuit")


def test_sound_data_gets_its_layout_and_the_shortest_command(category, capsys):
    code, out, _ = check(capsys, category)
    assert code == 0
    assert f"{category} (mvtec3d)" in out
    assert "not the layout" not in out
    root = category.parent
    assert command_in(out) == shlex.split(
        f"crdkit train quick data.root={root} data.category=biscuit --out runs/biscuit"
    )


@pytest.mark.usefixtures("without_reports")
def test_a_jpeg_among_png_files_is_another_layout_and_the_command_says_so(category, capsys):
    picture = category / "train/good/rgb/000.png"
    Image.open(picture).save(picture.with_suffix(".jpg"))
    picture.unlink()
    code, out, _ = check(capsys, category, "--verbose")
    assert code == 0
    assert f"{category} (folder)" in out
    assert f"not the layout mvtec3d: {picture.with_suffix('.jpg')}: expected .png files only" in out
    assert "data.name=folder" in command_in(out)
    assert train(out, "rgb", "depth") == 0
    assert read_metrics("runs/biscuit")["counts"]["train"] == 6


@pytest.mark.usefixtures("without_reports")
def test_without_validation_it_is_held_out_by_the_command_that_is_printed(category, capsys):
    shutil.rmtree(category / "validation")
    code, out, _ = check(capsys, category, "--verbose")
    assert code == 0
    assert "not the layout mvtec3d: " in out
    assert "the folder of the split 'validation' does not exist" in out
    assert train(out, "rgb", "depth") == 0
    assert read_metrics("runs/biscuit")["counts"] == {"train": 5, "validation": 1, "test": 15}


def test_the_layout_can_be_demanded_and_then_refuses_what_a_training_refuses(category, capsys):
    shutil.rmtree(category / "validation")
    code, out, err = check(capsys, category, "--layout", "mvtec3d")
    assert code == 2
    assert "error: " in out
    assert "data.name=folder holds out a share of the training samples" in out
    assert "train: " not in out
    assert "1 error above" in err


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """Six good parts of three oddly named sensors: a colour camera, 16-bit heat, depth in 16-bit millimetres."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    columns = np.mgrid[:64, :64][1]
    for part in range(6):
        arrays = {
            "keys": rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
            "cam-2 (IR)": rng.integers(29_000, 31_000, (64, 64), dtype=np.uint16),
            "tof": (700 + columns // 4 + rng.integers(0, 2, (64, 64)) - 40 * (columns > 30)).astype(np.uint16),
        }
        for name, array in arrays.items():
            path = tmp_path / "parts/train" / name / f"{part}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return tmp_path / "parts"


@pytest.mark.usefixtures("without_reports")
def test_sensors_of_any_name_get_their_modalities(odd, capsys):
    code, out, _ = check(capsys, odd)
    assert code == 0
    assert re.search(r"note: sensor 'cam-2 \(IR\)' is seen from 28[12]\d\d to 31[78]\d\d, by 6 normal samples", out)
    assert "note: sensor 'tof' is taken for depth in millimetres, by its name" in out
    words = command_in(out)
    assert words[:4] == ["crdkit", "train", "quick", "data.name=folder"]
    assert words[5:8] == ["data.category=parts", "data.scale.tof=0.001", "modalities.rgb=null"]
    assert [word.partition("=")[0] for word in words[8:-2]] == [
        "modalities.depth",
        "modalities.cam_2__IR_",
        "modalities.sensor_keys",
        "modalities.tof",
    ]
    assert train(out, "cam_2__IR_", "sensor_keys", "tof") == 0
    assert read_metrics("runs/parts")["counts"] == {"train": 5, "validation": 1, "test": None}


def test_options_of_the_data_can_be_given_and_are_in_the_command(odd, capsys):
    code, out, _ = check(capsys, odd, "data.scale.tof=0.002", "data.validation_share=0.5")
    assert code == 0
    assert "by its name" not in out
    assert command_in(out)[6:8] == ["data.scale.tof=0.002", "data.validation_share=0.5"]
    assert re.search(r"note: sensor 'cam-2 \(IR\)' is seen from 28[12]\d\d to 31[78]\d\d, by 6 normal samples", out)
    code, _, err = check(capsys, odd, "training.epochs=3")
    assert (code, err.count("only data.* keys that say how DIR is read can be set here")) == (2, 1)


def test_what_no_modality_can_read_is_an_error_of_the_check(tmp_path, capsys):
    for part in range(3):
        path = tmp_path / f"parts/train/depth/{part}.tiff"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, np.full((64, 64), 5000 + part, np.float32))
    code, out, err = check(capsys, tmp_path / "parts")
    assert code == 2
    assert "error: a training would refuse it: " in out
    assert "modality 'depth' cannot be made of it: sensor 'depth': a coordinate of 500" in out
    assert "train: " not in out
    assert "1 error above" in err


def test_layouts_with_a_preset_of_their_own_get_it(tmp_path):
    options = {"categories": ["gear"], "train": 2, "validation": 1, "test_good": 1, "test_per_defect": 1, "size": 64}
    write_eyecandies(tmp_path / "candies", **options)
    (found,) = recognise(tmp_path / "candies")
    suggested = suggest_training(found.dataset)
    assert suggested.preset == "quick-eyecandies"
    assert suggested.overrides == (f"data.root={tmp_path / 'candies'}", "data.category=Gear")
    assert suggested.config().data.category == "Gear"


def test_many_sensors_are_suggested_in_a_star(tmp_path):
    options = {"categories": ["gear"], "train": 2, "validation": 1, "test_good": 1, "test_per_defect": 0, "size": 32}
    lights = [f"light_{light}" for light in range(5)]
    write_folder(tmp_path / "parts", sensors=lights, **options)
    (found,) = recognise(tmp_path / "parts")
    suggested = suggest_training(found.dataset)
    assert suggested.overrides[-3:] == ("graph.topology=star", "graph.hub=light_0", "graph.merge=mean")
    assert suggested.notes == (
        "5 modalities help each other through 'light_0': with all pairs, the cost grows with the square",
    )
    assert list(suggested.config().modalities) == lights
