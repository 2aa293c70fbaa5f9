"""The adapter for a user's own data: folders by convention or by manifest, held-out normals, units, wrong files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import tifffile
from conftest import TINY
from PIL import Image

import crdkit
from crdkit.config import RunConfig
from crdkit.data import Split, datasets
from crdkit.data.adapters.folder import Folder
from crdkit.data.discover import open_datasets
from crdkit.data.synthetic import write_folder
from crdkit.errors import BadSampleWarning, ConfigError, DataError
from crdkit.runs.directory import read_metrics
from crdkit.views.rgb import RGB
from crdkit.views.split import load_split

SHAPE = (6, 8)


def dataset(root: Path, **options: Any) -> Folder:
    config = datasets.build_config({"name": "folder", "root": root} | options)
    assert isinstance(config, Folder.Config)
    return Folder(config)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".tiff":
        tifffile.imwrite(path, array, photometric="rgb" if array.ndim == 3 else "minisblack")
    else:
        Image.fromarray(array).save(path)


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)


def heat(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(29_000, 31_000, SHAPE, dtype=np.uint16)


def mark() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:3, 2:4] = 7
    return mask


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A data folder by convention: rgb and thermal, 12 normal samples, 2 normal and 3 defective ones to test on."""
    root = tmp_path / "parts"
    for part, names in {"train/good": range(12), "test/good": range(2), "test/scratch": range(3)}.items():
        for name in names:
            save(root / part / "rgb" / f"part {name}.png", image(name))
            save(root / part / "thermal" / f"part {name}.tiff", heat(name))
            if part == "test/scratch":
                save(root / part / "mask" / f"part {name}.png", mark())
    return root


MANIFEST = """
    sensors:
      rgb: "*/colour.png"
      thermal: "*/heat.npy"
    masks: "*/label.bmp"
    train: [monday, tuesday]
    validation: wednesday
    test:
      good: thursday/fine
      scratch: thursday/scratched
"""


@pytest.fixture
def arranged(tmp_path: Path) -> Path:
    """The arrangement of MANIFEST: a folder per sample."""
    root = tmp_path / "week"
    for part in ("monday", "tuesday", "wednesday", "thursday/fine", "thursday/scratched"):
        for name in ("a", "b"):
            save(root / part / name / "colour.png", image(1))
            save(root / part / name / "heat.npy", heat(1))
            (root / part / name / "notes.txt").write_text("not a sensor")
            if part == "thursday/scratched":
                save(root / part / name / "label.bmp", mark())
    write_manifest(root, MANIFEST)
    return root


def write_manifest(root: Path, text: str) -> None:
    (root / "manifest.yaml").write_text(dedent(text))


def ids(data: Folder, split: Split) -> list[str]:
    return [record.sample_id for record in data.records(split)]


def test_folders_are_sensors_and_defect_types(plain: Path) -> None:
    data = dataset(plain)
    assert datasets.get("folder") is Folder
    assert data.sensors == ("rgb", "thermal")
    test = data.records("test")
    assert [(r.sample_id, r.label, r.defect_type) for r in test] == [
        *((f"test/good/part {n}", 0, "good") for n in range(2)),
        *((f"test/scratch/part {n}", 1, "scratch") for n in range(3)),
    ]
    assert test[0].mask_file is None
    assert test[2].files == {
        "rgb": plain / "test/scratch/rgb/part 0.png",
        "thermal": plain / "test/scratch/thermal/part 0.tiff",
    }
    sample = data.read(test[2])
    np.testing.assert_array_equal(sample.sensors["rgb"], image(0))
    np.testing.assert_array_equal(sample.sensors["thermal"], heat(0))
    assert sample.mask is not None
    np.testing.assert_array_equal(sample.mask, np.where(mark() > 0, 255, 0))


def test_rgb_names_the_sample_although_another_sensor_is_first_by_name(plain: Path) -> None:
    for folder in plain.glob("*/*/thermal"):
        folder.rename(folder.with_name("infrared"))
    data = dataset(plain)
    assert data.sensors == ("rgb", "infrared")
    assert data.records("train")[0].image_path.name.endswith(".png")


def test_hidden_files_and_folders_are_ignored(plain: Path) -> None:
    (plain / "train/good/rgb/._part 0.png").write_bytes(b"x")
    (plain / "train/good/rgb/.DS_Store").write_bytes(b"x")
    (plain / "train/good/.cache").mkdir()
    (plain / "test/.ipynb_checkpoints").mkdir()
    data = dataset(plain)
    assert data.sensors == ("rgb", "thermal")
    assert len(data.records("train")) == 11
    assert len(data.records("test")) == 5


def test_a_category_is_a_folder_in_the_root(plain: Path) -> None:
    (plain.parent / "papers").mkdir()
    assert len(dataset(plain.parent, category="parts").records("test")) == 5
    with pytest.raises(DataError, match=r"data\.category is not set: .* holds parts$"):
        dataset(plain.parent).records("test")
    with pytest.raises(DataError, match=r"unknown category 'prts' - did you mean 'parts'\?"):
        dataset(plain.parent, category="prts").records("test")


def test_without_a_validation_folder_a_share_of_the_normals_is_held_out(plain: Path) -> None:
    train, held_out = ids(dataset(plain), "train"), ids(dataset(plain), "validation")
    assert (len(train), len(held_out)) == (11, 1)
    assert sorted(train + held_out) == sorted(f"train/good/part {n}" for n in range(12))
    half = dataset(plain, validation_share=0.5)
    assert len(ids(half, "validation")) == 6
    assert ids(half, "validation") != sorted(train + held_out)[:6]  # neither the first nor the last: parts may drift
    assert ids(half, "validation") != sorted(train + held_out)[6:]
    assert len(ids(dataset(plain, validation_share=0.001), "validation")) == 1
    assert set(held_out) <= set(ids(half, "validation"))  # who is held out does not depend on the share
    assert {record.split for record in half.records("validation")} == {"validation"}
    most = dataset(plain, validation_share=0.99)
    assert (len(ids(most, "train")), len(ids(most, "validation"))) == (1, 11)
    moved = shutil.copytree(plain, plain.parent / "moved")
    assert ids(dataset(moved), "validation") == held_out  # nor on where the folder lies
    for path in (plain / "train/good").glob("*/part *"):
        if not path.stem.endswith(" 3"):
            path.unlink()
    for split in ("train", "validation"):
        with pytest.raises(DataError, match=r"train/good/rgb/part 3\.png: is the only normal sample; add more"):
            dataset(plain).records(split)


def test_a_validation_folder_is_taken_as_it_is(plain: Path) -> None:
    shutil.copytree(plain / "test/good", plain / "validation/good")
    assert ids(dataset(plain), "validation") == ["validation/good/part 0", "validation/good/part 1"]
    assert len(ids(dataset(plain), "train")) == 12


def test_sensors_may_lie_in_train_and_unlabelled_ones_in_test(plain: Path) -> None:
    for sensor in ("rgb", "thermal"):
        shutil.move(plain / "train/good" / sensor, plain / "train" / sensor)
        shutil.move(plain / "test/good" / sensor, plain / "test" / sensor)
    shutil.rmtree(plain / "train/good")
    for folder in ("test/good", "test/scratch"):
        shutil.rmtree(plain / folder)
    data = dataset(plain, image_size=16)
    assert len(data.records("train")) == 11
    assert [(r.sample_id, r.label, r.defect_type) for r in data.records("test")] == [
        ("test/part 0", None, "unlabelled"),
        ("test/part 1", None, "unlabelled"),
    ]
    split = load_split(data, "test", views={"rgb": RGB(RGB.Config())})
    assert split.labels is None
    assert split.masks is None


def test_good_is_no_sensor(tmp_path: Path) -> None:
    for place in ("train/good", "validation/good", "test/good", "test/scratch"):
        save(tmp_path / place / "0.png", image(0))
    for splits in (("train", "validation", "test"), ("train", "validation")):
        with pytest.raises(DataError, match=r"/train/good: holds images itself, .* crdkit data import .* a manifest"):
            dataset(tmp_path).records(splits[-1])
        with pytest.raises(DataError, match=r"no category in a known layout.*/train/good: holds images itself"):
            open_datasets(tmp_path)
        shutil.rmtree(tmp_path / "test", ignore_errors=True)


def test_a_folder_of_sensors_is_an_unlabelled_test_split(plain: Path) -> None:
    data = dataset(plain / "test" / "good")
    assert ids(data, "test") == ["part 0", "part 1"]
    with pytest.raises(
        DataError, match=r"there is no split 'train'; add the folder train/good/<sensor>, or a manifest"
    ):
        data.records("train")


def test_masks_are_of_all_defective_samples_or_of_none(plain: Path) -> None:
    shutil.copytree(plain / "test/scratch", plain / "test/dent")
    (plain / "test/dent/mask/part 1.png").unlink()
    with pytest.raises(DataError, match=r"test/dent/mask/part 1\.png: the file does not exist"):
        dataset(plain).records("test")
    shutil.rmtree(plain / "test/dent/mask")
    with pytest.raises(DataError, match=r"test/dent/mask: the folder does not exist"):
        dataset(plain).records("test")
    (plain / "test/scratch/mask").rename(plain / "test/scratch/gt")
    shutil.copytree(plain / "test/scratch/gt", plain / "test/dent/gt")
    assert sum(record.mask_file is not None for record in dataset(plain).records("test")) == 6
    for defect in ("dent", "scratch"):
        shutil.rmtree(plain / f"test/{defect}/gt")
    data = dataset(plain)
    assert {record.mask_file for record in data.records("test")} == {None}
    assert data.read(data.records("test")[0]).mask is None


def test_a_manifest_describes_any_arrangement(arranged: Path) -> None:
    data = dataset(arranged)
    assert data.sensors == ("rgb", "thermal")
    assert ids(data, "train") == ["monday/a", "monday/b", "tuesday/a", "tuesday/b"]
    assert ids(data, "validation") == ["wednesday/a", "wednesday/b"]
    test = data.records("test")
    assert [(r.sample_id, r.label, r.defect_type) for r in test] == [
        ("thursday/fine/a", 0, "good"),
        ("thursday/fine/b", 0, "good"),
        ("thursday/scratched/a", 1, "scratch"),
        ("thursday/scratched/b", 1, "scratch"),
    ]
    sample = data.read(test[2])
    np.testing.assert_array_equal(sample.sensors["thermal"], heat(1))
    assert sample.mask is not None
    np.testing.assert_array_equal(sample.mask > 0, mark() > 0)


def test_a_manifest_may_lie_elsewhere(arranged: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "mine.yaml"
    (arranged / "manifest.yaml").rename(elsewhere)
    with pytest.raises(DataError, match=r"data\.category is not set"):
        dataset(arranged).records("train")
    assert len(dataset(arranged, manifest=elsewhere).records("train")) == 4
    assert len(dataset(arranged.parent, category="week", manifest=elsewhere).records("train")) == 4
    with pytest.raises(DataError, match=r"nowhere\.yaml: the manifest cannot be read: .*; check data\.manifest"):
        dataset(arranged, manifest=tmp_path / "nowhere.yaml").records("train")


def test_the_example_in_the_docstring_is_a_manifest(arranged: Path) -> None:
    assert Folder.__doc__ is not None
    example = Folder.__doc__.partition("arrangements:\n")[2].partition("A manifest.csv")[0]
    write_manifest(arranged, example.replace("label.png", "label.bmp").replace("heat.tiff", "heat.npy"))
    assert len(dataset(arranged).records("train")) == 4
    assert len(dataset(arranged).records("test")) == 4


@pytest.mark.parametrize(
    ("pattern", "file"),
    [
        ("rgb/*.png", "rgb/7.png"),
        ("*_rgb.png", "7_rgb.png"),
        ("rgb/cam_*", "rgb/cam_7.jpg"),
        ("s/*/a/b.bmp", "s/7/a/b.bmp"),
    ],
)
def test_the_star_is_the_name_of_the_sample(tmp_path: Path, pattern: str, file: str) -> None:
    save(tmp_path / "new" / file, image(0))
    save(tmp_path / "new" / "x_7.tiff", heat(0))
    write_manifest(tmp_path, f"sensors: {{rgb: '{pattern}', heat: 'x_*.tiff'}}\ntest: new")
    (record,) = dataset(tmp_path).records("test")
    assert (record.sample_id, record.label, record.defect_type) == ("new/7", None, "unlabelled")
    assert record.files == {"rgb": tmp_path / "new" / file, "heat": tmp_path / "new/x_7.tiff"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sensors: [", "is not valid YAML"),
        ("- rgb", r"expected the keys sensors, masks, train, validation, test, found \['rgb'\]"),
        ("train: monday", "sensors is missing"),
        ("sensors: {}\ntrain: monday", "sensors .* should have at least 1 item"),
        ("sensors: {rgb: colour.png}", r"sensors\.rgb: 'colour\.png' must contain exactly one \*, which stands"),
        ("sensors: {rgb: '*/*.png'}", r"must contain exactly one \*"),
        ("sensors: {mask: '*/label.png'}", "'mask' is not a sensor; give the pattern .* under the key 'masks'"),
        ("sensors: {rgb: '*/colour.png'}\ntrian: monday", "unknown key 'trian' - did you mean 'train'"),
        ("sensors: {rgb: '*/colour.png'}\ntrain: 3", r"train \(=3\): input should be a valid tuple"),
        ("sensors: {rgb: '*/colour.png'}\ntrain: monday\ntest: monday/", "the folder 'monday' is listed twice"),
    ],
)
def test_a_wrong_manifest_is_named(arranged: Path, text: str, message: str) -> None:
    (arranged / "manifest.yaml").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        dataset(arranged).records("train")
    assert str(caught.value).startswith(str(arranged / "manifest.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sensors: {rgb: '*/colour.png'}\ntrain: sunday", r"week/sunday/?: the folder does not exist; .* tuesday"),
        ("sensors: {rgb: 'rgb/*.png'}\ntrain: monday", r"monday/rgb: the folder does not exist; .* folders: a, b"),
        ("sensors: {rgb: '*/color.png'}\ntrain: monday", r"no file in monday matches \*/color\.png; check the names"),
        ("sensors: {rgb: '*/notes.txt'}\ntrain: monday", r"monday/a/notes\.txt: expected files that end in \.png"),
        ("sensors: {rgb: '*/colour.png'}\ntest: {scratch: monday}", r"there is no split 'train'; add the folder"),
    ],
)
def test_a_manifest_of_folders_that_do_not_fit_is_named(arranged: Path, text: str, message: str) -> None:
    (arranged / "manifest.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        dataset(arranged).records("train")


def test_wrong_folders_say_what_there_is(plain: Path) -> None:
    (plain / "train/good/thermal").rename(plain / "train/good/infrared")
    with pytest.raises(DataError, match=r"good/thermal: the folder does not exist; .* folders: infrared, rgb"):
        dataset(plain).records("train")
    (plain / "train/good/infrared").rename(plain / "train/good/thermal")
    shutil.copytree(plain / "test/scratch", plain / "train/scratch")
    with pytest.raises(DataError, match=r"the split 'train' may only hold 'good'"):
        dataset(plain).records("train")
    shutil.rmtree(plain / "train")
    with pytest.raises(DataError, match=r"there is no split 'train'; .* holds the folders: test$"):
        dataset(plain).records("train")
    (plain / "test/good/rgb/part 0.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"rgb/part 0\.png: is the same sample as part 0\.jpg; remove one of the two"):
        dataset(plain).records("test")
    (plain / "test/good/rgb/part 0.jpg").rename(plain / "test/good/rgb/part 0.txt")
    with pytest.raises(DataError, match=r"rgb/part 0\.txt: expected files that end in \.png, .* only; move or convert"):
        dataset(plain).records("test")
    empty = plain / "empty"
    (empty / "train/good").mkdir(parents=True)
    with pytest.raises(DataError, match=r"empty: holds no samples: expected train/good/<sensor>/<name>\.png"):
        dataset(empty).records("train")


def test_unpaired_files_are_named_or_skipped(plain: Path) -> None:
    removed = plain / "test/scratch/thermal/part 1.tiff"
    removed.unlink()
    with pytest.raises(DataError, match=r"scratch/thermal/part 1\.tiff: the file does not exist, but other files"):
        dataset(plain).records("test")
    skipping = dataset(plain, on_bad_sample="skip", image_size=16)
    with pytest.warns(BadSampleWarning, match=r"skipped 1 of 5 .*thermal/part 1\.tiff: the file does not exist"):
        assert len(load_split(skipping, "test", views={"rgb": RGB(RGB.Config())})) == 4
    save(removed, heat(0))
    shutil.copy(plain / "test/scratch/mask/part 1.png", plain / "test/scratch/mask/part 9.png")
    with pytest.raises(DataError, match=r"mask/part 9\.png: the mask has no image .*scratch/rgb/part 9\.png; add"):
        dataset(plain).records("test")
    with pytest.warns(BadSampleWarning, match=r"skipped 1 of 6 .*scratch/rgb/part 9\.png: the file does not exist"):
        load_split(skipping, "test", views={"rgb": RGB(RGB.Config())})


def test_lossy_masks_are_refused(plain: Path) -> None:
    path = plain / "test/scratch/mask/part 0.png"
    path.unlink()
    save(path.with_suffix(".jpg"), mark())
    with pytest.raises(DataError, match=r"mask/part 0\.jpg: expected files that end in \.png, \.bmp only"):
        dataset(plain).records("test")


SCAN = np.random.default_rng(0).uniform(0.2, 0.6, (*SHAPE, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("file", "array", "scale", "expected"),
    [
        ("a.bmp", image(0)[..., 0], None, image(0)[..., 0]),
        ("a.npy", image(0), None, image(0)),
        ("a.tiff", image(0), None, image(0)),
        ("a.png", heat(0), None, heat(0)),
        ("a.tiff", SCAN, None, SCAN),
        ("a.npy", SCAN.astype(np.float64), None, SCAN),
        ("a.tiff", SCAN[..., 2], None, SCAN[..., 2]),
        ("a.npy", SCAN.astype(">f4"), None, SCAN),
        ("a.tiff", SCAN * 1000, 0.001, SCAN),
        ("a.png", heat(0), 0.01, heat(0) / np.float32(100)),
        ("a.npy", heat(0).astype(np.int32), 0.01, heat(0) / np.float32(100)),
    ],
)
def test_every_format_is_read(
    tmp_path: Path, file: str, array: np.ndarray, scale: float | None, expected: np.ndarray
) -> None:
    save(tmp_path / "s" / file, array)
    data = dataset(tmp_path, scale={} if scale is None else {"s": scale})
    (record,) = data.records("test")
    read = data.read(record).sensors["s"]
    assert read.dtype == expected.dtype
    np.testing.assert_allclose(read, expected, rtol=1e-6, atol=0)


def test_jpeg_is_read_as_near_as_it_is(tmp_path: Path) -> None:
    smooth = np.broadcast_to(np.linspace(40, 200, 64, dtype=np.uint8)[:, None, None], (64, 64, 3)).copy()
    (tmp_path / "s").mkdir()
    Image.fromarray(smooth).save(tmp_path / "s/a.JPEG", quality=95)
    data = dataset(tmp_path)
    read = data.read(data.records("test")[0]).sensors["s"]
    assert (read.shape, read.dtype) == ((64, 64, 3), np.uint8)
    assert np.abs(read.astype(int) - smooth).max() <= 4


def test_nan_becomes_zero_in_scans_and_stays_elsewhere(tmp_path: Path) -> None:
    scan = SCAN.copy()
    scan[2, 3, 0] = np.nan
    save(tmp_path / "xyz/a.tiff", scan)
    save(tmp_path / "depth/a.npy", scan[..., 0])
    data = dataset(tmp_path)
    sensors = data.read(data.records("test")[0]).sensors
    expected = SCAN.copy()
    expected[2, 3] = 0
    np.testing.assert_array_equal(sensors["xyz"], expected)
    np.testing.assert_array_equal(sensors["depth"], scan[..., 0])


OTHER = r"expected uint8 \(H, W\) or \(H, W, 3\), uint16 \(H, W\), or float .*, found "


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        ("a.npy", heat(0).astype(np.int32), OTHER + r"int32 \(6, 8\); .* data\.scale\.s=0\.001"),
        ("a.npy", np.zeros((4, 5, 3), np.uint16), OTHER + r"uint16 \(4, 5, 3\)"),
        ("a.npy", np.zeros((4, 5, 2), np.float32), OTHER + r"float32 \(4, 5, 2\)"),
        ("a.npy", np.zeros((0, 5), np.uint8), OTHER + r"uint8 \(0, 5\)"),
        ("a.npy", np.zeros((4, 5), bool), OTHER + r"bool \(4, 5\)"),
        ("a.png", np.zeros((4, 5, 4), np.uint8), OTHER + r"uint8 \(4, 5, 4\); convert it"),
        ("a.tiff", SCAN * 1000, r"a coordinate of \d+ m; expected metres, and this looks like millimetres"),
        ("a.tiff", SCAN * 0, "no pixel holds a measurement"),
        ("a.npy", SCAN[..., 0] * np.inf, "holds infinite values"),
        ("a.npy", np.array([[None]]), r"the NPY file is truncated or damaged: Object arrays cannot be loaded"),
    ],
)
def test_other_arrays_are_named(tmp_path: Path, file: str, array: np.ndarray, message: str) -> None:
    save(tmp_path / "s" / file, array)
    data = dataset(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        data.read(data.records("test")[0])
    assert str(tmp_path / "s" / file) in str(caught.value)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tiff", "a.npy"])
def test_truncated_files_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "s" / name
    save(path, np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-300])
    data = dataset(tmp_path)
    with pytest.raises(DataError, match=rf"{name}: the \w+ file is truncated or damaged"):
        data.read(data.records("test")[0])


def test_options_are_checked(plain: Path) -> None:
    wrongs: Sequence[Mapping[str, Any]] = [{"validation_share": 0}, {"validation_share": 1.0}, {"scale": {"rgb": 0}}]
    for wrong in wrongs:
        with pytest.raises(ConfigError):
            dataset(plain, **wrong)
    with pytest.raises(DataError, match=r"data\.scale: unknown sensor 'termal' - did you mean 'thermal'\?"):
        dataset(plain, scale={"termal": 0.001}).records("train")


@pytest.mark.usefixtures("without_reports")
def test_a_run_on_three_sensors_of_a_folder(tmp_path: Path) -> None:
    out = write_folder(
        tmp_path / "data", categories=["biscuit"], train=4, validation=0, test_good=2, test_per_defect=1, size=48
    )
    run = RunConfig.preset("quick").with_overrides(
        "data.name=folder",
        f"data.root={out / 'biscuit'}",
        "data.validation_share=0.3",
        "data.scale.xyz=1.0",
        *TINY[1:],
        "modalities.infrared={name: single_channel, sensor: infrared, range: [28000, 32000], "
        "encoder: {name: timm, model: test_resnet, pretrained: false}}",
        "training.epochs=1",
    )
    assert run.with_overrides("data.name=mvtec3d").data.root == out / "biscuit"
    crdkit.fit(run, tmp_path / "run")
    metrics = read_metrics(tmp_path / "run")
    assert metrics["counts"]["train"] == 3
    assert metrics["counts"]["validation"] == 1
    assert set(metrics["branches"]) == {"rgb", "depth", "infrared"}
    assert metrics["aggregate"]["pixel_auroc"] is not None
    assert "void" in metrics["defect_types"]
