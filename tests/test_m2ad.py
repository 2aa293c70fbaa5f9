"""M2AD: views as samples, lights as sensors, the drawn split, and what is refused."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest
from PIL import Image

from crdkit.data import datasets
from crdkit.data.synthetic import LAYOUTS
from crdkit.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    counts = {"train": 6, "validation": 2, "test_good": 2, "test_per_defect": 1, "size": 32}
    return LAYOUTS["m2ad"](tmp_path_factory.mktemp("m2ad") / "data", categories=["gear"], **counts)


@pytest.fixture
def folder(written, tmp_path):
    """The class's folder, which a test may change."""
    return shutil.copytree(written, tmp_path / "data") / "Gear"


def m2ad(folder, **options):
    return datasets.build(datasets.build_config({"name": "m2ad", "root": folder.parent, "category": "Gear", **options}))


def specimens(dataset, split):
    return {record.sample_id.rpartition("/")[0] for record in dataset.records(split)}


def test_the_split_is_drawn_by_specimen(folder):
    names = [f"{number:03d}" for number in range(10)]
    random.Random(42).shuffle(names)
    trained = {f"Good/{name}" for name in names[:6]}
    train, validation, test = (specimens(m2ad(folder), split) for split in ("train", "validation", "test"))
    assert train | validation == trained
    assert (len(train), len(validation)) == (5, 1)
    assert {name for name in test if name.startswith("Good")} == {f"Good/{name}" for name in names[6:]}
    assert len(m2ad(folder).records("validation")) == 2  # both views of one specimen
    assert m2ad(folder).held_out["rule"].startswith("the training specimens with")


def test_other_seeds_generators_and_shares_draw_others(folder):
    names = [f"{number:03d}" for number in range(10)]
    np.random.RandomState(42).shuffle(names)
    by_numpy = m2ad(folder, split_generator="numpy")
    assert specimens(by_numpy, "train") | specimens(by_numpy, "validation") == {f"Good/{name}" for name in names[:6]}
    assert specimens(m2ad(folder, split_seed=1), "test") != specimens(m2ad(folder), "test")
    assert len(specimens(m2ad(folder, train_share=0.9), "train")) == 8


def test_lights_and_views_are_chosen(folder):
    dataset = m2ad(folder, lights=["03", "01"], views=["002"])
    assert dataset.sensors == ("light_03", "light_01")
    records = dataset.records("train")
    assert {record.sample_id.rpartition("/")[2] for record in records} == {"002"}
    assert [path.name for path in records[0].files.values()] == ["V002_I03.png", "V002_I01.png"]
    assert list(dataset.read(records[0]).sensors) == ["light_03", "light_01"]
    with pytest.raises(DataError, match=r"V002_I09\.png: the file does not exist"):
        m2ad(folder, lights=["09"], views=["002"]).records("train")


def test_a_view_that_does_not_show_the_defect_is_normal(folder):
    mask = folder / "GT/000/V001_mask.png"
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(mask)
    shutil.copy(mask, mask.with_name("V001_seg.png"))  # is no mask
    found = {record.sample_id: record for record in m2ad(folder).records("test")}
    first, second = found["NG/000/001"], found["NG/000/002"]
    assert (first.label, first.defect_type, second.label, second.defect_type) == (0, "good", 1, "NG")
    assert not m2ad(folder).read(first).mask.any()


def test_a_view_without_a_mask_is_an_error_or_normal(folder):
    (folder / "GT/000/V001_mask.png").unlink()
    with pytest.raises(DataError, match=r"GT/000/V001_mask\.png: the file does not exist"):
        m2ad(folder).records("test")
    unmasked = {record.sample_id: record for record in m2ad(folder, unmasked_views="normal").records("test")}
    assert (unmasked["NG/000/001"].label, unmasked["NG/000/001"].mask_file) == (0, None)
    shutil.rmtree(folder / "GT/000")
    assert m2ad(folder, unmasked_views="normal").records("test")
    (folder / "GT/001/V001_mask.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match="damaged"):
        m2ad(folder, unmasked_views="normal").records("test")
    lenient = {record.sample_id: record for record in m2ad(folder, on_bad_sample="skip").records("test")}
    assert (lenient["NG/001/001"].label, lenient["NG/001/001"].defect_type) == (None, "unlabelled")


def test_what_is_out_of_place_is_named(folder):
    shutil.copytree(folder / "GT/000", folder / "GT/099")
    with pytest.raises(DataError, match=r"GT/099: the masks have no images .*NG/099; add them or remove the masks"):
        m2ad(folder).records("test")
    shutil.rmtree(folder / "GT/099")
    (folder / "Good/000/V001_I01.png").rename(folder / "Good/000/V1_I1.png")
    with pytest.raises(DataError, match=r"V1_I1\.png: expected a name like V001_I01\.png"):
        assert m2ad(folder).sensors
    shutil.rmtree(folder / "Good/000")
    (folder / "Good/000").mkdir()
    with pytest.raises(DataError, match=r"Good/000: holds no images; expected names like V001_I01\.png"):
        [m2ad(folder, lights=["01"]).records(split) for split in ("train", "test")]


def test_a_specimen_without_images_is_named_and_others_say_which_lights_there_are(folder):
    for path in (folder / "Good/000").iterdir():
        path.unlink()
    dataset = m2ad(folder)
    assert dataset.sensors == ("light_01", "light_02", "light_03", "light_04")
    with pytest.raises(DataError, match=r"Good/000: holds no images; expected names like V001_I01\.png"):
        [dataset.records(split) for split in ("train", "test")]
    for name in ("Good", "NG"):
        shutil.rmtree(folder / name)
    (folder / "NG/000").mkdir(parents=True)
    with pytest.raises(DataError, match=r"Gear: holds no specimens"):
        assert dataset.sensors


def test_a_light_that_the_first_specimen_lacks_is_not_passed_over(folder):
    for image in (folder / "Good/000").glob("*I02.png"):
        image.unlink()
    dataset = m2ad(folder)
    assert "light_02" not in dataset.sensors
    with pytest.raises(DataError, match=r"V001_I02\.png: is of a light that the first specimen does not have \(01, 03"):
        [dataset.records(split) for split in ("train", "test")]
    assert m2ad(folder, lights=["01"]).records("train")


def test_a_mask_is_read_in_any_spelling_and_only_one_of_a_view(folder):
    mask = folder / "GT/000/V001_mask.png"
    mask.rename(mask.with_suffix(".PNG"))
    (folder / "GT/000/._V001_mask.png").write_bytes(b"as macOS leaves them")
    found = {record.sample_id: record for record in m2ad(folder, unmasked_views="normal").records("test")}
    assert found["NG/000/001"].label == 1
    shutil.copy(mask.with_suffix(".PNG"), mask.with_name("X001_mask.png"))
    with pytest.raises(DataError, match=r"X001_mask\.png: has the view of V001_mask\.PNG; remove one of the two"):
        m2ad(folder).records("test")
    mask.with_name("X001_mask.png").unlink()
    shutil.copy(folder / "NG/001/V001_I01.png", folder / "NG/001/W001_K01.png")
    with pytest.raises(DataError, match=r"W001_K01\.png: has the view and the light of V001_I01\.png"):
        m2ad(folder, lights=["01"], views=["002"], on_bad_sample="skip", unmasked_views="normal").records("test")


@pytest.mark.parametrize("given", [{"lights": ["../x"]}, {"lights": ["1"]}, {"views": ["0/1"]}, {"views": ["01"]}])
def test_lights_and_views_that_cannot_be_in_a_name_are_refused(folder, given):
    with pytest.raises(ConfigError, match=next(iter(given))):
        m2ad(folder, **given)


def test_a_class_needs_good_specimens(folder):
    for name in ("NG", "GT"):
        shutil.rmtree(folder / name)
    assert {record.label for record in m2ad(folder).records("test")} == {0}
    (folder / "GT").mkdir()
    shutil.rmtree(folder / "Good")
    with pytest.raises(DataError, match=r"Good: holds 0 specimens, of which data\.train_share=0\.6 are none"):
        m2ad(folder).records("train")
    with pytest.raises(DataError, match=r"Gear: holds no specimens; expected folders like Good/001"):
        assert m2ad(folder).sensors
