"""A detector refuses sensors that are not what it was trained on, and no valid sample."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crdkit.cli import main
from crdkit.data import datasets
from crdkit.data.statistics import SensorSummary, compare, from_json, merge, summarise, to_json
from crdkit.data.synthetic import DEFECTS, OBJECT_KINDS
from crdkit.data.synthetic.staging import save_tiff
from crdkit.detector import Detector
from crdkit.detector.files import open_detector, predict_inputs
from crdkit.errors import ConfigError, DataError, DetectorFormatError, UnusualDataWarning
from crdkit.runs.evaluate import evaluate_run
from crdkit.testing import example_sensors

NAMES = ("rgb", "xyz", "depth", "infrared")
RNG = np.random.default_rng(0)
REAL = os.environ.get("CRDKIT_REAL_SAMPLE")


def rendered(kind: str, index: int, **options: Any) -> dict[str, np.ndarray]:
    return example_sensors(NAMES, kind=kind, index=index, size=(96, 96), **options)


@pytest.fixture(scope="module", params=OBJECT_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def trained(kind: str) -> list[dict[str, SensorSummary]]:
    return [summarise(rendered(kind, index)) for index in range(6)]


def severities(
    trained: Sequence[Mapping[str, SensorSummary]], sensors: Mapping[str, np.ndarray]
) -> dict[str, tuple[str, str]]:
    statistics = from_json(json.loads(json.dumps(to_json(merge(trained)))))
    return {oddity.sensor: (oddity.severity, oddity.message) for oddity in compare(statistics, summarise(sensors))}


@pytest.mark.parametrize("count", [1, 3, 6])
def test_no_valid_sample_is_unusual(kind: str, trained: list[dict[str, SensorSummary]], count: int) -> None:
    for place, defect in enumerate([None, *DEFECTS]):
        sensors = rendered(kind, 40 + place, defect=defect)
        assert severities(trained[:count], sensors) == {}
        assert severities(trained[:count], {name: array[:50, :80] for name, array in sensors.items()}) == {}


def test_scans_with_few_measurements_have_no_other_unit(kind: str, trained: list[dict[str, SensorSummary]]) -> None:
    scan = rendered(kind, 9)["xyz"].copy()
    scan[RNG.random(scan.shape[:2]) < 0.6] = 0
    assert severities(trained, {"xyz": scan}) == {}
    scan[:, 10:] = np.nan
    assert severities(trained, {"xyz": scan})["xyz"][0] == "warning"
    assert severities([summarise({"xyz": scan})], rendered(kind, 3)) == {}


@pytest.mark.parametrize("factor", [1000, 100, 50, 30, 1 / 30, 0.01, 0.001])
@pytest.mark.parametrize("sensor", ["xyz", "depth"])
def test_another_unit_is_an_error(
    kind: str, trained: list[dict[str, SensorSummary]], sensor: str, factor: float
) -> None:
    for count in (1, 6):
        found = severities(trained[:count], {sensor: rendered(kind, 3)[sensor] * np.float32(factor)})
        severity, message = found[sensor]
        assert severity == "error"
        assert f"about {factor:.2g} times as large, as in another unit" in message


def test_another_dtype_or_channel_count_is_an_error(kind: str, trained: list[dict[str, SensorSummary]]) -> None:
    sensors = rendered(kind, 3)
    rgb, infrared = sensors["rgb"], sensors["infrared"]
    cases = {
        "float values, but the detector was trained on uint8": {"rgb": rgb / 255},
        "uint16 values, but the detector was trained on uint8": {"rgb": rgb.astype(np.uint16)},
        "1 channels, but the detector was trained on 3": {"rgb": rgb[..., 0]},
        "uint8 values, but the detector was trained on uint16": {"infrared": (infrared >> 8).astype(np.uint8)},
        "float values, but the detector was trained on uint16": {"infrared": infrared / 65535},
    }
    for message, wrong in cases.items():
        assert severities(trained, wrong) == dict.fromkeys(wrong, ("error", message))
    twelve_bits = [summarise({"infrared": infrared >> 4})]
    assert "another bit depth" in severities(twelve_bits, {"infrared": infrared})["infrared"][1]
    assert severities(trained, {"infrared": infrared >> 4})["infrared"][0] == "warning"  # or a lamp has failed


def test_reversed_channels_are_a_warning(kind: str, trained: list[dict[str, SensorSummary]]) -> None:
    rgb = rendered(kind, 3)["rgb"]
    warned = {"rgb": ("warning", "the channels look reversed (BGR instead of RGB)")}
    assert severities(trained, {"rgb": rgb[..., ::-1]}) == warned
    darker = (rgb * 0.6).astype(np.uint8)
    assert severities(trained, {"rgb": darker}) == {}
    assert severities(trained, {"rgb": darker[..., ::-1]}) == warned
    grey = np.repeat(rgb[..., :1], 3, axis=2)
    assert severities([summarise({"rgb": grey})] * 6, {"rgb": grey[..., ::-1]}) == {}


@pytest.mark.parametrize(
    ("values", "low", "high"), [("kelvin", 290, 310), ("celsius", -2, 30), ("relief", -0.01, 0.02), ("angle", 0.0, 1.0)]
)
def test_other_float_sensors(values: str, low: float, high: float) -> None:
    def image(seed: int, first: float, last: float) -> dict[str, np.ndarray]:
        return {values: np.random.default_rng(seed).uniform(first, last, (40, 40))}

    known = [summarise(image(seed, low, high)) for seed in range(3)]
    for first, last in (
        (low, high),
        (low, (low + high) / 2),
        ((low + high) / 2, high),
        (low, low + 0.2 * (high - low)),
    ):
        assert severities(known, image(7, first, last)) == {}
    for factor in (1000, 255, 0.001):
        assert severities(known, image(7, low * factor, high * factor))[values][0] == "error"
    if values == "kelvin":
        assert severities(known, image(7, low - 273.15, high - 273.15))[values][0] == "error"


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="CRDKIT_REAL_SAMPLE does not name a folder with cable_gland/")
def test_no_real_scan_is_unusual() -> None:
    dataset = datasets.build(datasets.build_config({"name": "mvtec3d", "root": REAL, "category": "cable_gland"}))
    every = {
        split: [summarise(dataset.read(record).sensors) for record in dataset.records(split)[::4]]
        for split in ("train", "validation", "test")
    }
    for known in (every["train"] + every["validation"], every["train"][:1], every["train"][:3]):
        statistics = merge(known)
        assert not [oddity for split in every.values() for found in split for oddity in compare(statistics, found)]
    scan = dataset.read(dataset.records("test")[0], ["xyz"]).sensors["xyz"]
    for factor in (1000, 100, 50, 30, 0.03, 0.001):
        (oddity,) = compare(statistics, summarise({"xyz": scan * np.float32(factor)}))
        assert oddity.severity == "error"


def test_a_detector_keeps_and_uses_what_it_was_trained_on(detector: Detector, finished: Path, samples: Any) -> None:
    assert set(detector.sensor_statistics) == {"rgb", "xyz"}
    assert detector.sensor_statistics["rgb"]["samples"] == 9
    saved = json.loads((finished / "detector/config.json").read_text())["sensors"]
    assert from_json(saved) == from_json(detector.sensor_statistics)
    sensors = samples[0]
    wrong = {**sensors, "xyz": sensors["xyz"] * np.float32(30)}
    refused = r"sensor 'xyz': values of .* about 30 times as large, .*; convert it, or accept it with --unusual warn"
    loaded = Detector.load(finished / "detector", device="cpu")
    with pytest.raises(DataError, match=refused):
        loaded.predict(wrong)
    with pytest.raises(DataError, match="sample 1: " + refused):
        loaded.predict_batch([sensors, wrong])
    loaded.unusual = "warn"
    with pytest.warns(UnusualDataWarning, match="sensor 'xyz': values of"):
        warned = loaded.predict(wrong)
    other = loaded.with_config(loaded.config)
    other.unusual = "ignore"
    assert (loaded.unusual, other.predict(wrong).score) == ("warn", warned.score)
    with pytest.raises(ConfigError, match=r"unusual \(='silent'\) must be one of error, warn, ignore"):
        loaded.unusual = "silent"  # type: ignore[assignment]


def test_a_detector_without_statistics_accepts_what_its_views_do(detector: Detector, samples: Any) -> None:
    old = Detector(config=detector.config, model=detector.model, scorer=detector.scorer)
    sensors = samples[0]
    old.predict({**sensors, "xyz": sensors["xyz"] * np.float32(3)})
    assert old.sensor_statistics == {}


def test_damaged_statistics_are_named(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "copy")
    file = tmp_path / "copy/config.json"
    content = json.loads(file.read_text())
    content["sensors"]["rgb"]["high"] = "bright"
    file.write_text(json.dumps(content))
    with pytest.raises(DetectorFormatError, match=r"config\.json: is damaged: .*sensors.*copy the detector again"):
        Detector.load(tmp_path / "copy")


@pytest.fixture
def millimetres(tiny: Any, tmp_path: Path) -> Path:
    """The category in which one scan of the test split holds decimetres."""
    root = tmp_path / "data"
    shutil.copytree(tiny.data.root / tiny.data.category, root / tiny.data.category)
    path = root / tiny.data.category / "test/good/xyz/001.tiff"
    dataset = datasets.build(tiny.data.model_copy(update={"root": root}))
    record = next(record for record in dataset.records("test") if record.files["xyz"] == path)
    save_tiff(dataset.read(record, ["xyz"]).sensors["xyz"] * np.float32(100), path)
    return root


@pytest.mark.usefixtures("without_reports")
def test_evaluate_and_predict_name_the_file(finished: Path, millimetres: Path) -> None:
    with pytest.raises(DataError, match=r"good/xyz/001\.tiff: sensor 'xyz': values of 5.* --unusual warn"):
        evaluate_run(finished, f"data.root={millimetres}", "training.device=cpu")
    with pytest.warns(UnusualDataWarning, match=r"good/xyz/001\.tiff: sensor 'xyz': values of 5"):
        metrics = evaluate_run(finished, f"data.root={millimetres}", "training.device=cpu", unusual="warn")
    assert metrics["counts"]["test"] == 15
    detector, inputs = open_detector(finished, [str(millimetres / "biscuit"), "training.device=cpu"])
    with pytest.raises(DataError, match=r"good/xyz/001\.tiff: sensor 'xyz': values of 5.* --unusual warn"):
        list(predict_inputs(detector, inputs))
    detector.unusual = "warn"
    inputs = dataclasses.replace(inputs, records=[r for r in inputs.records if r.sample_id == "good/001"])
    with pytest.warns(UnusualDataWarning, match=r"good/rgb/001\.png: sensor 'xyz': values of 5"):
        assert len(list(predict_inputs(detector, inputs))) == 1


def test_a_dark_image_is_scored_with_a_warning(detector: Detector, samples: Any) -> None:
    sensors = samples[0]
    with pytest.warns(UnusualDataWarning, match="sensor 'rgb': values up to 0, but up to .* in training"):
        assert np.isfinite(detector.predict({**sensors, "rgb": sensors["rgb"] * 0}).score)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.predict({**sensors, "rgb": sensors["rgb"] // 2})


def test_the_command_line_takes_the_choice(finished: Path, millimetres: Path, capsys: Any) -> None:
    sample = millimetres / "biscuit/test/good"
    files = [f"rgb={sample}/rgb/001.png", f"xyz={sample}/xyz/001.tiff", "training.device=cpu"]
    assert main(["predict", str(finished), *files]) == 2
    assert "--unusual warn" in capsys.readouterr().err
    assert main(["predict", str(finished), *files, "--unusual", "ignore"]) == 0
    assert "001.png" in capsys.readouterr().out
