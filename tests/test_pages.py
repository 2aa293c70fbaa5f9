"""`crdkit report`: the page of a run again, and several runs on one page."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from test_cli import fails, run
from test_report import Page

from crdkit._core.locks import hold
from crdkit.detector import Detector
from crdkit.errors import CrdkitError, DataError
from crdkit.runs.compare import compare_runs
from crdkit.runs.directory import read_metrics
from crdkit.runs.evaluate import rescore
from crdkit.runs.pages import compare_reports, rebuild_report, short_names


@pytest.fixture(scope="module")
def other(finished, tiny, tmp_path_factory):
    """The same students with another aggregation."""
    folder = tmp_path_factory.mktemp("other") / "max"
    rescore(tiny.with_overrides("aggregation.name=max"), finished, folder)
    return folder


@pytest.fixture(scope="module")
def compared(finished, other, tmp_path_factory):
    return compare_reports([finished, other], out=tmp_path_factory.mktemp("page") / "new/ab.html", resamples=200)


def page_of(path):
    return Page(Path(path).read_text(encoding="utf-8"))


def copy_of(run_folder, to):
    shutil.copytree(run_folder, to, ignore=shutil.ignore_patterns("checkpoints"))
    return to


def test_a_page_made_again_is_the_same(finished, tmp_path, capsys):
    before = (finished / "report.html").read_bytes()
    code, out, err = run(capsys, "-q", "report", finished, "--out", tmp_path / "page.html")
    assert (code, out, err) == (0, f"report: {tmp_path / 'page.html'}\n", "")
    assert (tmp_path / "page.html").read_bytes() == before


def test_a_page_made_again_has_the_thresholds_of_now(finished, tmp_path):
    folder = copy_of(finished, tmp_path / "run")
    kept = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".csv", ".yaml")}
    detector = Detector.load(folder / "detector", device="cpu")
    detector.decide(0.5)
    shutil.rmtree(folder / "detector")
    detector.save(folder / "detector")
    assert rebuild_report(folder) == folder / "report.html"
    before, after = (page_of(path / "report.html").document["runs"][0] for path in (finished, folder))
    assert after["threshold"] == detector.thresholds.images["rgb", "depth"].value < before["threshold"]
    assert after["why"] == "decided"
    assert kept == {path.name: path.read_bytes() for path in folder.iterdir() if path.name in kept}


def test_a_run_of_good_parts_only_has_its_page_again(tiny, scans, tmp_path):
    import crdkit

    root = tmp_path / "data/biscuit"
    for split in ("train", "validation"):
        shutil.copytree(scans / "biscuit" / split, root / split)
    crdkit.fit(tiny.with_overrides(f"data.root={root.parent}", "training.epochs=1"), tmp_path / "run")
    before = (tmp_path / "run/report.html").read_bytes()
    rebuild_report(tmp_path / "run", out=tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == before
    document = page_of(tmp_path / "again.html").document
    assert [sample["label"] for sample in document["samples"]] == [0, 0, 0]


def test_moved_data_are_found_and_other_samples_refused(finished, scans, tmp_path):
    shutil.copytree(scans, tmp_path / "moved")
    rebuild_report(finished, f"data.root={tmp_path / 'moved'}", out=tmp_path / "a.html")
    assert page_of(tmp_path / "a.html").document == page_of(finished / "report.html").document
    shutil.rmtree(next((tmp_path / "moved/biscuit/test").glob("[!g]*")))
    with pytest.raises(DataError, match=r"have different samples: only scores.csv has .*use crdkit evaluate"):
        rebuild_report(finished, f"data.root={tmp_path / 'moved'}", out=tmp_path / "b.html")
    assert not (tmp_path / "b.html").exists()


def test_a_page_of_runs_shows_how_their_metrics_differ(finished, other, compared):
    page, found = page_of(compared), compare_runs(finished, other, resamples=200)
    assert f"{other.name} against {finished.name}" in page.text
    one = found.metrics["image_auroc"]
    assert f"{100 * one.low:+.1f} to {100 * one.high:+.1f}" in page.text
    metrics = read_metrics(other)["aggregate"]
    assert f"{100 * metrics['image_auroc']:.1f}" in page.text
    assert "aggregation.name" in page.text
    assert f"{other.name}: students of {finished}, not trained here" in page.text
    assert "training.epochs" not in page.text
    assert not [target for target in page.values("src") + page.values("href") if not target.startswith("#")]


def test_a_page_of_runs_has_each_sample_once_with_what_every_run_says(finished, other, compared):
    document = page_of(compared).document
    assert [found["name"] for found in document["runs"]] == [finished.name, other.name]
    for place, folder in enumerate((finished, other)):
        with (folder / "scores.csv").open() as file:
            rows = {row["image_path"]: row for row in csv.DictReader(file)}
        assert len(document["samples"]) == len(rows)
        scores = sorted(float(row["pred_score"]) for row in rows.values())
        assert sorted(sample["runs"][place]["score"] for sample in document["samples"]) == pytest.approx(scores)
        alarms = sum(
            sample["runs"][place]["score"] > sample["runs"][place]["threshold"] for sample in document["samples"]
        )
        assert alarms == sum(row["pred_label"] == "1" for row in rows.values())
    for sample in document["samples"]:
        assert (sample["type"] == "good") == (sample["label"] == 0)


def test_pages_of_several_runs_are_the_same_bytes(finished, other, compared, tmp_path):
    again = compare_reports([finished, other], out=tmp_path / "again.html", resamples=200)
    assert again.read_bytes() == compared.read_bytes()


def test_runs_of_other_image_sizes_are_compared_by_image(finished, tiny, tmp_path):
    import crdkit

    crdkit.fit(
        tiny.with_overrides("data.image_size=32", "training.epochs=1", "modalities.depth=null"), tmp_path / "small"
    )
    page = page_of(compare_reports([finished, tmp_path / "small"], out=tmp_path / "page.html", resamples=50))
    differences = page.text.partition("small against")[2].partition("Paired differences")[0]
    assert "I-AUROC" in differences
    assert "P-AUROC" not in differences
    assert [found["layers"] for found in page.document["runs"]] == [["fused", "rgb", "depth"], ["fused", "rgb"]]
    assert {tuple(run["frame"]) for picture in page.pictures for run in picture["runs"]} == {(64, 64), (32, 32)}


def test_what_is_wrong_is_one_line(finished, other, tmp_path, capsys, monkeypatch):
    assert "give two different ones" in fails(capsys, "report", finished, finished, "--out", tmp_path / "x.html")
    assert "give the folder of a finished run" in fails(capsys, "report", tmp_path)
    assert "is a folder; name a file" in fails(capsys, "report", finished, "--out", tmp_path)
    assert "no run is given" in fails(capsys, "report", "data.root=x")
    assert "is for several runs" in fails(capsys, "report", finished, "--image-level")
    monkeypatch.chdir(tmp_path)
    Path("comparison.html").write_text("mine")
    assert "comparison.html: exists" in fails(capsys, "report", finished, other)
    assert Path("comparison.html").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["comparison.html"]
    (tmp_path / "metrics.json").write_text("{}")
    assert "has no counts" in fails(capsys, "report", tmp_path)


def test_a_run_that_is_being_written_is_left_alone(finished, tmp_path):
    folder = copy_of(finished, tmp_path / "run")
    before = (folder / "report.html").read_bytes()
    with hold(folder), pytest.raises(CrdkitError):
        rebuild_report(folder)
    assert (folder / "report.html").read_bytes() == before


def test_runs_on_other_samples_are_not_compared(finished, scans, tmp_path):
    folder = copy_of(finished, tmp_path / "run")
    shutil.copytree(scans, tmp_path / "data")
    for file in (tmp_path / "data/biscuit/test/good").glob("*/000.*"):
        file.rename(file.with_name(f"900{file.suffix}"))
    table = (folder / "scores.csv").read_text().replace("good/rgb/000", "good/rgb/900")
    (folder / "scores.csv").write_text(table)
    config = json.loads((folder / "detector/config.json").read_text())
    config["config"]["data"]["root"] = str(tmp_path / "data")
    (folder / "detector/config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="different test samples"):
        compare_reports([finished, folder], out=tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_names_tell_runs_apart():
    assert short_names([Path("/a/x/run"), Path("/a/y/run"), Path("/b/x/run")]) == ["a/x/run", "a/y/run", "b/x/run"]
