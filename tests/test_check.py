"""What `crdkit data check` finds: nothing in sound folders of any layout, and each kind of fault by its file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from crdkit.data import datasets
from crdkit.data.check import DatasetCheck, Finding, check_dataset
from crdkit.data.discover import open_datasets
from crdkit.data.synthetic import DEFECTS, LAYOUTS, category_folders
from crdkit.errors import DataError, UnknownNameError


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One category in each layout."""
    out = tmp_path_factory.mktemp("check")
    for name, write in LAYOUTS.items():
        write(out / name, categories=["biscuit"], train=2, validation=1, test_good=1, test_per_defect=1, size=64)
    return out


@pytest.fixture
def category(written: Path, tmp_path: Path) -> Path:
    """A folder in the layout mvtec3d that a test may damage."""
    return shutil.copytree(written / "mvtec3d", tmp_path / "root") / "biscuit"


def check(category: Path, **options: Any) -> DatasetCheck:
    config = {"name": "mvtec3d", "root": category.parent, "category": category.name, "image_size": 64}
    return check_dataset(datasets.get("mvtec3d")(datasets.build_config(config | options)))


def found(category: Path, **options: Any) -> list[tuple[str, str, str]]:
    findings = check(category, **options).findings
    return [
        (finding.severity, finding.path.relative_to(category).as_posix(), finding.message)
        for finding in findings
        if not finding.message.startswith("masks hold the values")
    ]


def save_scan(path: Path, xyz: np.ndarray) -> None:
    tifffile.imwrite(path, xyz, photometric="rgb")


@pytest.mark.parametrize("name", list(datasets))
def test_sound_folders_of_any_layout_pass(written: Path, name: str) -> None:
    (dataset,) = open_datasets(written / name)
    assert dataset.config.name == name
    result = check_dataset(dataset)
    assert result.layout == name
    assert result.folder == category_folders(written / name)[0]
    views = 2 if name == "m2ad" else 1
    normals = [result.counts[split]["good"] for split in ("train", "validation", "test")]
    assert normals == ([2, 2, 4] if name == "m2ad" else [2, 1, 1])
    assert sum(result.counts["test"].values()) - normals[-1] >= len(DEFECTS) * views
    assert [finding for finding in result.findings if finding.severity != "note"] == []


def test_class_ids_are_noted_once(category: Path) -> None:
    (finding,) = check(category).findings
    assert finding.severity == "note"
    assert finding.message.startswith("masks hold the values 250, 251, 252, 253, 254 besides 0 and 255: all but 0")
    assert finding.path.parent.name == "gt"


def test_every_bad_file_is_found_in_one_pass(category: Path) -> None:
    (category / "train/good/rgb/000.png").unlink()
    (category / "train/good/xyz/001.tiff").write_bytes(b"II*\0")
    (category / "validation/good/rgb/000.png").write_text("no image")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(category / "test/dent/gt/000.png")
    findings = found(category)
    assert [(severity, path) for severity, path, _ in findings] == [
        ("error", "train/good/rgb/000.png"),
        ("error", "train/good/xyz/001.tiff"),
        ("error", "validation/good/rgb/000.png"),
        ("error", "test/dent/rgb/000.png"),
    ]
    expected = [
        "the file does not exist",
        "TIFF file is truncated",
        "expected a PNG",
        "all files must have the same height",
    ]
    for (_, _, message), part in zip(findings, expected, strict=True):
        assert part in message
    result = check(category)
    assert result.counts["train"] == {"good": 2}  # they are counted all the same
    assert (result.count("error"), result.count("warning"), result.count("note")) == (4, 0, 1)


def test_a_split_that_cannot_be_listed_does_not_hide_the_others(category: Path) -> None:
    shutil.rmtree(category / "validation")
    (category / "test/dent/rgb/notes.txt").write_text("x")
    (category / "train/good/rgb/001.png").unlink()
    findings = found(category)
    assert [path for _, path, _ in findings] == ["train/good/rgb/001.png", ".", "."]
    assert "the folder of the split 'validation' does not exist" in findings[1][2]
    assert "test/dent/rgb/notes.txt: expected .png files only" in findings[2][2]
    assert list(check(category).counts) == ["train"]


def test_odd_measurements_are_found(category: Path) -> None:
    scan = tifffile.imread(category / "train/good/xyz/000.tiff")
    scan[:9, :9] = 0
    scan[-9:, :9] = 0
    save_scan(category / "train/good/xyz/000.tiff", scan)
    Image.fromarray(np.full((64, 64, 3), 40, np.uint8)).save(category / "train/good/rgb/001.png")
    save_scan(category / "validation/good/xyz/000.tiff", np.zeros((64, 64, 3), np.float32))
    empty, corners, constant = found(category)
    assert empty[:2] == ("error", "validation/good/xyz/000.tiff")
    assert "no pixel holds a measurement" in empty[2]
    assert corners[:2] == ("warning", "train/good/xyz/000.tiff")
    assert corners[2].startswith("sensor 'xyz' holds no measurement in the corner top left and bottom left, which the")
    assert constant == ("warning", "train/good/rgb/001.png", "sensor 'rgb' is 40 everywhere")


def test_infinity_that_an_adapter_lets_through_is_found(category: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = datasets.get("mvtec3d")
    read = cls.read

    def careless(self: Any, record: Any, sensors: Any = None) -> Any:
        sample = read(self, record, sensors)
        if record.split == "validation":
            sample.sensors["xyz"][0, 0] = np.inf
        return sample

    monkeypatch.setattr(cls, "read", careless)
    assert found(category) == [("error", "validation/good/xyz/000.tiff", "sensor 'xyz' holds infinite values")]


def test_masks_that_mark_too_little_are_found(category: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    Image.fromarray(mask).save(category / "test/dent/gt/000.png")
    mask[5, 5:7] = 255
    Image.fromarray(mask).save(category / "test/bump/gt/000.png")
    expected = (
        "error",
        "test/dent/gt/000.png",
        "the mask of a sample with the defect type 'dent' is empty; mark the defect",
    )
    assert found(category) == [expected]
    small = ("warning", "test/bump/gt/000.png", "the 2 pixels of the mask vanish at data.image_size=16; increase it")
    assert found(category, image_size=16)[:2] == [expected, small]


def test_files_with_the_same_content_are_found(category: Path) -> None:
    for file in ("xyz/000.tiff", "rgb/000.png"):
        shutil.copy(category / "train/good" / file, category / "test/good" / file)
    shutil.copy(category / "train/good/rgb/000.png", category / "train/good/rgb/001.png")
    shutil.copy(category / "train/good/xyz/001.tiff", category / "validation/good/xyz/000.tiff")
    leak, copy, held_out = found(category)
    first = category / "train/good"
    assert leak[:2] == ("error", "test/good/rgb/000.png")
    assert leak[2].startswith(f"every file of this test sample has the content of {first / 'rgb/000.png'} in the split")
    assert copy == (
        "warning",
        "train/good/rgb/001.png",
        f"has the same content as {first / 'rgb/000.png'} in the split 'train'",
    )
    assert held_out[:2] == ("warning", "validation/good/xyz/000.tiff")


def test_one_equal_file_makes_no_equal_sample_and_a_dark_image_may_repeat(category: Path) -> None:
    shutil.copy(category / "train/good/xyz/000.tiff", category / "test/good/xyz/000.tiff")
    dark = np.zeros((64, 64, 3), np.uint8)
    for file in ("train/good/rgb/001.png", "test/good/rgb/000.png"):
        Image.fromarray(dark).save(category / file)
    same, *constant = sorted(found(category), key=lambda finding: "same content" not in finding[2])
    assert same[:2] == ("warning", "test/good/xyz/000.tiff")
    assert {message for _, _, message in constant} == {"sensor 'rgb' is 0 everywhere"}


def test_what_cannot_be_measured_is_said(category: Path, tmp_path: Path) -> None:
    shutil.rmtree(category / "test/good")
    assert found(category) == [("warning", ".", "the test split holds no normal samples: no image AUROC")]
    for defect in (category / "test").iterdir():
        shutil.rmtree(defect / "gt")
    config = {"name": "folder", "root": category}
    dataset = datasets.get("folder")(datasets.build_config(config))
    messages = [finding.message for finding in check_dataset(dataset).findings]
    assert messages == [
        "the test split holds no normal samples: no image AUROC",
        "6 defective samples have no mask (this is the first): no pixel metrics",
    ]
    for sensor in ("rgb", "xyz"):
        (category / "test/dent" / sensor).rename(category / "test" / sensor)
    for defect in [path for path in (category / "test").iterdir() if path.name not in ("rgb", "xyz")]:
        shutil.rmtree(defect)
    (note,) = check_dataset(dataset).findings
    assert note == Finding(severity="note", path=category, message="1 test samples have no label: scores only")


def test_samples_of_several_sizes_are_found(category: Path) -> None:
    image = Image.open(category / "train/good/rgb/000.png")
    image.resize((32, 64)).save(category / "train/good/rgb/000.png")
    save_scan(
        category / "train/good/xyz/000.tiff", tifffile.imread(category / "train/good/xyz/000.tiff")[:, ::2].copy()
    )
    ((severity, path, message),) = found(category)
    assert (severity, path) == ("warning", ".")
    assert message.startswith("samples differ in height and width (9 of 64 x 64, 1 of 64 x 32)")


def test_datasets_are_recognised_in_a_category_folder_and_above(written: Path, tmp_path: Path) -> None:
    for name in datasets:
        (category,) = category_folders(written / name)
        for folder in (category, written / name):
            assert [(d.config.name, d.config.category) for d in open_datasets(folder)] == [(name, category.name)]
    assert open_datasets(written / "mvtec3d", layout="folder")[0].config.name == "folder"
    both = tmp_path / "both"
    shutil.copytree(written / "mvtec3d/biscuit", both / "a")
    shutil.copytree(written / "eyecandies/Biscuit", both / "b")
    (both / "papers").mkdir()
    assert [dataset.config.name for dataset in open_datasets(both)] == ["mvtec3d", "eyecandies"]


def test_what_is_no_dataset_is_refused_with_the_reasons(written: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: is not a folder; give a category folder"):
        open_datasets(tmp_path / "nowhere")
    with pytest.raises(UnknownNameError, match="unknown dataset 'mvtec'"):
        open_datasets(written / "mvtec3d", layout="mvtec")
    with pytest.raises(DataError, match=r"holds no category in a known layout: eyecandies: .*; mvtec3d: .*; folder: "):
        open_datasets(tmp_path)
    with pytest.raises(DataError, match=r"in a known layout: eyecandies: "):
        open_datasets(written / "mvtec3d", layout="eyecandies")
