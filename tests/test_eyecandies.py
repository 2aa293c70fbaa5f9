"""The Eyecandies adapter: both layouts, labels from masks, metres from 16 bits, and what is wrong with a download."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import TINY
from PIL import Image

import crdkit
from crdkit.config import RunConfig
from crdkit.data import datasets
from crdkit.data.adapters.eyecandies import Eyecandies
from crdkit.data.synthetic import DEFECTS, make_scene, sample_key, write_eyecandies
from crdkit.data.synthetic.scene import TABLE_SIDE, Camera
from crdkit.errors import BadSampleWarning, DataError, UnknownNameError
from crdkit.runs.directory import read_metrics
from crdkit.views.lights import Lights
from crdkit.views.rgb import RGB
from crdkit.views.split import load_split

SIZE = 48
LIGHTS = tuple(f"image_{light}" for light in range(6))
KINDS = {
    "stain": "colors",
    "fade": "colors",
    "dent": "dents",
    "bump": "bumps",
    "crack": "colors+dents",
    "broken": "dents",
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("eyecandies") / "data"
    return write_eyecandies(
        out, categories=["biscuit"], train=3, validation=2, test_good=2, test_per_defect=1, size=SIZE
    )


@pytest.fixture
def category(written: Path, tmp_path: Path) -> Path:
    """The folder "Biscuit" as downloaded: 3 training, 2 validation and 2 + 6 test samples."""
    return shutil.copytree(written, tmp_path / "root") / "Biscuit"


@pytest.fixture
def prepared(category: Path) -> Path:
    """The same samples as the published preparation arranges them, with the masks of defective samples."""
    out = category.parent / "prepared"
    raw = dataset(category)
    for split in ("train", "validation", "test"):
        for record in raw.records(split):
            folder = out / split / ("bad" if record.label else "good")
            for sensor in ("rgb", "depth", "normals"):
                (folder / sensor).mkdir(parents=True, exist_ok=True)
                shutil.copy(record.files[sensor], folder / sensor / f"{int(record.sample_id):03d}.png")
            if record.mask_file:
                (folder / "gt").mkdir(exist_ok=True)
                shutil.copy(record.mask_file, folder / "gt" / f"{int(record.sample_id):03d}.png")
    return out


def dataset(folder: Path, **options: Any) -> Eyecandies:
    defaults: dict[str, Any] = {"root": folder.parent, "category": folder.name}
    return Eyecandies(Eyecandies.Config(**(defaults | options)))


def make_private(category: Path) -> None:
    shutil.copytree(category / "test_public", category / "test_private")
    for path in (category / "test_private/data").glob("*_mask.png"):
        path.unlink()


def test_labels_and_defect_types_come_from_the_masks(category: Path) -> None:
    data = dataset(category)
    assert datasets.get("eyecandies") is Eyecandies
    assert data.sensors == ("rgb", "xyz", "depth", "normals", *LIGHTS)
    assert [r.sample_id for r in data.records("train")] == ["000", "001", "002"]
    assert [(r.sample_id, r.label) for r in data.records("validation")] == [("00", 0), ("01", 0)]
    test = data.records("test")
    assert [(r.label, r.defect_type) for r in test] == [
        (0, "good"),
        (0, "good"),
        *((1, KINDS[defect]) for defect in DEFECTS),
    ]
    assert test[0].image_path == category / "test_public/data/00_image_4.png"


def test_a_mask_of_no_kind_is_anomalous_all_the_same(category: Path) -> None:
    folder = category / "test_public/data"
    for kind in ("bumps", "colors", "dents", "normals"):
        shutil.copy(folder / f"00_{kind}_mask.png", folder / f"02_{kind}_mask.png")
    record = dataset(category).records("test")[2]
    assert (record.label, record.defect_type) == (1, "anomalous")


def test_samples_are_listed_by_index_whatever_its_width(category: Path) -> None:
    folder = category / "train/data"
    for path in sorted(folder.glob("001_*")):
        path.rename(folder / path.name.replace("001_", "1000_"))
    for path in sorted(folder.glob("000_*")):
        path.rename(folder / path.name.replace("000_", "20_"))
    assert [record.sample_id for record in dataset(category).records("train")] == ["002", "20", "1000"]


def test_depth_and_scan_are_those_of_the_scene(category: Path) -> None:
    focal_length = 711.11 * SIZE / 512
    camera = Camera(height=SIZE, width=SIZE, focal_length=focal_length, distance=TABLE_SIDE * focal_length / SIZE)
    scene = make_scene("biscuit", camera=camera, key=sample_key(0, "biscuit", "train", "good", 1))
    data = dataset(category)
    sensors = data.read(data.records("train")[1]).sensors
    assert sensors["depth"].dtype == sensors["xyz"].dtype == np.float32
    step = np.ptp(scene.depth()) / 65535
    np.testing.assert_allclose(sensors["depth"], scene.depth(), atol=0.6 * step + 1e-7, rtol=0)
    x, y = camera.rays()
    expected = np.stack([x * scene.depth(), y * scene.depth(), scene.depth()], axis=-1)
    np.testing.assert_allclose(sensors["xyz"], expected, atol=step + 1e-7, rtol=0)
    np.testing.assert_array_equal(sensors["xyz"][..., 2], sensors["depth"])


def test_images_are_as_stored_and_decoded_once_if_asked_for(category: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from crdkit.data.adapters import eyecandies

    decoded: list[str] = []

    def count(path: Path, read: Callable[[Path], np.ndarray] = eyecandies.read_image) -> np.ndarray:
        decoded.append(path.name)
        return read(path)

    monkeypatch.setattr(eyecandies, "read_image", count)
    data = dataset(category)
    record = data.records("train")[0]
    data.read(record, ["rgb"])
    assert decoded == ["000_image_4.png"]
    decoded.clear()
    sensors = data.read(record).sensors
    assert sorted(decoded) == sorted(f"000_{name}.png" for name in (*LIGHTS, "depth", "normals"))
    for name in (*LIGHTS, "normals"):
        np.testing.assert_array_equal(sensors[name], np.asarray(Image.open(category / f"train/data/000_{name}.png")))
        assert sensors[name].dtype == np.uint8
    np.testing.assert_array_equal(sensors["rgb"], sensors["image_4"])
    assert Lights(Lights.Config())(sensors, image_size=16).shape == (3, 16, 16)


def test_unlabelled_samples_flow_through(category: Path) -> None:
    make_private(category)
    data = dataset(category, test_split="private", image_size=16)
    records = data.records("test")
    assert {(r.label, r.defect_type, r.mask_file) for r in records} == {(None, "unlabelled", None)}
    split = load_split(data, "test", views={"rgb": RGB(RGB.Config())})
    assert len(split) == 2 + len(DEFECTS)
    assert split.labels is None
    assert split.masks is None


def test_a_run_on_unlabelled_samples_has_scores_and_no_metrics(category: Path, tmp_path: Path) -> None:
    make_private(category)
    run = RunConfig.preset("quick").with_overrides(
        f"data.root={category.parent}",
        "data.name=eyecandies",
        "data.test_split=private",
        "data.category=Biscuit",
        *TINY[1:],
    )
    assert run.data.root == category.parent
    crdkit.fit(run, tmp_path / "run")
    metrics = read_metrics(tmp_path / "run")
    assert metrics["counts"] == {"train": 3, "validation": 2, "test": 2 + len(DEFECTS)}
    assert set(metrics["aggregate"].values()) == {None}
    assert metrics["defect_types"] == {}
    header, *rows = (tmp_path / "run/scores.csv").read_text().splitlines()
    assert header.startswith("image_path,defect_type,gt_label,pred_score")
    assert rows[0].startswith("Biscuit/test_private/data/00_image_4.png,unlabelled,,")


def test_prepared_folders_are_read(category: Path, prepared: Path) -> None:
    raw, data = dataset(category), dataset(prepared)
    assert data.sensors == ("rgb", "depth", "normals")
    assert [r.sample_id for r in data.records("train")] == ["good/000", "good/001", "good/002"]
    test = data.records("test")
    assert [(r.label, r.defect_type) for r in test] == [(1, "bad")] * len(DEFECTS) + [(0, "good")] * 2
    sample, original = data.read(test[0]), raw.read(raw.records("test")[2])
    for sensor in ("rgb", "normals"):
        np.testing.assert_array_equal(sample.sensors[sensor], original.sensors[sensor])
    assert sample.sensors["depth"].dtype == np.uint16
    assert sample.mask is not None
    np.testing.assert_array_equal(sample.mask, original.mask)
    with pytest.raises(DataError, match=r"test/bad/depth/002\.png: prepared .* no range .* no sensor 'xyz'; set data"):
        data.read(test[0], ["xyz"])
    with pytest.raises(UnknownNameError, match="unknown sensor 'image_4'"):
        data.read(test[0], ["image_4"])


def test_prepared_folders_may_lack_all_masks_of_defects_but_not_some(prepared: Path) -> None:
    (prepared / "test/bad/gt/003.png").unlink()
    with pytest.raises(DataError, match=r"test/bad/gt/003\.png: the file does not exist"):
        dataset(prepared).records("test")
    shutil.rmtree(prepared / "test/bad/gt")
    for _ in range(2):
        data = dataset(prepared)
        by_label = {record.label: data.read(record).mask for record in data.records("test")}
        assert by_label[1] is None
        assert by_label[0] is not None
        (prepared / "test/bad/gt").mkdir(exist_ok=True)  # an empty folder is as good as none


def test_wrong_folders_say_what_there_is(category: Path, prepared: Path) -> None:
    (category.parent / "papers").mkdir()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"category": None}, r"data\.category is not set: .*root holds Biscuit, prepared$"),
        ({"category": "biscuit"}, r"unknown category 'biscuit' - did you mean 'Biscuit'\? known: Biscuit, prepared$"),
        ({"category": "papers"}, r"papers: holds neither a downloaded category .* nor a prepared one"),
        ({"root": category, "category": "Biscuit"}, r"data\.root is itself a category folder; set data\.root="),
    ]
    for options, message in cases:
        with pytest.raises(DataError, match=message):
            dataset(category, **options).records("train")
    with pytest.raises(DataError, match=r"test_private/data: the folder does not exist; .*: test_public, train, val$"):
        dataset(category, test_split="private").records("test")
    for path in (category / "val/data").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"val/data: the split 'validation' holds no samples; expected files like 000_"):
        dataset(category).records("validation")


@pytest.mark.parametrize(
    ("removed", "split"),
    [
        ("train/data/001_image_4.png", "train"),
        ("train/data/001_image_0.png", "train"),
        ("train/data/001_depth.png", "train"),
        ("train/data/001_info_depth.yaml", "train"),
        ("test_public/data/03_mask.png", "test"),
        ("test_public/data/03_dents_mask.png", "test"),
    ],
)
def test_unpaired_files_are_named_or_skipped(category: Path, removed: str, split: Any) -> None:
    (category / removed).unlink()
    with pytest.raises(DataError, match=rf"{removed}: the file does not exist, but other files of this sample do"):
        dataset(category).records(split)
    skipping = dataset(category, on_bad_sample="skip")
    complete = len(skipping.records(split)) - 1
    views = {"rgb": RGB(RGB.Config()), "lights": Lights(Lights.Config()), "depth": RGB(RGB.Config(sensor="normals"))}
    if "info_depth" in removed:
        with pytest.raises(DataError, match=removed):
            skipping.read(skipping.records(split)[1], ["depth"])
        return
    with pytest.warns(BadSampleWarning, match=rf"skipped 1 of .*{removed}: the file does not exist"):
        assert len(load_split(skipping, split, views=views)) == complete


def test_an_unreadable_mask_stops_or_is_skipped(category: Path) -> None:
    path = category / "test_public/data/04_colors_mask.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"04_colors_mask\.png: the PNG file is truncated"):
        dataset(category).records("test")
    skipping = dataset(category, on_bad_sample="skip")
    record = skipping.records("test")[4]
    assert (record.label, record.defect_type) == (None, "unlabelled")
    with pytest.raises(DataError, match=r"04_colors_mask\.png: the PNG file is truncated"):
        skipping.read(record)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected 'normalization' with the numbers 'min' and 'max'"),
        ("normalization: {min: 0.1}", "found none that can be read: 'max'"),
        ("normalization: {min: near, max: far}", "could not convert string to float"),
        ("normalization: [", "expected 'normalization'"),
        ("normalization: {min: 0.9, max: 0.1}", r"expected 0 <= min <= max, found min 0\.9 and max 0\.1"),
        ("normalization: {min: 0, max: .nan}", "expected 0 <= min <= max"),
        ("normalization: {min: 300, max: 900}", r"depth\.png: a coordinate of 900 m; .* looks like millimetres"),
    ],
)
def test_ranges_of_depth_are_checked(category: Path, content: str, message: str) -> None:
    path = category / "train/data/000_info_depth.yaml"
    path.write_text(content)
    data = dataset(category)
    with pytest.raises(DataError, match=message) as caught:
        data.read(data.records("train")[0], ["depth"])
    assert "000_info_depth.yaml" in str(caught.value) or "000_depth.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_of_another_kind_are_named(category: Path) -> None:
    data = dataset(category)
    record = data.records("train")[0]
    grey = np.zeros((SIZE, SIZE), np.uint8)
    cases: list[tuple[str, np.ndarray, str]] = [
        ("xyz", grey, r"000_depth\.png: expected uint16 \(H, W\), found uint8 \(48, 48\); the download holds 16-bit"),
        ("rgb", grey, r"000_image_4\.png: expected uint8 \(H, W, 3\), found uint8 \(48, 48\)"),
        ("normals", np.zeros((9, 9, 3), np.uint8), r"'000': all files must have the same height x width, .* 9 x 9"),
    ]
    for sensor, array, message in cases:
        Image.fromarray(array).save(record.files[sensor])
        with pytest.raises(DataError, match=message):
            data.read(record, [sensor, "image_0"])
    for name in ("image_1", "depth"):
        path = category / f"train/data/001_{name}.png"
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(DataError, match=rf"001_{name}\.png: the PNG file is truncated"):
            data.read(data.records("train")[1], [name])


def test_the_range_is_read_from_the_sample_s_own_file(category: Path) -> None:
    path = category / "train/data/002_info_depth.yaml"
    path.write_text(yaml.safe_dump({"normalization": {"min": 2.0, "max": 3.0, "unit": "m"}, "more": 1}))
    data = dataset(category)
    depth = data.read(data.records("train")[2], ["depth"]).sensors["depth"]
    assert (depth.min(), depth.max()) == (2.0, 3.0)
