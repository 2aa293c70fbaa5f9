"""A saved detector names no folder of the machine that trained it; its run still finds the data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import crdkit
from crdkit.cli import main
from crdkit.config.build import build_model, build_scorer
from crdkit.data.synthetic import write_folder
from crdkit.detector import Detector
from crdkit.detector.files import load_detector
from crdkit.runs.evaluate import evaluate_run
from crdkit.runs.fit import fit

TEACHER = {"name": "timm", "model": "test_resnet", "pretrained": False}


def strings(values):
    """Return every text in nested values."""
    if isinstance(values, dict):
        return [text for value in values.values() for text in strings(value)]
    if isinstance(values, list):
        return [text for value in values for text in strings(value)]
    return [values] if isinstance(values, str) else []


def machine_paths(folder):
    return [text for text in strings(json.loads((folder / "config.json").read_text())) if Path(text).is_absolute()]


def test_config_json_holds_no_path_and_keeps_the_rest(finished, tiny):
    assert machine_paths(finished / "detector") == []
    config = Detector.load(finished / "detector", device="cpu").config
    assert config.data.root is None
    assert config == tiny.model_copy(update={"data": tiny.data.model_copy(update={"root": None})})


def test_a_run_is_evaluated_and_predicted_without_naming_its_data(finished, tiny, tmp_path, capsys):
    before = json.loads((finished / "metrics.json").read_text())
    assert evaluate_run(finished)["aggregate"] == before["aggregate"]
    assert load_detector(finished).config == tiny
    sample = tiny.data.root / "biscuit/test/good"
    files = [f"rgb={sample}/rgb/000.png", f"xyz={sample}/xyz/000.tiff"]
    assert main(["--quiet", "predict", str(finished / "detector"), *files]) == 0
    rows = [line.split(",") for line in (finished / "scores.csv").read_text().splitlines()]
    (score,) = [float(row[3]) for row in rows if row[0].endswith("good/rgb/000.png")]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "000.png" in line]
    assert float(line.split()[1]) == pytest.approx(score, rel=1e-4)


def test_a_detector_alone_says_that_it_needs_the_data(finished, tmp_path, capsys):
    shutil.copytree(finished / "detector", tmp_path / "copy")
    assert main(["--quiet", "evaluate", str(tmp_path / "copy")]) == 2
    assert "data.root" in capsys.readouterr().err


def test_resuming_a_finished_run_gives_a_detector_that_knows_its_data(finished, tiny):
    assert fit(tiny, finished, resume=True).config == tiny


def test_cache_manifest_and_weights_leave_no_path_and_teachers_stay_apart(tiny, tmp_path):
    for number, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        torch.manual_seed(number)
        model = build_model(tiny).teachers_by_modality()["rgb"]
        backbone = next(part for part in model.modules() if hasattr(part, "feature_info"))
        torch.save(backbone.state_dict(), tmp_path / folder / "weights.pth")
    run = tiny.with_overrides(
        f"data.cache={tmp_path / 'cache'}",
        f"modalities.rgb.encoder.weights={tmp_path / 'a/weights.pth'}",
        f"modalities.depth.encoder.weights={tmp_path / 'b/weights.pth'}",
    )
    model = build_model(run, load_weights=False)
    assert len(set(map(id, model.teachers_by_modality().values()))) == 2
    Detector(config=run, model=model, scorer=build_scorer(run)).save(tmp_path / "detector")
    assert machine_paths(tmp_path / "detector") == []
    loaded = Detector.load(tmp_path / "detector", device="cpu")
    assert len(set(map(id, loaded.model.teachers_by_modality().values()))) == 2
    loaded.save(tmp_path / "again")
    assert machine_paths(tmp_path / "again") == []
    Detector.load(tmp_path / "again", device="cpu")


def test_one_samples_files_are_predicted_where_the_data_are_not(tmp_path, capsys):
    root = write_folder(
        tmp_path / "parts", categories=["gear"], sensors=["infrared"], size=32, train=3, validation=2, test_per_defect=1
    )
    run = {
        "data": {"name": "folder", "root": root, "category": "gear", "image_size": 32},
        "modalities": {"infrared": {"range": [29200, 30250], "encoder": TEACHER}},
        "student": {"depths": 1},
        "training": {"epochs": 1, "device": "cpu"},
    }
    crdkit.fit(crdkit.RunConfig.from_dict(run)).save(tmp_path / "detector")
    shutil.copy(next((root / "gear/test/good/infrared").iterdir()), tmp_path / "new.png")
    shutil.rmtree(root)
    assert main(["--quiet", "predict", str(tmp_path / "detector"), f"infrared={tmp_path / 'new.png'}"]) == 0
    assert "new.png" in capsys.readouterr().out
