"""Names in data folders: what is taken for "good" or for a split, what systems leave there, and empty folders."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from crdkit.config import RunConfig
from crdkit.config.build import build_views
from crdkit.data import datasets
from crdkit.data._names import found_folders
from crdkit.data.discover import list_categories
from crdkit.data.synthetic import LAYOUTS
from crdkit.errors import ConfigError, DataError, MissingSplitError
from crdkit.views.depth import Depth
from crdkit.views.split import list_split


def dataset(name, folder, **options):
    config = {"name": name, "root": folder.parent, "category": folder.name}
    return datasets.build(datasets.build_config(config | options))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """One category in the layouts whose test samples lie in folders of defect types."""
    root = tmp_path_factory.mktemp("written")
    counts = {"train": 2, "validation": 1, "test_good": 2, "test_per_defect": 1, "size": 32}
    for name in ("mvtec3d", "folder"):
        LAYOUTS[name](root / name, categories=["gear"], **counts)
    return root


@pytest.fixture(params=["mvtec3d", "folder", "eyecandies"])
def category(request, written, tmp_path):
    """The name of a layout, and a category in it that a test may change; of Eyecandies a prepared one."""
    layout = request.param
    source = "mvtec3d" if layout == "eyecandies" else layout
    folder = shutil.copytree(written / source / "gear", tmp_path / layout / "gear")
    if layout == "eyecandies":
        for part in [path for path in folder.rglob("rgb") if path.is_dir()]:
            shutil.rmtree(part.with_name("xyz"))
            for sensor in ("depth", "normals"):
                shutil.copytree(part, part.with_name(sensor))
    assert dataset(layout, folder).records("test")
    return layout, folder


@pytest.mark.parametrize("name", ["Good", "GOOD", "ok", "O.K.", "normal", "Normal", "defect-free", "no_defect", "i.O."])
def test_names_that_mean_good_are_no_defect_types(category, name):
    layout, folder = category
    shutil.move(folder / "test/good", folder / "test" / name)
    with pytest.raises(DataError, match=r"if its samples are normal, name it 'good'") as caught:
        dataset(layout, folder).records("test")
    assert str(caught.value).startswith(f"{folder / 'test'}: {name!r} would be a defect type")
    with pytest.raises(DataError, match="name it 'good'"):
        dataset(layout, folder, on_bad_sample="skip").records("test")


def test_nor_are_they_names_of_the_training_samples(category):
    layout, folder = category
    shutil.move(folder / "train/good", folder / "train/Good")
    with pytest.raises(DataError, match=r"train: 'Good' would be a defect type; .* name it 'good'"):
        dataset(layout, folder).records("train")


def test_a_sweep_says_which_folders_it_takes_for_no_category(written, tmp_path, caplog):
    root = shutil.copytree(written / "folder", tmp_path / "root")
    shutil.copytree(root / "gear", root / "ring")
    (root / "ring/test/good").rename(root / "ring/test/Good")
    (root / "papers").mkdir()
    with caplog.at_level("INFO", logger="crdkit"):
        assert list_categories(datasets.build_config({"name": "folder", "root": root})) == ["gear"]
    assert [record.getMessage().partition(": is taken for no category: ")[0] for record in caplog.records] == [
        str(root / "papers"),
        str(root / "ring"),
    ]
    assert "'Good' would be a defect type" in caplog.text


def test_names_of_defects_stay_what_they_are(category):
    layout, folder = category
    (defect, *_) = (path for path in (folder / "test").iterdir() if path.name != "good")
    for name in ("abnormal", "not ok", "normals", "nok", "goodness"):
        defect = defect.rename(folder / "test" / name)
        assert name in {record.defect_type for record in dataset(layout, folder).records("test")}


def test_a_manifest_may_not_call_normal_samples_a_defect_either(written, tmp_path):
    folder = shutil.copytree(written / "folder/gear", tmp_path / "gear")
    (folder / "manifest.yaml").write_text("sensors: {rgb: 'rgb/*'}\ntrain: train/good\ntest: {OK: test/good}\n")
    with pytest.raises(DataError, match=r"manifest\.yaml: 'OK' would be a defect type"):
        dataset("folder", folder).records("test")


@pytest.mark.parametrize("name", ["Test", "tests", "test-set", "testing"])
def test_a_folder_with_nearly_the_name_of_the_test_split_is_no_reason_to_go_without(category, name):
    layout, folder = category
    (folder / "test").rename(folder / name)
    with pytest.raises(DataError, match=f"{name}: is not read; rename it to 'test' if it holds that split") as caught:
        dataset(layout, folder).records("test")
    assert not isinstance(caught.value, MissingSplitError)


@pytest.mark.parametrize("name", ["val", "Validation", "valid"])
def test_nor_is_one_for_validation(category, name):
    layout, folder = category
    if (folder / "validation").exists():
        (folder / "validation").rename(folder / name)
    else:
        shutil.copytree(folder / "test/good", folder / name / "good")
    with pytest.raises(DataError, match=f"{name}: is not read; rename it to 'validation'"):
        dataset(layout, folder).records("validation")


@pytest.mark.parametrize("name", ["Thumbs.db", ".DS_Store", "desktop.ini", "@eaDir", "__MACOSX"])
def test_what_systems_leave_behind_is_ignored_everywhere(category, name):
    layout, folder = category
    before = [record.sample_id for record in dataset(layout, folder).records("test")]
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        if "." in name:
            (place / name).write_bytes(b"left behind")
        else:
            (place / name).mkdir()
    data = dataset(layout, folder)
    assert [record.sample_id for record in data.records("test")] == before
    assert name not in data.sensors


@pytest.mark.parametrize("layout", ["mvtec3d", "folder", "eyecandies"])
def test_an_empty_root_is_called_empty(tmp_path, layout):
    data = datasets.build(datasets.build_config({"name": layout, "root": tmp_path}))
    with pytest.raises(DataError, match=r"data\.root holds no category folder; .* holds the folders: none"):
        data.records("train")


def test_a_sensor_that_the_data_lacks_is_named_with_its_key(written):
    run = RunConfig.preset("quick").with_overrides("modalities.depth.sensor=tof", "modalities.ir={name: infrared}")
    data = dataset("mvtec3d", written / "mvtec3d/gear")
    with pytest.raises(
        ConfigError, match=r"^modalities\.depth\.sensor \(='tof'\): the data has no such sensor, but rgb, xyz"
    ):
        list_split(data, "train", views=build_views(run))
    views = build_views(run.with_overrides("modalities.depth=null"))
    with pytest.raises(
        ConfigError, match=r"sensor \(='infrared'\): .* leave the modality out with modalities\.ir=null"
    ):
        list_split(data, "train", views=views)


def test_stored_depth_names_the_key_that_brings_it_to_metres():
    depth = Depth(Depth.Config(sensor="tof"))
    with pytest.raises(DataError, match=r"for millimetres .*data\.scale\.tof=0\.001"):
        depth({"tof": np.full((32, 32), 700, np.uint16)}, image_size=32)


def test_a_message_names_twenty_folders_at_most(tmp_path):
    for number in range(30):
        (tmp_path / f"part_{number:02}").mkdir()
    listed = found_folders(tmp_path)
    assert listed.endswith("part_18, part_19 and 10 more")
    assert "part_20" not in listed
