"""What the values of raw sensors mean: kelvin, NaN, metres, and values that stand for "not measured"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crdkit.data import datasets
from crdkit.data.invalid import fill_value, mark_invalid
from crdkit.data.scans import measured_depth, measured_scan
from crdkit.data.sensors import check_sensors
from crdkit.data.synthetic import OBJECT_KINDS
from crdkit.data.synthetic.staging import save_tiff
from crdkit.errors import ConfigError, DataError
from crdkit.testing import example_sensors
from crdkit.views import views

SCAN = example_sensors(["xyz"])["xyz"]
KELVIN = np.linspace(290, 310, 48 * 64, dtype=np.float32).reshape(48, 64)


def view(name: str, sensor: str, array: np.ndarray, **options: Any) -> np.ndarray:
    built = views.build(views.build_config({"name": name, "sensor": sensor, **options}))
    return built(check_sensors({sensor: array}), image_size=32).numpy()


def read_folder(root: Path, sensor: str, array: np.ndarray, **options: Any) -> np.ndarray:
    (root / sensor).mkdir(parents=True, exist_ok=True)
    np.save(root / sensor / "a.npy", array)
    dataset = datasets.build(datasets.build_config({"name": "folder", "root": root, **options}))
    return dataset.read(dataset.records("test")[0]).sensors[sensor]


def test_kelvin_in_one_channel_is_not_taken_for_millimetres(tmp_path: Path) -> None:
    expected = view("single_channel", "thermal", KELVIN, range=[290, 310])
    np.testing.assert_array_equal(view("single_channel", "thermal", KELVIN[..., None], range=[290, 310]), expected)
    np.testing.assert_array_equal(read_folder(tmp_path, "thermal", KELVIN[..., None]), KELVIN)


def test_nan_reaches_the_view_which_refuses_it_or_fills_it(tmp_path: Path) -> None:
    image = KELVIN.copy()
    image[10:20, 10:20] = np.nan
    read = read_folder(tmp_path, "thermal", image)
    with pytest.raises(DataError, match="sensor 'thermal': 100 pixels hold NaN; set the modality's 'missing' to"):
        view("single_channel", "thermal", read, range=[290, 310])
    filled = view("single_channel", "thermal", read, range=[290, 310], missing=300)
    expected = view("single_channel", "thermal", np.where(np.isnan(image), 300, image), range=[290, 310])
    np.testing.assert_array_equal(filled, expected)
    untouched = view("single_channel", "thermal", KELVIN, range=[290, 310], missing=300)
    np.testing.assert_array_equal(untouched, view("single_channel", "thermal", KELVIN, range=[290, 310]))


@pytest.mark.parametrize("name", ["depth", "normals", "xyz"])
def test_nan_in_a_scan_is_a_pixel_without_a_measurement(name: str) -> None:
    holes, nan = SCAN.copy(), SCAN.copy()
    holes[10:14, 10:14] = 0
    nan[10:14, 10:14, 1] = np.nan
    np.testing.assert_array_equal(view(name, "xyz", nan), view(name, "xyz", holes))


def test_nan_in_a_depth_image_is_a_pixel_without_a_measurement() -> None:
    holes, nan = SCAN[..., 2].copy(), SCAN[..., 2].copy()
    holes[10:14, 10:14] = 0
    nan[10:14, 10:14] = np.nan
    np.testing.assert_array_equal(view("depth", "depth", nan), view("depth", "depth", holes))


def test_depth_images_in_millimetres_are_refused() -> None:
    with pytest.raises(DataError, match=r"sensor 'd': a coordinate of \d+ m; .* millimetres; .* data\.scale\.d=0\.001"):
        view("depth", "d", SCAN[..., 2] * 1000)


@pytest.mark.parametrize("fill", [-9999.0, -32768.0, 65535.0, -1000.0])
def test_a_fill_value_is_named_and_not_taken_for_millimetres(tmp_path: Path, fill: float) -> None:
    scan = SCAN.copy()
    scan[:5, :5] = fill
    for array, check in ((scan, measured_scan), (scan[..., 2], measured_depth)):
        with pytest.raises(DataError, match=rf"25 pixels hold {fill:g}, far .* set data\.invalid\.s={fill:g}$"):
            check(array, sensor="s")
    with pytest.raises(DataError, match=rf"a\.npy: 25 pixels hold {fill:g}, .* set data\.invalid\.xyz={fill:g}$"):
        read_folder(tmp_path, "xyz", scan)
    expected = SCAN.copy()
    expected[:5, :5] = 0
    np.testing.assert_array_equal(read_folder(tmp_path, "xyz", scan, invalid={"xyz": fill}), expected)


def test_a_fill_value_of_integers_is_applied_before_the_scale(tmp_path: Path) -> None:
    millimetres = np.full((8, 8), 700, np.uint16)
    millimetres[0] = 65535
    read = read_folder(tmp_path, "depth", millimetres, invalid={"depth": 65535}, scale={"depth": 0.001})
    assert np.isnan(read[0]).all()
    np.testing.assert_allclose(read[1:], 0.7)


@pytest.mark.parametrize("missing", ["zero", "nan", "both"])
def test_mvtec3d_knows_fill_values_too(tmp_path: Path, missing: str) -> None:
    scan = np.where(SCAN == 0, np.float32(0.5), SCAN)
    scan[:3, :3, 2] = -1
    path = tmp_path / "gear/test/good/xyz/000.tiff"
    for sensor in ("rgb", "xyz"):
        (tmp_path / "gear/test/good" / sensor).mkdir(parents=True)
    save_tiff(scan, path)
    path.with_name("000.png").parent.with_name("rgb").joinpath("000.png").touch()
    options = {"name": "mvtec3d", "root": tmp_path, "category": "gear", "missing": missing, "invalid": {"xyz": -1}}
    dataset = datasets.build(datasets.build_config(options))
    read = dataset.read(dataset.records("test")[0], ["xyz"]).sensors["xyz"]
    scan[:3, :3] = 0
    np.testing.assert_array_equal(read, scan)


def test_fill_values_of_unknown_sensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.invalid: unknown sensor 'xzy' - did you mean 'xyz'\?"):
        read_folder(tmp_path, "xyz", SCAN, invalid={"xzy": -1})
    with pytest.raises(ConfigError, match="invalid"):
        datasets.build_config({"name": "mvtec3d", "invalid": {"rgb": 0}})


@pytest.mark.parametrize("kind", OBJECT_KINDS)
@pytest.mark.parametrize("defect", [None, "dent"])
def test_no_measurement_of_a_scene_is_taken_for_a_fill_value(kind: str, defect: str | None) -> None:
    arrays = example_sensors(["xyz", "infrared"], kind=kind, defect=defect, size=(96, 96))
    xyz = arrays["xyz"]
    tables = [
        xyz,
        xyz[..., 0],
        np.round(xyz, 2),
        np.where(xyz[..., 2:] == 0, 0.5, xyz),
        np.where(xyz == 0, 0, xyz - (0, 0, 0.5)),
    ]
    assert [fill_value(array) for array in (*tables, arrays["infrared"], KELVIN, KELVIN * 0 + 5)] == [None] * 8


@pytest.mark.parametrize("fill", [-1.0, -9999.0, 1e9])
def test_fill_values_are_found_below_and_above(fill: float) -> None:
    depth = SCAN[..., 2].copy()
    depth[:4] = fill
    assert fill_value(depth) == fill
    assert fill_value(mark_invalid(depth, fill)) is None
    depth[:, :2] = np.inf
    assert fill_value(depth) == fill
