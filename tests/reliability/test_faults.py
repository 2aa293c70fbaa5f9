"""Faults in the middle of the work: one clear message, nothing torn or lost, the same bytes when it is done again."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from crdkit.cli import main
from crdkit.config import RunConfig
from crdkit.errors import CrdkitError
from crdkit.runs import fit as run_module
from crdkit.runs.fit import fit
from crdkit.views import loading

ROOT = Path(__file__).resolve().parents[2]
SAME = ("detector/model.safetensors", "scores.csv")
REAL_LOAD = loading.load_split


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def own(tiny, scans, tmp_path):
    """A file with the tiny run on a copy of its data, and the copy."""
    root = tmp_path / "scans"
    shutil.copytree(scans, root)
    (tmp_path / "run.yaml").write_text(tiny.with_overrides(f"data.root={root}").to_yaml())
    return tmp_path / "run.yaml", root


@contextlib.contextmanager
def full_disk(free):
    """Let no file become larger than ``free`` bytes, which fails as a full disk does: while it is being written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def fails(capsys, *arguments):
    """Run a command that must fail, and return its one line."""
    capsys.readouterr()
    assert main(["--quiet", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


@pytest.mark.parametrize(
    ("during", "free", "file"),
    [
        ("runs.begin.write_text", 100, "config.yaml"),
        ("runs.fingerprint.write_text", 100, "data.json"),
        ("training._checkpoint._write", 10_000, "checkpoints/epoch-000001.safetensors"),
        ("detector._stored.write_detector", 10_000, "detector/model.safetensors"),
        ("runs.directory.scores_csv", 0, "scores.csv"),
        ("runs.directory.write_report", 5_000, "report.html"),
        ("runs._pipeline.finish", 100, "metrics.json"),
    ],
)
def test_a_full_disk_is_named_and_resuming_gives_the_same(  # noqa: PLR0917
    own, finished, tmp_path, monkeypatch, capsys, during, free, file
):
    config, _ = own
    out = tmp_path / "run"
    where, _, name = during.rpartition(".")
    module = sys.modules[f"crdkit.{where}"]
    real = getattr(module, name)
    if file != "report.html":
        monkeypatch.setattr("crdkit.runs.directory.write_report", lambda *_args, **_options: None)
    monkeypatch.setattr("crdkit.training._checkpoint.EVERY_SECONDS", 0)
    monkeypatch.setattr("crdkit.training._checkpoint.MIN_TRAINING_PER_WRITING", 0)

    with monkeypatch.context() as patch, contextlib.ExitStack() as until_the_end:

        def fill_up(*arguments, **options):
            if name == "scores_csv":
                until_the_end.enter_context(full_disk(free))  # what it returns is written next
                return real(*arguments, **options)
            with full_disk(free):
                return real(*arguments, **options)

        patch.setattr(module, name, fill_up)
        error = fails(capsys, "train", config, "--out", out)
    assert re.match(rf"error: {out}/(\.detector.*/|detector/)?.*{re.escape(file.split('/')[-1])}", error), error
    assert re.search("cannot be written|File too large", error), error
    assert not (out / file).exists()
    assert not (out / "metrics.json").exists()
    monkeypatch.setattr("crdkit.runs.directory.write_report", lambda *_args, **_options: None)
    assert main(["--quiet", "train", str(config), "--out", str(out), "--resume"]) == 0
    for each in SAME:
        assert (out / each).read_bytes() == (finished / each).read_bytes()
    assert not [path for path in out.rglob(".*") if path.is_file()]


def test_predictions_on_a_full_disk_leave_nothing(finished, scans, tmp_path, capsys):
    with full_disk(3_000):
        error = fails(capsys, "predict", finished, scans, "--out", tmp_path / "out")
    assert f"{tmp_path / 'out'}" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_folder_that_cannot_be_written_is_named_before_any_work(own, finished, scans, monkeypatch, capsys):
    config, _ = own
    monkeypatch.setattr(run_module, "train", lambda *_args, **_options: pytest.fail("it was trained"))
    for command in (["train", config], ["sweep", config], ["evaluate", finished]):
        error = fails(capsys, *command, "--out", "/proc/self/run")
        assert error.startswith("error: /proc/self/run: cannot be written: ")
    assert "/proc/self/run: cannot be written" in fails(capsys, "predict", finished, scans, "--out", "/proc/self/run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(own, tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    error = fails(capsys, "train", own[0], "--out", tmp_path / "locked/run")
    assert "locked/run: cannot be written: Permission denied" in error


@pytest.mark.usefixtures("without_reports")
def test_data_that_vanish_while_they_are_read_are_named(own, finished, tmp_path, monkeypatch, capsys):
    config, root = own
    with monkeypatch.context() as patch:
        patch.setattr(loading, "load_split", lambda *a, **o: (root.rename(tmp_path / "gone"), REAL_LOAD(*a, **o))[1])
        error = fails(capsys, "train", config, "--out", tmp_path / "run")
    assert re.search(rf"{root}/biscuit/train/good/\S+", error), error
    (tmp_path / "gone").rename(root)
    assert main(["--quiet", "train", str(config), "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / SAME[0]).read_bytes() == (finished / SAME[0]).read_bytes()


@pytest.mark.usefixtures("without_reports")
def test_data_that_vanish_afterwards_are_not_missed(own, finished, tmp_path, monkeypatch):
    config, root = own
    train = run_module.train
    monkeypatch.setattr(run_module, "train", lambda *a, **o: (shutil.rmtree(root), train(*a, **o))[1])
    assert main(["--quiet", "train", str(config), "--out", str(tmp_path / "run")]) == 0
    for name in SAME:
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.usefixtures("without_reports")
def test_a_file_that_changes_while_it_is_read_stops_the_run(own, tmp_path, monkeypatch, capsys):
    config, root = own
    file = root / "biscuit/train/good/rgb/001.png"

    def load(dataset, split, **options):
        loaded = REAL_LOAD(dataset, split, **options)
        if split == "train":
            shutil.copyfile(root / "biscuit/train/good/rgb/000.png", file)
        return loaded

    with monkeypatch.context() as patch:
        patch.setattr(loading, "load_split", load)
        error = fails(capsys, "train", config, "--out", tmp_path / "run")
    assert error == f"error: {file}: was changed while the run was reading it; start it again\n"
    assert main(["--quiet", "train", str(config), "--out", str(tmp_path / "run")]) == 0


@pytest.mark.usefixtures("without_reports")
def test_memory_that_runs_out_in_training_says_what_fits_and_keeps_the_checkpoint(own, finished, tmp_path, monkeypatch):
    config, _ = own
    monkeypatch.setattr("crdkit.training._checkpoint.EVERY_SECONDS", 0)
    train_step, done = run_module.train.__globals__["train_step"], []

    def too_large(*arguments, **options):
        done.append(1)
        if len(done) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return train_step(*arguments, **options)

    run = RunConfig.from_yaml(config)
    with monkeypatch.context() as patch:
        patch.setattr("crdkit.training.loop.train_step", too_large)
        with pytest.raises(CrdkitError) as caught:
            fit(run, tmp_path / "run")
    assert re.fullmatch(
        r"cpu: its memory has run out: views and teacher features take 0\.\d\d GiB \(training\.resident_gib=auto\); "
        r"set training\.resident_gib=0, so that they are recomputed, or training\.batch_size=2",
        str(caught.value),
    )
    assert len(list((tmp_path / "run/checkpoints").iterdir())) == 1
    smaller = run.with_overrides("training.resident_gib=0")  # what the message says: features are recomputed
    fit(smaller, tmp_path / "smaller")
    assert (tmp_path / "smaller/scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()


def test_memory_that_runs_out_in_predictions_is_one_line(finished, scans, monkeypatch, capsys):
    def too_large(*_args, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("crdkit.detector.Detector.predict_prepared", too_large)
    error = fails(capsys, "predict", finished, scans)
    assert error == "error: a device's memory has run out: set a smaller training.batch_size, or training.device=cpu\n"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_kill_9_at_random_moments():
    command = [sys.executable, "-m", "tests.reliability.kills", "--times", "2", "--only", "train", "sweep", "predict"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert done.stdout.endswith("6 kills, 0 with something torn, lost or different\n")
