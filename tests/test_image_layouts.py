"""MVTec AD, MVTec AD 2, VisA and 3D-ADAM: forms in which they are found, and what is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image

from crdkit.data import SPLITS, datasets
from crdkit.data.check import check_dataset
from crdkit.data.discover import open_datasets
from crdkit.data.synthetic import LAYOUTS, write_folder
from crdkit.errors import DataError, MissingSplitError

COUNTS = {"train": 4, "validation": 2, "test_good": 1, "test_per_defect": 1, "size": 32, "categories": ["gear"]}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("written")
    for name in ("3d_adam", "mvtec_ad", "mvtec_ad_2", "visa"):
        LAYOUTS[name](out / name, **COUNTS)
    return out


@pytest.fixture
def copy(written, tmp_path):
    """Return a category of a layout that a test may change."""
    return lambda name: shutil.copytree(written / name, tmp_path / name) / "gear"


def opened(name, category, **options):
    config = {"name": name, "root": category.parent, "category": category.name, "image_size": 32, **options}
    return datasets.build(datasets.build_config(config))


def refused(name, category, split, message, **options):
    with pytest.raises(DataError, match=message):
        opened(name, category, **options).records(split)


@pytest.mark.parametrize("name", ["mvtec_ad", "3d_adam"])
def test_a_validation_split_that_would_not_be_read_is_refused(copy, name):
    category = copy(name)
    shutil.copytree(category / "train", category / "validation")
    for split in SPLITS:
        refused(name, category, split, r"validation: would not be read, as .* has no validation split; move it")
    assert open_datasets(category)[0].config.name != name


def test_grey_jpeg_and_unmasked_images_are_read_as_mvtec_ad(copy):
    category = copy("mvtec_ad")
    first = category / "train/good/000.png"
    with Image.open(first) as image:
        image.convert("L").save(first.with_suffix(".jpg"))
    first.unlink()
    dataset = opened("mvtec_ad", category, validation_share=0.5)
    records = [*dataset.records("train"), *dataset.records("validation")]
    (grey,) = [record for record in records if record.image_path.suffix == ".jpg"]
    image = dataset.read(grey).sensors["rgb"]
    assert image.shape == (32, 32, 3)
    assert np.array_equal(image[..., 0], image[..., 2])
    for mask in (category / "ground_truth/dent").iterdir():
        mask.rename(mask.with_name(mask.name.replace("_mask", "")))
    masked = dataset.records("test")
    assert all(record.mask_file for record in masked if record.label)
    shutil.rmtree(category / "ground_truth")
    assert {record.mask_file for record in opened("mvtec_ad", category).records("test")} == {None}
    assert open_datasets(category)[0].config.name == "mvtec_ad"


def test_an_image_with_alpha_is_refused(copy):
    category = copy("mvtec_ad")
    for path in (category / "train/good").iterdir():
        with Image.open(path) as image:
            image.convert("RGBA").save(path)
    dataset = opened("mvtec_ad", category)
    with pytest.raises(DataError, match=r"expected uint8 \(H, W, 3\), found uint8 \(32, 32, 4\); convert it"):
        dataset.read(dataset.records("train")[0])


def test_a_mask_of_a_good_image_of_mvtec_ad_must_be_empty(copy):
    category = copy("mvtec_ad")
    mask = category / "ground_truth/good/000_mask.png"
    mask.parent.mkdir()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(mask)
    dataset = opened("mvtec_ad", category)
    assert all(record.mask_file is None for record in dataset.records("train"))
    shutil.copy(category / "train/good/000.png", category / "test/good/001.png")
    first, second = [record for record in dataset.records("test") if record.label == 0]
    assert (first.mask_file, second.mask_file) == (mask, None)
    assert not dataset.read(first).mask.any()
    Image.fromarray(np.full((32, 32), 255, np.uint8)).save(mask)
    with pytest.raises(DataError, match=r"good/000_mask\.png: the mask of a sample in 'good' marks 1024 pixels"):
        dataset.read(first)


def test_masks_of_a_defect_without_images_are_refused(copy):
    category = copy("mvtec_ad")
    shutil.rmtree(category / "test/dent")
    refused("mvtec_ad", category, "test", r"ground_truth/dent: the masks have no images .*test/dent; add them")
    (category / "ground_truth/good").mkdir()
    shutil.rmtree(category / "ground_truth/dent")
    assert opened("mvtec_ad", category).records("test")


def test_mvtec_ad_2_has_three_test_sets_and_may_lie_one_folder_deeper(copy):
    category = copy("mvtec_ad_2")
    for name in ("test_private", "test_private_mixed"):
        shutil.copytree(category / "test_public/good", category / name)
    inner = category.parent / "deep/gear/gear"
    inner.parent.mkdir(parents=True)
    category.rename(inner)
    (dataset,) = open_datasets(inner.parents[1])
    assert (dataset.config.name, dataset.config.category) == ("mvtec_ad_2", "gear")
    assert [len(dataset.records(split)) for split in SPLITS] == [4, 2, 7]
    private = opened("mvtec_ad_2", inner.parent, test_set="private").records("test")
    assert [(record.label, record.defect_type) for record in private] == [(None, "unlabelled")]


def test_test_sets_of_mvtec_ad_2_that_are_not_as_expected_are_refused(copy):
    category = copy("mvtec_ad_2")
    with pytest.raises(MissingSplitError, match="test_private: the test set does not exist"):
        opened("mvtec_ad_2", category, test_set="private").records("test")
    (category / "test_public/dent").mkdir()
    refused("mvtec_ad_2", category, "test", "expected the folders good, bad and ground_truth")
    for name in ("dent", "good", "bad"):
        shutil.rmtree(category / "test_public" / name)
    refused("mvtec_ad_2", category, "test", r"holds no samples; expected files like good/000_regular\.png")


def test_visa_follows_its_table(copy):
    category = copy("visa")
    found = opened("visa", category).records("test")
    assert {record.defect_type for record in found} == {"good", "anomaly"}
    assert found[-1].image_path.suffix == ".JPG"
    table = category.parent / "split_csv/1cls.csv"
    sound = table.read_text()
    table.write_text(sound.replace("test,anomaly", "test,melted wax"))
    assert {record.defect_type for record in opened("visa", category).records("test")} == {"good", "melted wax"}
    lines = {
        "a,b\n1,2\n": r"line 2: expected the columns object, split, label, image, mask",
        f"{sound}gear,train\n": r"expected the columns",
        sound.replace("train,normal", "learn,normal"): r"line 2: the split 'learn' must be train or test",
        sound.replace("train,normal", "train,anomaly"): r"line 2: a training image is 'anomaly'; only normal ones",
        sound.replace("gear/Data/Images/Normal/0000.JPG", "../secret.JPG"): r"\.\./secret\.JPG leads out of the data",
        sound.replace("Normal/0000.JPG", "Normal/9.JPG"): r"Normal/9\.JPG: the file does not exist",
        sound.replace("0000.JPG,\n", "0000.JPG,gear/Data/Masks/Anomaly/0000.png\n"): "the image is normal, but has the",
        sound.replace("gear,train", "other,train"): r"1cls\.csv: lists no train images of the object 'gear'",
    }
    for text, message in lines.items():
        table.write_text(text)
        refused("visa", category, "train", message)
    table.write_text(sound.replace(",gear/Data/Masks/Anomaly/0000.png", ","))
    refused("visa", category, "test", "the image is 'anomaly', but names no mask; name it")
    for label in ("", "Good", "Normal"):
        table.write_text(sound.replace("test,anomaly", f"test,{label}"))
        refused("visa", category, "test", f"line [0-9]+: the label '{label}' must be 'normal', or the type of a defect")
    table.write_text(sound + sound.splitlines()[-1])
    refused("visa", category, "test", r"line 15: is the same sample as line 14 \(Anomaly/0005\)")
    table.write_text(sound.replace("Normal/0000.JPG", f"{'x' * 300}.JPG"))
    refused("visa", category, "train", r"xxx\.JPG: the file does not exist")
    table.write_bytes(b"\xff\xfe\xff")
    refused("visa", category, "train", r"1cls\.csv: the table of splits cannot be read: .*; copy it")
    table.write_text(sound)
    shutil.rmtree(category / "Data/Masks/Anomaly")
    assert len(opened("visa", category, on_bad_sample="skip").records("test")) == len(found)
    table.unlink()
    refused("visa", category, "train", r"1cls\.csv: the table of splits cannot be read")


def test_a_mask_that_the_table_of_visa_does_not_name_is_refused(copy):
    category = copy("visa")
    shutil.copy(category / "Data/Masks/Anomaly/0000.png", category / "Data/Masks/Anomaly/0999.png")
    refused("visa", category, "test", r"0999\.png: the mask belongs to no line of split_csv/1cls\.csv")
    (finding,) = [f for f in check_dataset(opened("visa", category)).findings if f.severity == "error"]
    assert "0999.png (no image of it is listed): the file does not exist" in finding.message


def test_scans_of_3d_adam_in_millimetres_ask_for_a_scale(copy):
    category = copy("3d_adam")
    dataset = opened("3d_adam", category)
    record = dataset.records("train")[0]
    metres = dataset.read(record).sensors["xyz"]
    tifffile.imwrite(record.files["xyz"], metres.astype(np.float64) * 1000, photometric="rgb")
    with pytest.raises(DataError, match=r"looks like millimetres; .*data\.scale\.xyz=0\.001"):
        dataset.read(record)
    scaled = opened("3d_adam", category, scale={"xyz": 0.001}).read(record).sensors["xyz"]
    assert scaled.dtype == np.float32
    assert np.allclose(scaled, metres, atol=1e-6)
    tifffile.imwrite(record.files["xyz"], np.zeros((32, 32, 3), np.float32), photometric="rgb")
    with pytest.raises(DataError, match="no pixel holds a measurement"):
        dataset.read(record)
    assert not opened("3d_adam", category, on_blank_sensor="missing").read(record).sensors["xyz"].any()


def test_own_scans_without_masks_are_not_taken_for_3d_adam(tmp_path):
    root = write_folder(tmp_path / "own", sensors=["rgb", "xyz"], **{**COUNTS, "validation": 0, "test_per_defect": 0})
    assert open_datasets(root)[0].config.name == "folder"
    shutil.rmtree(root / "gear/test")
    assert open_datasets(root)[0].config.name == "folder"
