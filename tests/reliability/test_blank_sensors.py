"""A scan that is 0 or NaN everywhere, which is what a failed sensor gives, is an error or missing, as configured."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import crdkit
from crdkit.config import RunConfig
from crdkit.data.sensors import without_blank
from crdkit.data.synthetic.staging import save_tiff
from crdkit.detector import Detector
from crdkit.errors import ConfigError, DataError
from crdkit.runs.directory import read_metrics

DROPOUT = ("training.modality_dropout=0.3", "data.on_blank_sensor=missing")


@pytest.fixture
def failing(tiny: RunConfig, tmp_path: Path) -> Path:
    """The category in which a sensor has failed in two training samples, one of validation and one of the test."""
    root = tmp_path / "data"
    shutil.copytree(tiny.data.root / "biscuit", root / "biscuit")  # type: ignore[operator]
    for name, value in (
        ("train/good/xyz/001.tiff", 0),
        ("train/good/xyz/003.tiff", np.nan),
        ("validation/good/xyz/000.tiff", 0),
        ("test/good/xyz/002.tiff", np.nan),
    ):
        path = root / "biscuit" / name
        save_tiff(np.full_like(tifffile.imread(path), value), path)
    Image.new("RGB", (64, 64)).save(root / "biscuit/test/good/rgb/001.png")
    return root


def test_a_blank_scan_is_an_error_unless_it_may_be_missing(tiny: RunConfig, failing: Path) -> None:
    config = tiny.with_overrides(f"data.root={failing}", "training.modality_dropout=0.3")
    with pytest.raises(DataError, match=r"001\.tiff: no pixel holds a measurement"):
        crdkit.fit(config)
    with pytest.raises(ConfigError, match=r"data\.on_blank_sensor=missing needs training\.modality_dropout above 0"):
        tiny.with_overrides("data.on_blank_sensor=missing")


@pytest.mark.usefixtures("without_reports")
def test_failed_sensors_are_missing_in_training_and_prediction(
    tiny: RunConfig, failing: Path, tmp_path: Path, samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[dict[str, Any]] = []
    step = crdkit.training.loop.train_step
    monkeypatch.setattr(
        "crdkit.training.loop.train_step",
        lambda *args, **options: shown.append(options["present"]) or step(*args, **options),
    )
    config = tiny.with_overrides(f"data.root={failing}", *DROPOUT)
    detector = crdkit.fit(config, tmp_path / "run")
    assert len(detector.thresholds.scores[tuple(detector.views)]) == 2  # of three validation samples
    assert all(sum((~batch["depth"]).sum() for batch in shown[epoch : epoch + 2]) >= 2 for epoch in (0, 2))
    assert all(bool((batch["rgb"] | batch["depth"]).all()) for batch in shown)
    assert read_metrics(tmp_path / "run")["counts"]["missing"] == {"rgb": 1, "depth": 1}
    assert detector.sensor_statistics["xyz"]["samples"] == 6
    blank = {**samples[0], "xyz": np.full_like(samples[0]["xyz"], np.nan)}
    found = Detector.load(tmp_path / "run/detector", device="cpu").predict(blank)
    expected = detector.predict({"rgb": samples[0]["rgb"]})
    assert (found.missing, found.score) == (("depth",), expected.score)
    with pytest.raises(DataError, match="every modality lacks one of its sensors"):
        detector.predict({name: array * 0 for name, array in samples[0].items()})


def test_what_is_blank() -> None:
    scan = np.zeros((40, 40, 3), np.float32)
    sensors = {
        "zero": scan,
        "nan": scan * np.nan,
        "no z": scan + np.array([1, 1, 0]),
        "black": scan.astype(np.uint8),
        "one pixel": np.pad(np.ones((1, 1), np.uint16), ((37, 2), (38, 1))),
        "one measurement": np.where(np.eye(40)[..., None] * np.eye(40)[3][:, None, None] > 0, 1.0, np.nan) + scan,
    }
    assert list(without_blank(sensors)) == ["one pixel", "one measurement"]
