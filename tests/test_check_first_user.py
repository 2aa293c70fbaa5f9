"""crdkit data check with a run's options, of samples without labels, and of a sensor's own folder."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from crdkit._core.progress import set_quiet
from crdkit.cli import main
from crdkit.config import RunConfig
from crdkit.data import datasets
from crdkit.data.discover import open_samples
from crdkit.errors import DataError
from crdkit.views.depth import Depth

TEACHER = "encoder: {name: timm, model: test_resnet, pretrained: false}"
RUN = f"""
data: {{name: folder, root: parts, scale: {{height: 0.0001}}, validation_share: 0.5, image_size: 64}}
modalities:
  top: {{name: rgb, sensor: cam, {TEACHER}}}
  height: {{name: depth, sensor: height, {TEACHER}}}
"""


def write(folder, count, seed=0):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:64, :64]
    part = (rows - 32) ** 2 + (columns - 32) ** 2 < 300
    for number in range(count):
        arrays = {
            "cam": rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
            "height": (6000 - 120 * part + rng.integers(0, 8, (64, 64))).astype(np.uint16),
        }
        for name, array in arrays.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Six good parts of a camera and of heights in tenths of a millimetre, and a run that reads them."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "parts/train", 6)
    (tmp_path / "parts.yaml").write_text(RUN)
    return tmp_path / "parts"


def check(capsys, folder, *options):
    """Return the exit code and the one data set of the document."""
    code = main(["data", "check", str(folder), *options, "--json"])
    set_quiet(True)
    (found,) = json.loads(capsys.readouterr().out)["datasets"]
    return code, found


def test_the_options_of_the_data_are_those_of_the_run(parts, capsys):
    code, found = check(capsys, parts, "--config", "parts.yaml")
    assert [finding for finding in found["findings"] if finding["severity"] != "note"] == []
    assert code == 0
    assert found["counts"] == {"train": {"good": 3}, "validation": {"good": 3}}
    assert found["train"] == "crdkit train parts.yaml --out runs/parts"


def test_which_way_depth_goes_is_said_where_it_is_proposed(parts, capsys):
    assert main(["data", "check", str(parts), "data.scale.height=0.0001"]) == 0
    set_quiet(True)
    said = "note: sensor 'height' is in metres by data.scale, and is seen as depth: large values are far; "
    assert said in capsys.readouterr().out


def test_overrides_and_the_folder_win_over_the_run_and_are_in_the_command(parts, capsys):
    code, found = check(capsys, parts, "data.validation_share=0.2", "--config", "parts.yaml")
    assert (code, found["counts"]["validation"]) == (0, {"good": 1})
    assert found["train"] == "crdkit train parts.yaml data.validation_share=0.2 --out runs/parts"
    others = write(parts.parent / "more/train", 4, seed=1).parent
    code, found = check(capsys, others, "--config", "parts.yaml")
    assert (code, found["counts"]["validation"]) == (0, {"good": 2})
    assert found["folder"] == str(others)
    words = found["train"].split()
    assert words[3:5] == [f"data.root={others.parent}", "data.category=more"]
    run = RunConfig.from_yaml("parts.yaml").with_overrides(*words[3:5])
    assert len(datasets.build(run.data).records("train")) == 2
    assert run.data.scale == {"height": 0.0001}


def test_a_manifest_that_the_run_names_is_read(parts, capsys):
    (parts.parent / "list.yaml").write_text("sensors: {cam: cam/*, height: height/*}\ntrain: train\n")
    (parts.parent / "parts.yaml").write_text(RUN.replace("root: parts", "root: parts, manifest: list.yaml"))
    code, found = check(capsys, parts, "--config", "parts.yaml")
    assert (code, found["counts"]["train"], found["train"]) == (
        0,
        {"good": 3},
        "crdkit train parts.yaml --out runs/parts",
    )


def test_a_preset_is_looked_at_in_the_layout_that_is_there(scans, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, found = check(capsys, scans / "biscuit", "--config", "quick")
    assert (code, found["layout"]) == (0, "mvtec3d")
    assert found["train"] == f"crdkit train quick data.root={scans} data.category=biscuit --out runs/biscuit"


def test_samples_without_labels_are_for_predict(tmp_path, capsys):
    today = write(tmp_path / "today", 3)
    code, found = check(capsys, today)
    assert (code, found["counts"], found["train"]) == (0, {"test": {"unlabelled": 3}}, None)
    (note,) = found["findings"]
    assert note["severity"] == "note"
    assert f"holds samples without labels, which `crdkit predict RUN {today}` reads" in note["message"]
    assert len(open_samples(today, datasets.build_config("folder")).records("test")) == 3


def test_a_folder_of_good_parts_that_is_no_split_gets_a_way_to_train_on_it(tmp_path, capsys):
    parts = write(tmp_path / "kettles/good", 3).parent
    write(parts / "new", 2)
    assert main(["data", "check", str(parts), "--json"]) == 0
    good, new = (one["findings"][0]["message"] for one in json.loads(capsys.readouterr().out)["datasets"])
    assert good.endswith(f"rename the folder to 'train', or let `crdkit data import {parts}` describe it as it is")
    assert new.endswith(f"move its folders into {parts / 'new/train'}")


def test_samples_without_labels_that_cannot_be_read_are_an_error(tmp_path, capsys):
    today = write(tmp_path / "today", 3)
    broken = today / "cam/1.png"
    broken.write_bytes(broken.read_bytes()[:200])
    code, found = check(capsys, today)
    assert code == 2
    assert [finding["path"] for finding in found["findings"] if finding["severity"] == "error"] == [str(broken)]


def test_a_sensors_own_folder_leads_to_the_folder_above(tmp_path, capsys):
    today = write(tmp_path / "today", 1)
    with pytest.raises(DataError) as caught:
        open_samples(today / "cam", datasets.build_config("folder"))
    assert f"it holds the files of one sensor: give the folder of all sensors, {today}: " in str(caught.value)
    assert main(["data", "check", str(today / "cam")]) == 2
    assert f"give the folder of all sensors, {today}: " in capsys.readouterr().err


@pytest.mark.parametrize(("held_out", "rate"), [(1, 2), (4, 5), (19, 20), (20, None)])
def test_few_held_out_parts_are_noted_with_the_rate_of_false_alarms(tmp_path, capsys, held_out, rate):
    write(tmp_path / "parts/train", 1)
    write(tmp_path / "parts/validation", held_out, seed=1)
    assert main(["data", "check", str(tmp_path / "parts"), "data.scale.height=0.0001"]) == 0
    set_quiet(True)
    notes = [line for line in capsys.readouterr().out.splitlines() if "called anomalous" in line]
    if rate is None:
        assert notes == []
        return
    (note,) = notes
    assert re.match(rf"note: only {held_out} good parts? (is|are) held out, so about 1 in {rate} good parts will", note)


def test_a_height_map_needs_another_plane_fit_than_distances():
    """The part covers a third of the image: seen from above it lies behind what must be the farthest, the ground."""
    rows, columns = np.mgrid[:64, :64]
    part = (rows - 32) ** 2 + (columns - 32) ** 2 < 400
    height = (0.5 + 0.02 * part + 0.0001 * columns * part).astype(np.float32)

    def found(image, mode):
        """Return the share of the pixels at which a view tells part and ground apart, and the view."""
        options = Depth.Config(sensor="s", mode=mode, fill_passes=0)
        view = Depth(options)({"s": image}, image_size=64)[0].numpy()
        return np.mean((view > 0) == part), view

    assert found(1 - height, "robust")[0] > 0.95
    assert found(height, "robust")[0] < 0.5
    agreement, view = found(height, "published")
    assert agreement > 0.95
    assert np.corrcoef(view[part], height[part])[0, 1] > 0.99
    kept = found(height, "none")[1]
    assert kept[part].min() > kept[~part].max() > 0


def test_a_height_map_whose_ground_is_0_needs_no_plane():
    rows, columns = np.mgrid[:64, :64]
    part = (rows - 32) ** 2 + (columns - 32) ** 2 < 400
    flat = np.where(part, 0.02 + 1e-5 * columns, 0).astype(np.float32)
    assert not Depth(Depth.Config(sensor="s", fill_passes=0))({"s": flat}, image_size=64).any()
    kept = Depth(Depth.Config(sensor="s", mode="none", fill_passes=0))({"s": flat}, image_size=64)[0].numpy()
    np.testing.assert_array_equal(kept > 0, part)
