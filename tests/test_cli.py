"""The command line: exit codes, one-line errors, and nothing half-written."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TINY

from crdkit._core.progress import set_quiet
from crdkit.cli import main
from crdkit.cli.output import show
from crdkit.cli.tables import catalogue_tables, results_table
from crdkit.config.catalogue import Entry
from crdkit.data.synthetic import LAYOUTS, category_folders
from crdkit.runs.directory import read_metrics


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    set_quiet(True)
    return code, captured.out, captured.err


def fails(capsys, *arguments, code=2):
    returned, _, err = run(capsys, "--quiet", *arguments)
    assert returned == code
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


def test_version_and_help(capsys):
    assert run(capsys, "--version")[:2] == (0, f"crdkit {__import__('crdkit').__version__}\n")
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(command in out for command in ("demo", "train", "evaluate", "sweep", "describe", "list", "data"))
    assert all(panel in out for panel in ("Start here", "Train and evaluate", "Look around", "Data"))


def test_train_then_evaluate(capsys, scans, tmp_path):
    out = tmp_path / "run"
    code, printed, err = run(capsys, "train", "quick", f"data.root={scans}", *TINY, "--out", out)
    assert code == 0, err
    assert "AU-PRO@30%" in printed
    assert "fused" in printed
    assert str(out / "report.html") in printed.replace("\n", "")
    code, again, err = run(capsys, "--quiet", "evaluate", out)
    assert (code, err) == (0, "")
    fused = [line for line in printed.splitlines() if "fused" in line]
    assert fused == [line for line in again.splitlines() if "fused" in line]


def test_list(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0
    parts = ("mvtec3d", "depth", "efficientnet_lite0", "bottleneck", "inverted_bottleneck", "normalised_sum", "quick")
    for name in parts:
        assert name in out
    assert "filters" not in run(capsys, "list", "presets")[1]
    assert "did you mean 'encoders'" in fails(capsys, "list", "encoder")


def test_brackets_in_names_are_no_markup(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    show("[red]runs[/red]/report.html")
    assert capsys.readouterr().out == "[red]runs[/red]/report.html\n"
    show(results_table({"[bold]bagel": {}}, title="[red]of :smile: rope"))
    printed = capsys.readouterr().out
    assert " [bold]bagel " in printed
    assert "[red]of :smile: rope" in printed
    entry = Entry(name="[b]folder", summary="[red]files", options={"names": "[/red]"})
    for table in catalogue_tables({"datasets": [entry]}):
        show(table)
    printed = capsys.readouterr().out
    assert all(f" {text} " in printed for text in ("[b]folder", "[red]files", "names=[/red]"))


def test_careless_use_ends_in_one_line(capsys, scans, tmp_path):
    out = ("--out", tmp_path / "run")
    data = (f"data.root={scans}", *TINY)
    assert "did you mean 'quick'" in fails(capsys, "train", "quik", *out)
    assert "did you mean 'epochs'" in fails(capsys, "train", "quick", *data, "training.epoch=3", *out)
    assert "nowhere" in fails(capsys, "train", "quick", *data, "data.root=nowhere", *out)
    assert "did you mean 'biscuit'" in fails(capsys, "train", "quick", *data, "data.category=biscit", *out)
    assert "data.root" in fails(capsys, "train", "quick", *out)
    assert "--out" in fails(capsys, "train", "quick")
    assert "No such command" in fails(capsys, "trian")
    assert "holds no detector" in fails(capsys, "evaluate", tmp_path)
    assert not (tmp_path / "run").exists()


def test_damaged_files_are_named_or_skipped(capsys, scans, tmp_path, monkeypatch):
    root = Path(shutil.copytree(scans, tmp_path / "data"))
    damaged = root / "biscuit/train/good/xyz/001.tiff"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    arguments = ("quick", f"data.root={root}", *TINY)
    assert str(damaged) in fails(capsys, "train", *arguments, "--out", tmp_path / "run")
    assert not (tmp_path / "run/detector").exists()
    with monkeypatch.context() as patch:
        patch.setattr("crdkit.runs.directory.write_report", lambda *_args, **_options: None)
        code, _, err = run(capsys, "train", *arguments, "data.on_bad_sample=skip", "--out", tmp_path / "run")
    assert code == 0
    assert "warning: skipped 1 of 6 samples" in err
    assert str(damaged) in err
    code, _, err = run(capsys, "--quiet", "train", *arguments, "data.on_bad_sample=skip", "--out", tmp_path / "quiet")
    assert code == 0
    assert err.startswith("warning: skipped 1 of 6 samples")
    assert len(err.splitlines()) == 1
    assert read_metrics(tmp_path / "quiet")["counts"] == {"train": 5, "validation": 3, "test": 15, "skipped": 1}
    assert "1 unreadable samples were left out" in (tmp_path / "quiet/report.html").read_text()


FEW = ("--train", 2, "--validation", 1, "--test-good", 1, "--test-per-defect", 1, "--size", 64)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_data_is_made_and_found_sound(capsys, tmp_path, layout):
    out = tmp_path / "[b]data"
    code, printed, err = run(capsys, "-q", "data", "make", "gear", "--layout", layout, "--out", out, *FEW)
    assert (code, err) == (0, "")
    (category,) = category_folders(out)
    assert printed == f"{category.parent}: data.name={layout}, categories {category.name}\n"
    counts = {"train": 2, "validation": 1, "test_good": 1, "test_per_defect": 1}
    LAYOUTS[layout](tmp_path / "same", categories=["gear"], size=64, **counts)
    written = {path.relative_to(out): path.read_bytes() for path in out.rglob("*.*")}
    assert written == {path.relative_to(tmp_path / "same"): path.read_bytes() for path in tmp_path.rglob("same/**/*.*")}
    for options in ((), ("--layout", layout)):
        code, printed, err = run(capsys, "-q", "data", "check", out, *options)
        assert (code, err) == (0, "")
        assert f"{category} ({layout})" in printed
        assert "error" not in printed


def test_what_is_wrong_with_data_is_listed(capsys, scans, tmp_path):
    root = Path(shutil.copytree(scans, tmp_path / "data"))
    damaged = root / "biscuit/train/good/xyz/001.tiff"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    code, printed, err = run(capsys, "-q", "data", "check", root)
    assert code == 2
    assert err == f"error: {root}: 1 error above; fix the data, or remove it\n"
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert line.count(str(damaged)) == 1
    (tmp_path / "empty").mkdir()
    assert "holds no category in a known layout" in fails(capsys, "data", "check", tmp_path / "empty")
    assert "is not a folder" in fails(capsys, "data", "check", tmp_path / "nowhere")


def test_data_that_cannot_be_made(capsys, tmp_path):
    out = ("--out", tmp_path / "data")
    assert "did you mean 'mvtec3d'" in fails(capsys, "data", "make", "--layout", "mvtec", *out)
    assert "did you mean 'biscuit'" in fails(capsys, "data", "make", "biscit", "--layout", "mvtec3d", *out)
    assert "use --layout folder" in fails(capsys, "data", "make", "--layout", "mvtec3d", "--sensor", "rgb", *out)
    assert "--train" in fails(capsys, "data", "make", "--layout", "mvtec3d", "--train", -1, *out)
    assert not (tmp_path / "data").exists()
    options = ("--layout", "folder", "--sensor", "infrared", "--sensor", "normals")
    assert run(capsys, "data", "make", "gear", *options, *out, *FEW)[0] == 0
    sensors = (tmp_path / "data/gear/train/good").iterdir()
    assert {folder.name for folder in sensors} == {"infrared", "normals"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom permissions stop")
def test_no_write_permission(capsys, scans, tmp_path):
    tmp_path.chmod(0o500)
    assert "cannot be written" in fails(
        capsys, "train", "quick", f"data.root={scans}", *TINY, "--out", tmp_path / "run"
    )


def test_no_write_permission_as_the_system_reports_it(capsys, scans, tmp_path, monkeypatch):
    def refuse(self, *_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    err = fails(capsys, "train", "quick", f"data.root={scans}", *TINY, "--out", tmp_path / "run")
    assert err == f"error: {tmp_path / 'run'}: cannot be written: Permission denied\n"


def test_an_internal_error_is_told_apart(capsys, monkeypatch):
    def break_down(*_args, **_options):
        raise RuntimeError("boom")

    monkeypatch.setattr("crdkit.config.load_config", break_down)
    code, _, err = run(capsys, "train", "quick", "--out", "x")
    assert code == 1
    assert "internal error: RuntimeError: boom" in err


@pytest.mark.usefixtures("without_reports")
def test_sweep(capsys, scans, tmp_path):
    out = tmp_path / "sweep"
    arguments = ("sweep", "quick", f"data.root={scans}", *TINY, "training.epochs=1", "--out", out)
    error = fails(capsys, *arguments, "--categories", "biscuit", "biscit", "--seeds", 0, 1)
    assert "unknown category 'biscit' - did you mean 'biscuit'? known: biscuit" in error
    assert not out.exists()  # before anything is trained
    (scans / "damaged").mkdir()
    try:
        code, printed, err = run(capsys, *arguments, "--categories", "biscuit", "damaged", "--seeds", 0, 1)
    finally:
        (scans / "damaged").rmdir()
    assert code == 2
    assert "sweep: 4/4 in" in err
    assert "skipped damaged seed 1: " in err
    assert err.splitlines()[-1].startswith(f"error: {out}: 2 of 4 runs were skipped (damaged seed 0, damaged seed 1)")
    assert "skipped: damaged seed 0: " in printed
    assert any(line.startswith("biscuit ") and " ± " in line for line in printed.splitlines())
    assert {entry.name for entry in out.iterdir()} == {
        ".sweep", "biscuit", "results.md", "results.csv", "results.json",
    }  # fmt: skip
    assert "is not empty; give --resume" in fails(capsys, *arguments)
    code, again, err = run(capsys, *arguments, "--resume", "--seeds", 0, 1)  # all categories: biscuit alone
    assert code == 0
    assert err.splitlines() == ["sweep: 2/2 done before"]
    assert "damaged" not in again
    assert [line for line in printed.splitlines() if line.startswith("biscuit ")] == [
        line for line in again.splitlines() if line.startswith("biscuit ")
    ]


def test_careless_sweeps_end_in_one_line(capsys, scans, tmp_path):
    arguments = ("sweep", "quick", f"data.root={scans}", *TINY, "--out", tmp_path / "sweep")
    assert "--seeds needs at least one value" in fails(capsys, *arguments, "--seeds")
    assert "--categories needs at least one value" in fails(capsys, *arguments, "--categories", "--resume")
    assert "--seeds" in fails(capsys, *arguments, "--seeds", "one")
    for seeds in (["-1"], ["0", "-1"]):
        error = fails(capsys, *arguments, "--seeds", *seeds)
        assert "Invalid value for '--seeds'" in error
        assert "greater than or equal to 0" in error or "not in the range x>=0" in error  # older typers check it first
    for option, override in (("--seeds", "training.seed=0"), ("--categories", "data.category=gear")):
        assert f"{override} is not among {option} 1 2; a sweep" in fails(capsys, *arguments, option, 1, 2, override)
    assert "must look like key.path=value" in fails(capsys, *arguments, "bagel")
    assert "did you mean 'epochs'" in fails(capsys, *arguments, "--seeds", 0, 1, "training.epoch=3")
    assert not (tmp_path / "sweep").exists()


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_in_a_sweep(scans, tmp_path):
    out = tmp_path / "sweep"
    overrides = [f"data.root={scans}", *TINY, "training.epochs=100000"]
    command = [sys.executable, "-m", "crdkit", "sweep", "quick", *overrides, "--seeds", "0", "1", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = out / "biscuit/seed0/log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("interrupted; go on with: crdkit sweep quick data.root=")
    assert err.splitlines()[-1].endswith(f" --seeds 0 1 --out {out} --resume")


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_training_that_is_stopped_keeps_what_it_did(scans, tmp_path, number, code, word):
    out = tmp_path / "run"
    overrides = [f"data.root={scans}", *TINY, "training.epochs=100000"]
    command = [sys.executable, "-m", "crdkit.cli", "train", "quick", *overrides, "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = out / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    again = shlex.join(["crdkit", *command[3:], "--resume"])
    assert err.splitlines()[-1] == f"{word}; go on with: {again}"
    assert {entry.name for entry in out.iterdir()} == {"config.yaml", "data.json", "log.jsonl", "checkpoints"}
    assert len(list((out / "checkpoints").iterdir())) == 1


def test_importing_is_quick_and_has_no_effects():
    code = (
        "import sys, torch; before = set(sys.modules); import crdkit; "
        "print(sorted(name.split('.')[0] for name in set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(eval(loaded)) <= {"crdkit", "__future__", "typing", "importlib"}, loaded
