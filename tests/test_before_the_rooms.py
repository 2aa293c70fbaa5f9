"""What 0.1.0 wrote and imported before crdkit had its rooms and folders: it loads, or says what to use in its place.

tests/data/run-0.1.0 is a run directory that the last commit without rooms wrote, without report and checkpoints:
`quick`, made small, with one epoch on synthetic scans of 48 x 48 pixels. prediction.json holds what its detector then
said of one sample. Its teachers are named by a `target`, so it loads with `allow_plugins`.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

import crdkit
from crdkit.config import RunConfig
from crdkit.config.catalogue import REGISTRIES
from crdkit.data.synthetic import write_mvtec3d
from crdkit.detector._saved import FORMAT_VERSION
from crdkit.errors import ConfigError
from crdkit.runs.describe import describe_run
from crdkit.runs.directory import is_finished, require_same_config
from crdkit.runs.evaluate import evaluate_run
from crdkit.testing import example_sensors

OLD = Path(__file__).parent / "data/run-0.1.0"


@pytest.fixture
def quick():
    return RunConfig.preset("quick")


def read_scores(folder):
    rows = (folder / "scores.csv").read_text().splitlines()[1:]
    return {row.split(",")[0]: [float(cell) for cell in row.split(",")[3:]] for row in rows}


def test_a_detector_loads_and_predicts_what_it_did():
    detector = crdkit.Detector.load(OLD / "detector", device="cpu", allow_plugins=True)
    found = detector.predict(example_sensors(["rgb", "xyz"], size=(48, 48), defect="dent"))
    expected = json.loads((OLD / "prediction.json").read_text())
    assert found.score == pytest.approx(expected["score"], rel=1e-4)
    assert found.scores == pytest.approx(expected["scores"], rel=1e-4)
    assert found.anomaly_map.mean() == pytest.approx(expected["map_mean"], rel=1e-4)


def test_its_format_version_is_that_before_and_it_is_written_as_todays(tmp_path):
    before = json.loads((OLD / "detector/config.json").read_text())
    assert (before["format_version"], FORMAT_VERSION) == (1, 4)
    assert before["config"]["training"].keys() >= {"optimizers", "compile"}
    crdkit.Detector.load(OLD / "detector", device="cpu", allow_plugins=True).save(tmp_path / "detector")
    after = json.loads((tmp_path / "detector/config.json").read_text())
    assert after["format_version"] == 4
    assert not after["config"]["training"].keys() & {"optimizers", "compile"}
    weights = "model.safetensors"
    assert (tmp_path / "detector" / weights).read_bytes() == (OLD / "detector" / weights).read_bytes()


def test_a_run_directory_is_described_evaluated_and_known_as_the_same_run(tmp_path):
    assert describe_run(OLD, allow_plugins=True).provenance["seed"] == "0"
    data = write_mvtec3d(
        tmp_path / "data", categories=["gear"], train=3, validation=2, test_good=2, test_per_defect=1, size=48
    )
    evaluate_run(OLD, f"data.root={data}", out=tmp_path / "again", allow_plugins=True)
    again, before = read_scores(tmp_path / "again"), read_scores(OLD)
    assert again.keys() == before.keys()
    for name, scores in before.items():
        assert again[name] == pytest.approx(scores, rel=1e-4), name
    shutil.copytree(OLD, tmp_path / "copy")
    assert require_same_config(tmp_path / "copy", RunConfig.from_yaml(OLD / "config.yaml", allow_plugins=True))
    assert is_finished(tmp_path / "copy")


def test_removed_training_options_at_their_old_default_are_dropped(quick, caplog):
    with caplog.at_level(logging.INFO, logger="crdkit"):
        assert quick.with_overrides("training.optimizers=per_branch", "training.compile=false") == quick
    assert not caplog.records


def test_compile_is_ignored_with_a_warning(quick, caplog):
    assert quick.with_overrides("training.compile=true") == quick
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "training.compile is ignored" in caplog.text


def test_a_joint_optimizer_says_what_to_use(quick):
    with pytest.raises(ConfigError, match=r"training\.optimizers \(='joint'\) was removed: .*; leave the key out"):
        quick.with_overrides("training.optimizers=joint")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("aggregation.name=mean", r"aggregation 'mean' was removed: use normalised_sum"),
        ("modalities.heat.name=thermal", r"modality 'thermal' was removed: use single_channel with sensor: thermal"),
    ],
)
def test_removed_parts_say_what_to_use(quick, override, message):
    with pytest.raises(ConfigError, match=message):
        quick.with_overrides(override)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("from crdkit.modalities import Modality, modalities", r"is now crdkit\.views: .*Modality is View"),
        ("from crdkit.filters import CrossmodalFilter, filters", r"is now crdkit\.model\.projections: .*Projection"),
        ("from crdkit.amplifiers import amplifiers", r"is now crdkit\.model\.projections"),
        ("from crdkit.datasets.folder import Folder", r"crdkit\.datasets is now crdkit\.data"),
        ("from crdkit.aggregations import aggregations", r"is now crdkit\.scoring\.aggregations"),
        ("import crdkit.encoders", r"is now crdkit\.model\.encoders"),
        ("import crdkit.run", r"is now crdkit\.runs\.fit"),
        ("from crdkit.data.folder import Folder", r"crdkit\.data\.folder is now crdkit\.data\.adapters\.folder"),
        ("import crdkit.data.mvtec_ad_2", r"crdkit\.data\.mvtec_ad_2 is now crdkit\.data\.adapters\.mvtec_ad_2"),
        ("from crdkit.data import visa", r"crdkit\.data\.visa is now crdkit\.data\.adapters\.visa"),
    ],
)
def test_an_import_of_a_moved_module_names_the_new_one(statement, message, tmp_path):
    with pytest.raises(ModuleNotFoundError, match=message):
        exec(statement, {})
    plugin = tmp_path / "old_part.py"
    plugin.write_text(statement + "\n")
    with pytest.raises(ConfigError, match=rf"plugin '.*old_part\.py' cannot be imported: .*{message}.*; correct"):
        RunConfig.preset("quick").with_overrides(f"plugins=[{plugin}]")


def test_a_module_that_never_was_is_not_found_as_ever():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'crdkit\.nothing'"):
        exec("import crdkit.nothing", {})
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'crdkit\.data\.nothing'"):
        exec("import crdkit.data.nothing", {})
    with pytest.raises(AttributeError, match=r"it is now crdkit\.paper\.numbers"):
        crdkit.published  # noqa: B018


def test_the_names_that_scripts_import_stay():
    import crdkit.losses
    import crdkit.metrics
    import crdkit.reference
    from crdkit.losses import crd_losses
    from crdkit.metrics import evaluate
    from crdkit.reference import load_students

    assert crdkit.metrics.evaluate is evaluate
    assert crdkit.losses.crd_losses is crd_losses
    assert crdkit.reference.load_students is load_students
    assert list(REGISTRIES) == ["encoders", "modalities", "filters", "amplifiers", "aggregations", "scores", "datasets"]


@pytest.mark.parametrize("name", ["published", "filters"])
def test_from_crdkit_import_of_a_moved_module_names_the_new_one(name):
    with pytest.raises(ModuleNotFoundError, match=f"crdkit.{name} is now crdkit."):
        exec(f"from crdkit import {name}", {})
