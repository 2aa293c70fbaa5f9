"""The writers: layouts, repeatable bytes, masks, and nothing half-written."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from crdkit.data.synthetic import (
    DEFECTS,
    FOLDER_SENSORS,
    LAYOUTS,
    MASK_VALUES,
    OBJECT_KINDS,
    Scene,
    make_scene,
    render_sensors,
    sample_key,
    scanner_camera,
    write_eyecandies,
    write_folder,
    write_mvtec3d,
)
from crdkit.errors import CrdkitError, UnknownNameError

CAMERA = scanner_camera(128)
KINDS = tuple(OBJECT_KINDS)


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "small"
    return write_mvtec3d(out, train=3, validation=1, test_good=1, test_per_defect=1, size=(64, 96), seed=5)


def test_layout_sizes_and_types(written: Path) -> None:
    expected = set()
    for kind in KINDS:
        expected |= {
            f"{kind}/train/good/{file}" for n in range(3) for file in (f"rgb/{n:03d}.png", f"xyz/{n:03d}.tiff")
        }
        expected |= {f"{kind}/validation/good/{file}" for file in ("rgb/000.png", "xyz/000.tiff")}
        for defect in ("good", *DEFECTS):
            expected |= {f"{kind}/test/{defect}/{file}" for file in ("rgb/000.png", "xyz/000.tiff", "gt/000.png")}
    assert set(contents(written)) == expected
    rgb = np.asarray(Image.open(written / "gear/test/dent/rgb/000.png"))
    xyz = tifffile.imread(written / "gear/test/dent/xyz/000.tiff")
    assert rgb.shape == (64, 96, 3)
    assert rgb.dtype == np.uint8
    assert xyz.shape == (64, 96, 3)
    assert xyz.dtype == np.float32


def test_masks_hold_their_class_id_and_good_ones_are_empty(written: Path) -> None:
    for kind in KINDS:
        assert not np.asarray(Image.open(written / f"{kind}/test/good/gt/000.png")).any()
        for defect, value in MASK_VALUES.items():
            mask = np.asarray(Image.open(written / f"{kind}/test/{defect}/gt/000.png"))
            assert mask.dtype == np.uint8
            assert set(np.unique(mask)) == {0, value}


def test_same_seed_same_bytes_whatever_else_is_written(written: Path, tmp_path: Path) -> None:
    again = write_mvtec3d(
        tmp_path / "again",
        categories=["gear"],
        train=1,
        validation=2,
        test_good=0,
        test_per_defect=2,
        size=(64, 96),
        seed=5,
    )
    first, second = contents(written), contents(again)
    shared = first.keys() & second.keys()
    assert len(shared) == 2 + 2 + 3 * len(DEFECTS)
    assert all(first[name] == second[name] for name in shared)
    other = write_mvtec3d(
        tmp_path / "other",
        categories=["gear"],
        train=1,
        validation=0,
        test_good=0,
        test_per_defect=0,
        size=(64, 96),
        seed=6,
    )
    assert all(first[name] != data for name, data in contents(other).items())


def test_eyecandies_layout(tmp_path: Path) -> None:
    out = write_eyecandies(
        tmp_path / "candies", categories=["biscuit"], train=1, validation=1, test_good=1, test_per_defect=1, size=64
    )
    endings = [f"image_{number}.png" for number in range(6)]
    endings += [f"{name}.png" for name in ("depth", "normals", "mask")]
    endings += [f"{group}_mask.png" for group in ("bumps", "dents", "colors", "normals")]
    endings += ["info_depth.yaml", "metadata.yaml", "pose.txt"]
    tests = ("good", *DEFECTS)
    starts = ["train/data/000", "val/data/00", *(f"test_public/data/{number:02d}" for number in range(len(tests)))]
    assert set(contents(out)) == {f"Biscuit/{start}_{ending}" for start in starts for ending in endings}
    folder = out / "Biscuit/test_public/data"
    depth = np.asarray(Image.open(folder / "00_depth.png"))
    assert depth.dtype == np.uint16
    assert (depth.min(), depth.max()) == (0, 65535)
    for number, defect in enumerate(tests):
        anomalous = np.asarray(Image.open(folder / f"{number:02d}_mask.png")).any()
        assert anomalous == (defect != "good")
        assert f"anomalous: {int(anomalous)}" in (folder / f"{number:02d}_metadata.yaml").read_text()


SMALL = {"categories": ["gear"], "train": 1, "validation": 1, "test_good": 1, "test_per_defect": 1, "size": 64}


def test_folder_layout(tmp_path: Path) -> None:
    sensors = ["rgb", "xyz", "depth", "normals", "infrared", "light_0", "light_5", "polarisation_45"]
    out = write_folder(tmp_path / "out", sensors=sensors, **SMALL)
    endings = {"xyz": "tiff", "depth": "tiff"}
    files = [f"{sensor}/000.{endings.get(sensor, 'png')}" for sensor in sensors]
    starts = ["train/good", "validation/good", "test/good", *(f"test/{name}" for name in (*DEFECTS, "void"))]
    expected = {f"gear/{start}/{file}" for start in starts for file in files}
    assert set(contents(out)) == expected | {f"gear/test/{name}/mask/000.png" for name in (*DEFECTS, "void")}
    folder = out / "gear/test/void"
    scene = make_scene("gear", camera=scanner_camera(64), key=sample_key(0, "gear", "test", "void", 0), defect="void")
    measured = render_sensors(scene)
    for sensor, file in zip(sensors, files, strict=True):
        path = folder / file
        stored = tifffile.imread(path) if path.suffix == ".tiff" else np.asarray(Image.open(path))
        assert stored.dtype == measured[FOLDER_SENSORS[sensor]].dtype
        assert np.array_equal(stored, measured[FOLDER_SENSORS[sensor]])
    mask = np.asarray(Image.open(folder / "mask/000.png"))
    assert np.array_equal(mask, scene.mask * np.uint8(255))


def test_folder_layout_can_do_without_validation_and_infrared(tmp_path: Path) -> None:
    out = write_folder(tmp_path / "out", sensors=["rgb"], **SMALL | {"validation": 0})
    assert sorted(folder.name for folder in (out / "gear").iterdir()) == ["test", "train"]
    assert not (out / "gear/test/void").exists()  # nothing there could see it


def test_layouts_hold_the_same_samples_and_take_the_same_arguments(tmp_path: Path) -> None:
    written = {name: contents(write(tmp_path / name, **SMALL)) for name, write in LAYOUTS.items()}
    for file in ("rgb/000.png", "xyz/000.tiff"):
        for part in ("train/good", "test/crack"):
            assert written["folder"][f"gear/{part}/{file}"] == written["mvtec3d"][f"gear/{part}/{file}"]
    parameters = [set(inspect.signature(write).parameters) for write in LAYOUTS.values()]
    assert set.intersection(*parameters) == {*inspect.signature(write_mvtec3d).parameters}


def test_refuses_to_overwrite_and_leaves_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(CrdkitError, match=r"full exists and is not an empty folder; choose another one or delete it"):
        write_mvtec3d(tmp_path / "full")
    assert contents(tmp_path) == {"full/notes.txt": b"mine"}


def test_fills_an_empty_folder(tmp_path: Path) -> None:
    none = {"train": 0, "validation": 0, "test_good": 0, "test_per_defect": 0}
    write_mvtec3d(tmp_path, categories=["gear"], **none)
    assert (tmp_path / "gear/train/good/rgb").is_dir()


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(scene: Scene) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("crdkit.data.synthetic.write.render_xyz", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_mvtec3d(tmp_path / "out", categories=["gear"], size=64)
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown synthetic category 'biscuits' - did you mean 'biscuit'\?"):
        write_mvtec3d(tmp_path / "out", categories=["biscuits"])
    with pytest.raises(UnknownNameError, match=r"unknown synthetic sensor 'light_9' - did you mean 'light_"):
        write_folder(tmp_path / "out", sensors=["light_9"])
    with pytest.raises(UnknownNameError, match=r"unknown synthetic defect 'dnt' - did you mean 'dent'\?"):
        make_scene("gear", camera=CAMERA, key=(0,), defect="dnt")
    with pytest.raises(CrdkitError, match=r"train \(=-1\) must be 0 or more"):
        write_mvtec3d(tmp_path / "out", train=-1)
    with pytest.raises(CrdkitError, match=r"size \(=8\) must be at least 32"):
        write_mvtec3d(tmp_path / "out", size=8)
    assert list(tmp_path.iterdir()) == []
