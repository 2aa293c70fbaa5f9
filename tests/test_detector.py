from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import crdkit
from crdkit.config.build import build_dataset
from crdkit.detector import Detector
from crdkit.detector._saved import FORMAT_VERSION
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
    assert set(result.to_dict()) == {"anomaly_map", "pred_score", "maps", "pred_scores", "missing"}
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
        ("xyz", lambda xyz: xyz * 1e6, r"sensor 'xyz': a coordinate of .* looks like millimetres; divide by 1000"),
        ("xyz", lambda xyz: xyz[:-8], r"the same height x width, found rgb 64 x 64, xyz 56 x 64; resample"),
        ("xyz", np.zeros_like, r"sensor 'xyz': no pixel holds a measurement"),
        ("xyz", lambda xyz: np.full_like(xyz, np.inf), r"sensor 'xyz': holds infinite values"),
        ("rgb", lambda rgb: rgb.tolist(), r"sensor 'rgb': expected a numpy array .* found list"),
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
    assert sorted(entry.name for entry in (tmp_path / "new/detector").iterdir()) == ["config.json", "model.safetensors"]
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
    monkeypatch.setattr("crdkit.data.mvtec3d.MVTec3D.records", None)
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


def test_broken_weights_are_refused(copy):
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        weights.write_bytes(whole[:size])
        with pytest.raises(DetectorFormatError, match=r"model\.safetensors: cannot be read"):
            Detector.load(copy)
    from safetensors.torch import save_file

    save_file({"model.something": torch.zeros(1)}, weights)
    with pytest.raises(DetectorFormatError, match=r"does not fit its config\.json: .*Missing key"):
        Detector.load(copy)


def test_loading_through_the_public_name(copy):
    assert crdkit.Detector.load(str(copy)).config.data.category == "biscuit"
