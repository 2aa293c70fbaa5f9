"""The command `predict`: any folder or files in, scores, maps and overlays out, and nothing half-written."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from test_cli import fails, run

from crdkit._core.progress import set_quiet
from crdkit.cli import main
from crdkit.config.build import build_dataset
from crdkit.detector import Detector
from crdkit.detector._onnx import OLDEST_TORCH
from crdkit.detector.files import load_detector, open_folder, predict_inputs


@pytest.fixture(scope="module")
def tolerant(tiny, tmp_path_factory):
    """The folder of a detector that can do without a sensor: the tiny one, its config aside."""
    import crdkit

    set_quiet(True)
    folder = tmp_path_factory.mktemp("tolerant") / "detector"
    crdkit.fit(tiny.with_overrides("training.modality_dropout=0.3", "training.epochs=1")).save(folder)
    return folder


def read_scores(folder):
    with (folder / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_folder_of_the_detectors_layout(capsys, finished, scans, tmp_path):
    out = tmp_path / "new/out"
    code, printed, err = run(capsys, "--quiet", "predict", finished, scans / "biscuit", "--out", out)
    assert (code, err) == (0, "")
    expected = read_scores(finished)
    rows = read_scores(out)
    found, judged = printed.splitlines()
    assert found == f"{out}: {len(expected)} samples, {sum(row['pred_label'] == '1' for row in rows)} anomalous"
    assert judged == Detector.load(finished / "detector").thresholds.describe()
    assert [list(row) for row in rows] == [list(row) for row in expected]
    for row, one in zip(rows, expected, strict=True):
        assert [row[key] for key in ("image_path", "defect_type", "gt_label")] == [
            one[key] for key in ("image_path", "defect_type", "gt_label")
        ]
        for key in ("pred_score", "pred_score_rgb", "pred_score_depth"):
            assert float(row[key]) == pytest.approx(float(one[key]), rel=1e-4)
    written = {path.name for path in out.iterdir()} - {"masks"}  # not there without a pixel threshold
    assert written == {"scores.csv", "predictions.jsonl", "anomaly_maps", "branch_maps", "overlays"}
    maps = sorted(path.relative_to(out / "anomaly_maps") for path in out.glob("anomaly_maps/*/*.tiff"))
    assert len(maps) == len(expected)
    detector = Detector.load(finished / "detector", device="cpu")
    dataset = build_dataset(load_detector(finished).config)
    record = dataset.records("test")[0]
    found = detector.predict(dataset.read(record).sensors)
    values = tifffile.imread(out / f"anomaly_maps/{record.sample_id}.tiff")
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, found.anomaly_map, atol=1e-5 * found.anomaly_map.max())
    branch = tifffile.imread(out / f"branch_maps/depth/{record.sample_id}.tiff")
    np.testing.assert_allclose(branch, found.maps["depth"], atol=1e-6)
    with Image.open(out / f"overlays/{record.sample_id}.png") as overlay:
        assert (overlay.size, overlay.mode) == ((64, 64), "RGB")
    assert "is not an empty folder" in fails(capsys, "predict", finished, scans / "biscuit", "--out", out)
    # the folder that holds the category gives the same
    code, printed, _ = run(capsys, "--quiet", "predict", finished / "detector", scans)
    assert code == 0
    lines = printed.splitlines()
    assert lines[0].split() == ["image_path", "pred_score", "p_value", "pred_label", "regions", "raised_by"]
    assert [line.split()[0] for line in lines[1:-1]] == [row["image_path"] for row in expected]


def test_files_without_labels_and_pairs_of_one_sample(capsys, finished, scans, tmp_path):
    source = scans / "biscuit/test/good"
    for sensor, ending in (("rgb", "png"), ("xyz", "tiff")):
        (tmp_path / "line" / sensor).mkdir(parents=True)
        for stem in ("000", "001"):
            shutil.copy(source / sensor / f"{stem}.{ending}", tmp_path / "line" / sensor)
    code, printed, err = run(capsys, "--quiet", "predict", finished, tmp_path / "line", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    rows = read_scores(tmp_path / "out")
    assert [(row["image_path"], row["defect_type"], row["gt_label"]) for row in rows] == [
        ("rgb/000.png", "unlabelled", ""),
        ("rgb/001.png", "unlabelled", ""),
    ]
    known = {row["image_path"]: float(row["pred_score"]) for row in read_scores(finished)}
    assert float(rows[1]["pred_score"]) == pytest.approx(known["biscuit/test/good/rgb/001.png"], rel=1e-4)
    pair = (f"xyz={source / 'xyz/001.tiff'}", f"rgb={source / 'rgb/001.png'}")
    code, printed, err = run(capsys, "--quiet", "predict", finished, *pair, "training.device=cpu")
    assert (code, err) == (0, "")
    path, score, *_ = printed.splitlines()[1].split()
    assert path == str(source / "xyz/001.tiff")
    assert float(score) == pytest.approx(float(rows[1]["pred_score"]), rel=1e-4)
    assert run(capsys, "--quiet", "predict", finished, *pair, "--out", tmp_path / "one")[0] == 0
    assert (tmp_path / "one/overlays/001.png").exists()


def test_missing_sensors(capsys, finished, tolerant, scans, tmp_path):
    image = scans / "biscuit/test/good/rgb/000.png"
    assert "sensor 'xyz' is missing" in fails(capsys, "predict", finished, f"rgb={image}")
    (tmp_path / "line/rgb").mkdir(parents=True)
    shutil.copy(image, tmp_path / "line/rgb")
    err = fails(capsys, "predict", finished, tmp_path / "line")
    assert f"{tmp_path / 'line'}: sensor 'xyz' is missing: this detector needs ['rgb', 'xyz'], got ['rgb']" in err
    code, printed, err = run(capsys, "--quiet", "predict", tolerant, f"rgb={image}")
    assert (code, err) == (0, "")
    assert printed.splitlines()[1].endswith("  without depth")
    assert run(capsys, "--quiet", "predict", tolerant, tmp_path / "line", "--out", tmp_path / "out")[0] == 0
    (row,) = read_scores(tmp_path / "out")
    assert (row["missing"], row["pred_score_depth"]) == ("depth", "")
    assert float(row["pred_score_rgb"]) > 0
    assert not (tmp_path / "out/branch_maps/depth").exists()
    root = Path(shutil.copytree(scans, tmp_path / "data"))
    (root / "biscuit/test/good/xyz/001.tiff").unlink()
    assert run(capsys, "--quiet", "predict", tolerant, root, "--out", tmp_path / "some")[0] == 0
    lacking = [row["image_path"] for row in read_scores(tmp_path / "some") if row["missing"]]
    assert lacking == ["biscuit/test/good/rgb/001.png"]
    assert "001.tiff" in fails(capsys, "predict", finished, root)


def test_careless_use(capsys, finished, scans, tmp_path):
    image = scans / "biscuit/test/good/rgb/000.png"
    out = ("--out", tmp_path / "out")
    assert "holds no detector" in fails(capsys, "predict", tmp_path, scans)
    assert "nowhere: does not exist" in fails(capsys, "predict", finished, "nowhere", *out)
    assert "rgb=000.png" in fails(capsys, "predict", finished, image)
    assert "give one folder" in fails(capsys, "predict", finished, scans, f"rgb={image}")
    assert "given twice" in fails(capsys, "predict", finished, f"rgb={image}", f"rgb={image}")
    assert "did you mean 'rgb'" in fails(capsys, "predict", finished, f"rgbb={image}")
    assert "accepts data.*" in fails(capsys, "predict", finished, scans, "training.epochs=2")
    assert "holds no samples in a known layout" in fails(capsys, "predict", finished, tmp_path)
    pair = (f"rgb={image}", f"xyz={tmp_path / 'lost.tiff'}")
    assert "lost.tiff: the file does not exist" in fails(capsys, "predict", finished, *pair, *out)
    assert not (tmp_path / "out").exists()


def test_truncated_files_stop_or_are_skipped(capsys, finished, scans, tmp_path):
    root = Path(shutil.copytree(scans, tmp_path / "data"))
    damaged = root / "biscuit/test/good/xyz/001.tiff"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    assert str(damaged) in fails(capsys, "predict", finished, root, "--out", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
    code, _, err = run(
        capsys, "--quiet", "predict", finished, root, "data.on_bad_sample=skip", "--out", tmp_path / "out"
    )
    assert code == 0
    assert "skipped 1 of" in err
    assert len(read_scores(tmp_path / "out")) == len(read_scores(finished)) - 1


def test_masks_are_not_needed(capsys, finished, detector, scans, tmp_path):
    root = Path(shutil.copytree(scans, tmp_path / "data"))
    for mask in root.glob("biscuit/test/*/gt/*.png"):
        mask.write_bytes(b"damaged")
    inputs = open_folder(detector, root)
    assert len(list(predict_inputs(detector, inputs))) == len(read_scores(finished))


def test_a_failure_at_the_end_leaves_nothing(finished, scans, tmp_path, monkeypatch):
    def stop(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("crdkit.detector.files.colour", stop)
    assert main(["--quiet", "predict", str(finished), str(scans), "--out", str(tmp_path / "out")]) == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_leaves_nothing(finished, scans, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(scans, root)
    good = root / "biscuit/test/good"
    for place in range(1000, 1400):
        for sensor, ending in (("rgb", "png"), ("xyz", "tiff")):
            os.link(good / sensor / f"000.{ending}", good / sensor / f"{place}.{ending}")
    out = tmp_path / "results/out"
    command = [sys.executable, "-m", "crdkit", "predict", str(finished), str(root), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.parent.glob(".out.*/overlays/*/*.png")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted"
    assert list(out.parent.iterdir()) == []


CAN_COMPILE = torch.__version__ >= OLDEST_TORCH
PAGE = Path(__file__).parents[1] / "docs/predict.md"


@pytest.mark.usefixtures("export_once")
def test_the_pages_commands_run_as_printed(capsys, finished, scans, tmp_path, monkeypatch):
    good = scans / "biscuit/test/good"
    shutil.copytree(good, tmp_path / "line", ignore=shutil.ignore_patterns("gt"))
    shutil.copy(good / "rgb/000.png", tmp_path / "a.png")
    shutil.copy(good / "xyz/000.tiff", tmp_path / "a.tiff")
    monkeypatch.chdir(tmp_path)
    places = {"runs/bagel": finished, "/data/mvtec3d/bagel": scans / "biscuit", "/data/line": tmp_path / "line"}
    block = PAGE.read_text().split("```sh\n")[1].split("```")[0]
    commands = [line for line in block.splitlines() if CAN_COMPILE or "--compile" not in line]
    for line in commands:
        _, *arguments = line.split("#")[0].split()
        code, printed, err = run(capsys, "--quiet", *(places.get(argument, argument) for argument in arguments))
        assert (code, err) == (0, ""), line
        assert printed
    assert (tmp_path / "one/overlays/a.png").exists()
    for folder in ("found", "quicker") if CAN_COMPILE else ("found",):
        assert len(read_scores(tmp_path / folder)) == 3


@pytest.fixture
def one_sample_here(scans, tmp_path, monkeypatch):
    for sensor, ending in (("rgb", "png"), ("xyz", "tiff")):
        shutil.copy(scans / f"biscuit/test/good/{sensor}/000.{ending}", tmp_path / f"a.{ending}")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("one_sample_here")
def test_the_pages_python_runs_as_printed(capsys, finished, samples):
    code = PAGE.read_text().split("## In Python")[1].split("```python\n")[1].split("```")[0]
    exec(code.replace("runs/bagel", str(finished)), {"samples": samples})
    assert len(capsys.readouterr().out.splitlines()) == len(samples)
