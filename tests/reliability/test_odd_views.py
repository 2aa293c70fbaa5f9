"""Data that can be read but look wrong are named before a training, and by a check of the data."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from crdkit.cli import main
from crdkit.config import RunConfig
from crdkit.data import datasets
from crdkit.data.check import check_dataset
from crdkit.data.orientation import read_orientation
from crdkit.data.synthetic import write_folder, write_mvtec3d
from crdkit.data.synthetic.staging import save_tiff
from crdkit.errors import DataError, UnusualDataWarning
from crdkit.runs._pipeline import Pipeline
from crdkit.views.look import LookAtViews

ENCODER = "encoder: {name: timm, model: test_resnet, pretrained: false}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_folder(
        tmp_path / "data",
        categories=["gear"],
        train=5,
        validation=2,
        test_good=1,
        test_per_defect=1,
        size=64,
        sensors=["rgb", "xyz", "depth", "infrared"],
    )
    return tmp_path / "data/gear"


def run(root: Path, modality: str, *overrides: str) -> RunConfig:
    return RunConfig.from_dict(
        {"data": {"name": "folder", "root": root, "image_size": 64}, "modalities": {"rgb": {"name": "rgb"}}}
    ).with_overrides(f"modalities={{view: {{{modality}, {ENCODER}}}}}", *overrides)


def warned(config: RunConfig) -> list[str]:
    """Return the warnings of loading the data for a training."""
    pipeline = Pipeline(config)
    pipeline.list(("train", "validation", "test"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipeline.load()
    assert all(issubclass(warning.category, UnusualDataWarning) for warning in caught)
    return [str(warning.message) for warning in caught]


def found(root: Path, **options: Any) -> list[tuple[str, str]]:
    """Return the findings of `crdkit data check`."""
    dataset = datasets.build(datasets.build_config({"name": "folder", "root": root, **options}))
    checked = check_dataset(dataset, look=LookAtViews())
    return [(finding.severity, f"{finding.path}: {finding.message}") for finding in checked.findings]


def change(root: Path, pattern: str, how: Callable[[np.ndarray], np.ndarray]) -> None:
    paths = sorted(root.glob(pattern))
    assert paths
    for path in paths:
        save_tiff(how(tifffile.imread(path)).astype(np.float32), path)


def flat(messages: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return ((severity, message) for severity, message in messages if "nearly flat" not in message)


def test_sound_data_cause_no_warning(root: Path) -> None:
    for modality in ("name: depth", "name: depth, sensor: depth", "name: normals", "name: xyz", "name: rgb"):
        assert warned(run(root, modality)) == []
    assert warned(run(root, "name: infrared, range: [29000, 31000]")) == []
    assert list(flat(found(root))) == []


@pytest.mark.parametrize("factor", [100, 30])
def test_scans_of_a_larger_unit_are_noticed(root: Path, factor: float) -> None:
    change(root, "**/xyz/*.tiff", lambda xyz: xyz * factor)
    (message,) = warned(run(root, "name: depth"))
    assert "train/good/xyz/000.tiff: modality 'view' cannot tell what is 0.005 m from the background" in message
    assert "if that is another unit, set data.scale.xyz to metres per unit" in message
    assert ("warning", message.replace("'view'", "'xyz'")) in found(root)
    assert warned(run(root, "name: depth", f"data.scale.xyz={1 / factor}")) == []


@pytest.mark.parametrize("factor", [0.1, 0.001])
def test_scans_of_a_smaller_unit_cannot_be_trained_on(root: Path, factor: float) -> None:
    change(root, "**/xyz/*.tiff", lambda xyz: xyz * factor)
    nothing = r"000\.tiff: modality '\w+' shows nothing: each of 7 views is 0 everywhere; this scan reaches 0\.\d+ m: "
    with pytest.raises(DataError, match=nothing + "if that is another unit, set data.scale.xyz to metres per unit"):
        warned(run(root, "name: depth"))
    assert any(severity == "error" and "shows nothing" in message for severity, message in found(root))


def test_one_scan_of_another_unit_is_named(root: Path) -> None:
    change(root, "train/good/xyz/002.tiff", lambda xyz: xyz * 50)
    messages = warned(run(root, "name: depth"))
    (named,) = [message for message in messages if "median sample: is it another unit?" in message]
    assert "train/good/xyz/002.tiff: sensor 'xyz' reaches 30" in named
    assert ("warning", named) in found(root)


def test_test_scans_of_another_unit_are_named(root: Path) -> None:
    change(root, "test/*/xyz/*.tiff", lambda xyz: xyz * 100)
    count = len(list(root.glob("test/*/xyz/*.tiff")))
    (message,) = warned(run(root, "name: depth"))
    assert f"as in another unit (the first of {count} samples)" in message
    assert ("warning", message) in found(root)


def test_centimetres_in_depth_images_are_noticed_and_millimetres_refused(root: Path) -> None:
    config = run(root, "name: depth, sensor: depth")
    change(root, "**/depth/*.tiff", lambda depth: depth * 100)
    (message,) = warned(config)
    assert "cannot tell what is 0.005 m from the background plane at this distance; this scan reaches 60 m" in message
    assert ("warning", message.replace("'view'", "'depth'")) in found(root)
    change(root, "**/depth/*.tiff", lambda depth: depth * 10)
    with pytest.raises(DataError, match=r"a coordinate of \d+ m; .*millimetres; .*data\.scale\.depth=0\.001"):
        warned(config)
    assert warned(config.with_overrides("data.scale.depth=0.001")) == []


def test_constant_views_are_named(root: Path) -> None:
    for path in sorted(root.glob("train/good/rgb/*.png"))[:2]:
        Image.new("RGB", (64, 64), (9, 9, 9)).save(path)
    (message,) = warned(run(root, "name: rgb"))
    assert message.endswith("000.png: the view 'view' is 0.0353 everywhere (the first of 2 samples)")
    for path in root.glob("*/good/rgb/*.png"):
        Image.new("RGB", (64, 64), (9, 9, 9)).save(path)
    with pytest.raises(DataError, match=r"shows nothing: each of 7 views is 0\.0353 everywhere; look at its files"):
        warned(run(root, "name: rgb", "data.allow_overlap=true"))


def test_fill_values_are_proposed_as_invalid(root: Path) -> None:
    def fill(xyz: np.ndarray) -> np.ndarray:
        xyz[:6, :6] = -1
        return xyz

    change(root, "**/xyz/*.tiff", fill)
    messages = warned(run(root, "name: depth"))
    (named,) = [message for message in messages if "nothing was measured there" in message]
    assert "000.tiff: sensor 'xyz' holds -1 in many pixels" in named
    assert named.endswith("set data.invalid.xyz=-1 (the first of 7 samples)")
    assert ("warning", named) in found(root)
    assert warned(run(root, "name: depth", "data.invalid.xyz=-1")) == []
    scaled = [message for message in warned(run(root, "name: depth", "data.scale.xyz=0.5")) if "invalid" in message]
    assert scaled[0].endswith("set data.invalid.xyz=-1 (the first of 7 samples)")


def test_a_flat_thermal_image_gets_a_range(root: Path) -> None:
    (message,) = warned(run(root, "name: infrared"))
    assert "of the range from 0 to 65535; set modalities.view.range=[" in message
    proposed = message.rpartition("=")[2]
    assert warned(run(root, f"name: infrared, range: {proposed}")) == []
    low, high = (float(value) for value in proposed.strip("[]").split(","))
    assert 28000 < low < 29600
    assert 30000 < high < 32000
    (named,) = [message for severity, message in found(root) if severity == "warning" and "nearly flat" in message]
    assert f"; give its modality range={proposed}" in named  # no configuration, so no key of one


def test_orientation_tags_that_differ_are_named(root: Path) -> None:
    for place, path in enumerate(sorted(root.glob("**/rgb/*.png"))):
        exif = Image.Exif()
        exif[274] = 6 if place == 0 else 1
        with Image.open(path) as image:
            image.convert("RGB").save(path.with_suffix(".jpg"), exif=exif)
        path.unlink()
    turned = min(root.glob("**/rgb/*.jpg"))
    (message,) = warned(run(root, "name: rgb"))
    assert message.startswith(f"{turned}: its orientation tag is 6, that of most files 1 (upright); pixels are read as")
    assert ("warning", message) in found(root)


def test_orientation_tags_are_read_from_headers(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tiff", np.zeros((4, 4), np.float32), extratags=[(274, "H", 1, 3, True)])
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((4, 4), np.float32))
    Image.new("RGB", (4, 4)).save(tmp_path / "c.jpg")
    (tmp_path / "d.jpg").write_bytes(b"\xff\xd8\xff damaged")
    names = ("a.tiff", "b.tif", "c.jpg", "d.jpg", "missing.tiff", "e.png")
    assert [read_orientation(tmp_path / name) for name in names] == [3, 1, 1, 1, 1, 1]


def test_the_cache_keeps_what_was_seen(root: Path, tmp_path: Path) -> None:
    change(root, "train/good/xyz/002.tiff", lambda xyz: xyz * 50)
    config = run(root, "name: depth", f"data.cache={tmp_path / 'cache'}")
    first = warned(config)
    pipeline = Pipeline(config)
    pipeline.list(("train",))
    with pytest.warns(UnusualDataWarning, match="median sample"):
        pipeline.load()
    assert pipeline.splits["train"].cached
    assert warned(config) == first


def test_data_check_looks_at_the_modalities_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_mvtec3d(
        tmp_path / "s", categories=["gear"], train=3, validation=1, test_good=1, test_per_defect=1, size=64
    )
    change(root, "gear/*/*/xyz/*.tiff", lambda xyz: xyz * 0.01)
    assert main(["data", "check", str(root)]) == 2
    assert "modality 'xyz' shows nothing" in capsys.readouterr().out
    config = tmp_path / "run.yaml"
    config.write_text(run(root, "name: normals", "data.name=mvtec3d").to_yaml())
    assert main(["data", "check", str(root), "--config", str(config)]) == 2
    assert "modality 'view' shows nothing" in capsys.readouterr().out
