"""Good parts only: a data set without a test split is trained, scored and reported; nothing is measured on it."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
from conftest import TINY

import crdkit
from crdkit._core.progress import set_quiet
from crdkit.cli import main
from crdkit.config import RunConfig
from crdkit.data import datasets
from crdkit.data.synthetic import write_folder
from crdkit.errors import DataError, MissingSplitError
from crdkit.runs.directory import read_metrics

SMALL = [text for text in TINY if not text.startswith("data.category")]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder that holds train/ only: eight normal samples of rgb and xyz."""
    folder = tmp_path_factory.mktemp("good")
    options = {"train": 8, "validation": 0, "test_good": 0, "test_per_defect": 0}
    write_folder(folder / "all", categories=["gear"], size=64, sensors=["rgb", "xyz"], **options)
    shutil.copytree(folder / "all/gear/train", folder / "parts/train")
    return folder / "parts"


@pytest.fixture(scope="module")
def trained(good, tmp_path_factory):
    """The run directory of a training on it, by the command line."""
    out = tmp_path_factory.mktemp("runs") / "good"
    assert main(["-q", "train", "quick", "data.name=folder", f"data.root={good}", *SMALL, "--out", str(out)]) == 0
    return out


def scores(folder):
    with (folder / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    set_quiet(True)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_training_on_good_parts_only_writes_a_whole_run(trained):
    metrics = read_metrics(trained)
    assert metrics["counts"] == {"train": 7, "validation": 1, "test": None}
    labelled = {"image_auroc", "image_ap", "pixel_auroc", "aupro_0.30"}
    for values in (metrics["aggregate"], *metrics["branches"].values()):
        assert labelled <= values.keys()
        assert set(values.values()) == {None}
    assert list(metrics["branches"]) == ["rgb", "depth"]
    assert metrics["defect_types"] == {}
    assert (trained / "detector/model.safetensors").exists()
    (row,) = scores(trained)
    assert (row["defect_type"], row["gt_label"]) == ("good", "0")
    assert 0 < float(row["pred_score"]) < 1e6


def test_its_report_shows_scores_of_normal_samples_and_no_empty_table(trained):
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "Scores of normal samples" in page
    assert "1 normal sample of the validation split; there was no test split" in page
    assert "<h1>parts</h1>" in page
    assert "I-AUROC" not in page
    assert "cannot be computed" not in page
    assert "Training loss" in page
    (row,) = scores(trained)
    assert page.count(f"<td>{float(row['pred_score']):.4g}</td>") >= 4


def test_what_is_printed_says_that_nothing_is_measured(good, tmp_path, capsys):
    arguments = ["train", "quick", "data.name=folder", f"data.root={good}", *SMALL, "--out", tmp_path / "run"]
    code, out, err = run(capsys, *arguments)
    assert code == 0
    assert "no test split: scores of the 1 validation samples, nothing is measured; load" in out
    assert "I-AUROC" not in out
    assert f"no metrics will be measured: {good}: there is no split 'test'" in err


def test_data_check_accepts_it_with_a_note(good, capsys):
    code, out, _ = run(capsys, "data", "check", good)
    assert code == 0
    assert "note: " in out
    assert "error" not in out
    assert "there is no split 'test'" in out
    assert "a training works, and measures nothing" in out


def test_it_has_a_threshold_from_the_samples_that_were_held_out(trained):
    (row,) = scores(trained)
    threshold = crdkit.Detector.load(trained / "detector", device="cpu").thresholds.images[("rgb", "depth")].value
    assert threshold == pytest.approx(float(row["pred_score"]), rel=1e-5)


def test_a_finished_and_an_interrupted_run_are_resumed(good, trained, capsys):
    again = ["train", "quick", "data.name=folder", f"data.root={good}", *SMALL, "--out", trained, "--resume"]
    before = (trained / "scores.csv").read_bytes()
    assert run(capsys, *again)[0] == 0
    (trained / "metrics.json").unlink()
    assert run(capsys, *again)[0] == 0
    assert (trained / "scores.csv").read_bytes() == before


def test_evaluate_predict_and_sweep_go_on_from_there(good, trained, tmp_path, capsys):
    code, out, err = run(capsys, "evaluate", trained)
    assert (code, out) == (2, "")
    assert "there is no split 'test'" in err
    assert "to measure, give labelled data with data.root=...; to score samples, use `crdkit predict`" in err
    code, out, err = run(capsys, "predict", trained, good / "train/good")
    assert code == 0
    assert sum(".png" in line for line in out.splitlines()) == 8
    swept = ["sweep", "quick", "data.name=folder", f"data.root={good.parent}", *SMALL, "training.epochs=1"]
    code, out, err = run(capsys, *swept, "--categories", "parts", "--seeds", "0", "1", "--out", tmp_path / "sweep")
    assert code == 0
    table = json.loads((tmp_path / "sweep/results.json").read_text())
    assert table["categories"]["parts"]["image_auroc"] == {"mean": None, "std": None}
    assert set(table["categories"]["parts"]["runs"]) == {"0", "1"}


def test_a_variant_that_shares_its_students_is_calibrated_without_a_test_split(good, trained, tmp_path):
    from crdkit.runs.evaluate import rescore

    config = RunConfig.from_yaml(trained / "config.yaml").with_overrides("aggregation.name=max")
    assert rescore(config, trained, tmp_path / "other")["counts"]["test"] is None
    assert (tmp_path / "other/report.html").exists()


@pytest.mark.usefixtures("without_reports")
def test_other_layouts_do_without_a_test_split_too(tiny, scans, tmp_path):
    folder = shutil.copytree(scans / "biscuit", tmp_path / "scans/biscuit")
    shutil.rmtree(folder / "test")
    config = tiny.with_overrides(f"data.root={tmp_path / 'scans'}", "training.epochs=1")
    crdkit.fit(config, tmp_path / "run")
    assert read_metrics(tmp_path / "run")["counts"] == {"train": 6, "validation": 3, "test": None}
    shutil.rmtree(folder / "validation")
    with pytest.raises(MissingSplitError, match=r"'validation' does not exist; .*; data\.name=folder holds out a"):
        crdkit.fit(config, tmp_path / "other")


def test_a_split_whose_folder_is_empty_is_still_an_error(good, tmp_path):
    folder = shutil.copytree(good, tmp_path / "parts")
    for sensor in ("rgb", "xyz"):
        (folder / "test/good" / sensor).mkdir(parents=True)
    with pytest.raises(DataError, match="no file in test/good matches") as caught:
        datasets.build(datasets.build_config({"name": "folder", "root": folder})).records("test")
    assert not isinstance(caught.value, MissingSplitError)
