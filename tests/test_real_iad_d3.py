"""Real-IAD D3: its JSON lists, its folders, and what is refused in both."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from crdkit.data import SPLITS, datasets
from crdkit.data.check import check_dataset
from crdkit.data.discover import list_categories, open_datasets, require_category
from crdkit.data.synthetic import LAYOUTS
from crdkit.errors import DataError, MissingSplitError


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    counts = {"train": 4, "validation": 2, "test_good": 1, "test_per_defect": 1, "size": 32}
    return LAYOUTS["real_iad_d3"](tmp_path_factory.mktemp("d3") / "data", categories=["gear"], **counts)


@pytest.fixture
def root(written, tmp_path):
    """``data.root``, which a test may change, with the lists beside it."""
    return shutil.copytree(written, tmp_path / "data") / "realiad_d3_raw"


def real(root, **options):
    config = {"name": "real_iad_d3", "root": root, "category": "gear", "image_size": 32, **options}
    return datasets.build(datasets.build_config(config))


@pytest.fixture
def change(root):
    """Rewrite the list of the category."""
    path = root.parent / "realiad_d3_jsons/gear.json"

    def change(edit):
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return change


def test_only_good_samples_of_the_validation_list_are_used(root):
    assert [len(real(root).records(split)) for split in SPLITS] == [4, 2, 7]
    assert {record.label for record in real(root).records("validation")} == {0}
    assert real(root).held_out is None
    assert list_categories(real(root).config) == ["gear"]


def test_the_downloaded_folder_is_a_root_as_well(root):
    whole = real(root.parent)
    assert [len(whole.records(split)) for split in SPLITS] == [4, 2, 7]
    assert list_categories(whole.config) == ["gear"]
    require_category(whole.config)


@pytest.mark.parametrize("lists", [[], ["defects"]])
def test_without_good_validation_samples_a_share_is_held_out(root, change, lists):
    change(lambda content: content.update(validation=content["validation"][-1:] if lists else []))
    assert [len(real(root).records(split)) for split in SPLITS] == [3, 1, 7]
    assert real(root).held_out["share"] == 0.1


def test_lists_may_lie_elsewhere_and_have_another_prefix(root, change, tmp_path):
    change(lambda content: content.update(meta=None))
    assert len(real(root).records("train")) == 4
    change(lambda content: content.update(meta={"prefix": "other/"}))
    assert len(real(root).records("train")) == 4  # there is no such folder
    (root / "gear").rename(root / "parts")
    (root / "gear").mkdir()
    change(lambda content: content.update(meta={"prefix": "parts"}))
    assert "parts" in real(root).records("train")[0].image_path.parts
    (root.parent / "realiad_d3_jsons").rename(tmp_path / "lists")
    assert len(real(root, jsons=tmp_path / "lists").records("train")) == 4
    with pytest.raises(DataError, match=r"gear: neither .*gear\.json lists the category, nor are there folders train/"):
        real(root).records("train")


def set_key(split, key, value):
    return lambda content: content[split][0].update({key: value})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_key("train", "anomaly_class", "dent"), r"train\[0\] is 'dent'; only good samples can be trained on"),
        (set_key("train", "anomaly_class", None), r'train\[0\]: has no anomaly_class; it must be "OK" or'),
        (set_key("train", "ps_path", ""), r"train\[0\]: has no ps_path; it must be the path of a file"),
        (
            set_key("train", "xyz_path", "../../s.tiff"),
            r"xyz_path '../../s.tiff' leads out of the data folder",
        ),
        (set_key("train", "image_path", "OK/none.jpg"), r"OK/none\.jpg: the file does not exist"),
        (set_key("train", "mask_path", "OK/m.png"), r'has the anomaly_class "OK" and the mask .*m\.png; one of them'),
        (set_key("train", "image_path", "."), r"train\[0\]: has no image_path; it must be the path of a file"),
        (set_key("train", "ps_path", "/"), r"train\[0\]: has no ps_path; it must be the path of a file"),
        (set_key("train", "image_path", "x" * 300 + ".jpg"), "xxx.jpg: the file does not exist"),
        (lambda content: content.update(meta={"prefix": "x" * 300}, train=[]), "lists no good sample in 'train'"),
        (
            set_key("train", "anomaly_class", "good"),
            r"train\[0\]: anomaly_class 'good' would be a type of defect; if the",
        ),
        (
            lambda content: content["train"].append(content["train"][1]),
            r"train\[4\] is the same sample as train\[1\] \(OK",
        ),
        (lambda content: content.update(train={}), "'train' must be a list of samples"),
        (lambda content: content.update(train=["a.jpg"]), "'train' must be a list of samples"),
        (lambda content: content.pop("train"), r"gear\.json: lists no good sample in 'train'"),
    ],
)
def test_wrong_lists_are_refused(root, change, edit, message):
    change(edit)
    with pytest.raises(DataError, match=message):
        real(root).records("train")


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_file_that_is_no_list_is_refused(root, text):
    (root.parent / "realiad_d3_jsons/gear.json").write_text(text)
    with pytest.raises(DataError, match=r"gear\.json: (cannot be read: .*; copy it|expected the keys meta, train)"):
        real(root).records("train")


def test_a_list_without_a_test_split_says_so(root, change):
    change(lambda content: content.update(test=[]))
    with pytest.raises(MissingSplitError, match="lists no sample in 'test'"):
        real(root).records("test")


def test_scans_in_millimetres_are_scaled_and_another_grid_is_refused(root):
    record = real(root).records("train")[0]
    metres = real(root).read(record).sensors["xyz"]
    scaled = real(root, scale={"xyz": 0.5}).read(record).sensors["xyz"]
    assert np.array_equal(scaled, metres * np.float32(0.5))
    with Image.open(record.image_path) as image:
        image.resize((48, 32)).save(record.image_path)
    with pytest.raises(DataError, match="all files must have the same height x width"):
        real(root).read(record)
    assert list(real(root).read(record, ["rgb"]).sensors) == ["rgb"]
    others = {name: {"method": "resize"} for name in ("ps", "xyz")}
    moved = real(root, registration={"reference": "rgb", "sensors": others}).read(record).sensors
    assert {array.shape for array in moved.values()} == {(32, 48, 3)}


@pytest.fixture
def folders(root):
    """The same samples in the form of folders, two photographs each."""
    for split, count in (("train", 4), ("test", 1)):
        for number in range(count):
            move(root / f"gear/OK/S{number + (split == 'test') * 6:04d}", root / "gear" / split / "GOOD")
    for defect in ("dent", "stain"):
        move(root / f"gear/NG/{defect}/S0000", root / "gear/test" / defect)
    for name in ("OK", "NG"):
        shutil.rmtree(root / "gear" / name)
    shutil.rmtree(root.parent / "realiad_d3_jsons")
    return root


def move(sample, part):
    name = sample.name
    for folder in (f"rgb/{name}", "xyz", "ps"):
        (part / folder).mkdir(parents=True, exist_ok=True)
    for light in ("L05", "L06"):
        shutil.copy(sample / f"gear_{name}_RGB.jpg", part / "rgb" / name / f"gear_{name}_{light}_RGB.jpg")
    shutil.copy(sample / f"gear_{name}_PS.jpg", part / "ps" / f"gear_{name}.jpg")
    shutil.copy(sample / f"gear_{name}_3D.tiff", part / "xyz" / f"{name}.tiff")
    if (sample / f"gear_{name}_mask.png").exists():
        (part / "gt/rgb").mkdir(parents=True, exist_ok=True)
        shutil.copy(sample / f"gear_{name}_mask.png", part / "gt/rgb" / f"{name}.png")


def test_folders_are_read_too(folders):
    (dataset,) = open_datasets(folders / "gear")
    assert (dataset.config.name, dataset.sensors) == ("real_iad_d3", ("rgb", "ps", "xyz"))
    assert [len(dataset.records(split)) for split in SPLITS] == [3, 1, 3]
    found = dataset.records("test")
    assert [record.sample_id for record in found] == ["GOOD/S0006", "dent/S0000", "stain/S0000"]
    assert "L05" in found[0].image_path.name
    assert "L06" in real(folders, light="L06").records("train")[0].image_path.name
    assert dataset.read(found[1]).mask.any()
    assert check_dataset(dataset).count("error") == 0
    for sensor in ("ps", "xyz"):
        shutil.rmtree(folders / "gear/train/GOOD" / sensor)
    assert real(folders).sensors == ("rgb",)
    (folders / "gear/test").rename(folders / "gear/validation")
    shutil.rmtree(folders / "gear/validation/dent")
    with pytest.raises(DataError, match="the split 'validation' may only hold 'GOOD'"):
        real(folders).records("validation")
    with pytest.raises(MissingSplitError, match="the folder of the split 'test' does not exist"):
        real(folders).records("test")


def test_files_in_folders_that_do_not_pair_are_refused(folders):
    good = folders / "gear/train/GOOD"
    (good / "ps/gear_S0003.jpg").rename(good / "ps/other.jpg")
    with pytest.raises(DataError, match=r"S0003\.jpg: the file does not exist|other"):
        real(folders).records("train")
    shutil.copy(good / "ps/gear_S0002.jpg", good / "ps/S0002.jpg")
    with pytest.raises(DataError, match="is of the same sample as"):
        real(folders).records("train")
    with pytest.raises(DataError, match=r"0 of its 2 photographs are of the light 'L09', expected one; set data"):
        real(folders, light="L09").records("train")
    dent = folders / "gear/test/dent"
    (dent.with_name("good")).mkdir()
    with pytest.raises(DataError, match=r"test/good: would be a type of defect; if its samples are good, name"):
        real(folders).records("test")
    (dent.with_name("good")).rmdir()
    (dent / "gt/rgb/S0000.png").unlink()
    with pytest.raises(DataError, match=r"gt/rgb/S0000\.png: the file does not exist"):
        real(folders).records("test")
    shutil.rmtree(dent / "gt")  # then there are no masks
    assert [record.mask_file is None for record in real(folders).records("test")] == [True, True, False]
    for path in (dent / "rgb/S0000").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"rgb/S0000/RGB\.jpg: the file does not exist"):
        real(folders).records("test")
    shutil.rmtree(dent / "rgb")
    with pytest.raises(DataError, match=r"dent/rgb: the folder does not exist"):
        real(folders).records("test")


def test_an_empty_folder_of_a_split_is_refused(folders):
    for path in (folders / "gear/test").iterdir():
        shutil.rmtree(path)
    with pytest.raises(DataError, match="the split 'test' holds no samples; expected folders like GOOD/rgb/S0001"):
        real(folders).records("test")
