"""One writer per run directory, and nothing in it is lost without being asked for."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from crdkit._core.files import LOCK, new_folder, write_text
from crdkit._core.locks import hold
from crdkit.cli import main
from crdkit.errors import ConfigError, CrdkitError
from crdkit.runs import fit as run_module
from crdkit.runs.begin import prepare_folder
from crdkit.runs.directory import read_metrics
from crdkit.runs.evaluate import evaluate_run
from crdkit.runs.fit import fit
from crdkit.runs.sweep import sweep

HOLD = """
import sys, time
from pathlib import Path
from crdkit._core.locks import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def busy(tmp_path):
    """A folder that another process writes to, and that process."""
    folder = tmp_path / "busy"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield folder, process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def stopped(tiny, tmp_path, monkeypatch):
    """An unfinished run with a checkpoint."""
    folder = tmp_path / "stopped"

    def stop(*_args, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("crdkit.detector.Detector.calibrate", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny, folder)
    return folder


def prepare(folder):
    with prepare_folder(folder):
        pass


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_writer_is_refused_in_one_line_whatever_it_does(busy, tiny, finished, tmp_path, capsys):
    folder, process = busy
    config = tmp_path / "run.yaml"
    config.write_text(tiny.to_yaml())
    for command in (
        ["train", config, "--out", folder],
        ["train", config, "--out", folder, "--resume"],
        ["train", config, "--out", folder, "--overwrite"],
        ["sweep", config, "--out", folder],
        ["sweep", config, "--out", folder, "--resume"],
        ["evaluate", finished, "--out", folder],
    ):
        assert main(["--quiet", *map(str, command)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {folder}: is being written by another run (process {process.pid} on ")
        assert error.count("\n") == 1
    assert [entry.name for entry in folder.iterdir()] == [LOCK]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.usefixtures("without_reports")
def test_a_lock_ends_with_its_process_and_leaves_a_folder_that_counts_as_empty(busy, tiny, finished):
    folder, process = busy
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [entry.name for entry in folder.iterdir()] == [LOCK]
    with new_folder(folder) as new:
        write_text(new / "scores.csv", "")
    (folder / "scores.csv").unlink()
    (folder / LOCK).touch()
    evaluate_run(finished, out=folder)
    assert LOCK not in {entry.name for entry in folder.iterdir()}


def test_what_a_process_left_that_was_killed_at_its_first_file_is_in_nobody_s_way(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.config.yaml.0123abcd.partial").touch()
    prepare(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_refused_run_leaves_no_folder(tmp_path):
    with pytest.raises(CrdkitError, match="stop"), hold(tmp_path / "new"):
        raise CrdkitError("stop")
    assert list(tmp_path.iterdir()) == []


def test_the_second_of_two_that_write_a_new_folder_is_told_so(tmp_path):
    with (
        pytest.raises(CrdkitError, match="out exists and is not an empty folder"),
        new_folder(tmp_path / "out"),
        new_folder(tmp_path / "out") as quicker,
    ):
        write_text(quicker / "scores.csv", "mine")
    with pytest.raises(CrdkitError, match="out exists"), new_folder(tmp_path / "out"):
        pytest.fail("refused at once")
    assert content(tmp_path) == {(tmp_path / "out/scores.csv").relative_to(tmp_path): b"mine"}


def test_an_unfinished_run_is_not_lost_by_forgetting_resume(stopped, tiny, capsys, tmp_path):
    before = content(stopped)
    for config in (tiny, tiny.with_overrides("training.epochs=3")):
        with pytest.raises(CrdkitError, match=r"stopped: is not empty: it holds an unfinished run.*--resume.*--overw"):
            fit(config, stopped)
    with pytest.raises(ConfigError, match=r"training\.epochs is 2 there, but 3 now; .*--overwrite"):
        fit(tiny.with_overrides("training.epochs=3"), stopped, resume=True)
    with pytest.raises(ConfigError, match="exclude each other"):
        fit(tiny, stopped, resume=True, overwrite=True)
    with pytest.raises(CrdkitError, match="unfinished run with a checkpoint; choose a new folder"):
        prepare(stopped)
    assert content(stopped) == before
    (tmp_path / "run.yaml").write_text(tiny.to_yaml())
    assert main(["--quiet", "train", str(tmp_path / "run.yaml"), "--out", str(stopped)]) == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.usefixtures("without_reports")
def test_overwrite_replaces_a_run_of_any_configuration_and_nothing_else(stopped, tiny):
    other = tiny.with_overrides("training.epochs=1")
    fit(other, stopped, overwrite=True)
    assert [file.name for file in (stopped / "checkpoints").iterdir()] == ["epoch-000001.safetensors"]
    finished = read_metrics(stopped)
    with pytest.raises(CrdkitError, match="it holds a finished run; give --overwrite"):
        fit(other, stopped)
    assert read_metrics(stopped) == finished
    (stopped / "notes.txt").touch()
    with pytest.raises(CrdkitError, match=r"it holds .*; empty it, or choose a new folder"):
        fit(other, stopped, overwrite=True)
    assert read_metrics(stopped) == finished
    (stopped / "notes.txt").unlink()
    fit(other, stopped, overwrite=True)
    assert LOCK not in {entry.name for entry in stopped.iterdir()}


def test_what_is_not_a_run_is_not_overwritten(finished, tiny, tmp_path):
    for names in (["scores.csv", "metrics.json"], ["detector"], ["config.yaml", "notes.txt"]):
        folder = tmp_path / "-".join(names)
        folder.mkdir()
        for name in names:
            (folder / name).touch()
        with pytest.raises(CrdkitError, match="is not empty"):
            fit(tiny, folder, overwrite=True)
        assert {entry.name for entry in folder.iterdir()} == set(names)


def test_a_sweep_is_overwritten_only_where_it_runs(tiny, tmp_path, monkeypatch):
    trained = []

    def fit_nothing(config, folder, *, resume):
        trained.append((folder, folder.exists()))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(config.to_yaml())
        raise CrdkitError("enough")

    monkeypatch.setattr("crdkit.runs.sweep.fit", fit_nothing)
    out = tmp_path / "out"
    for kept in (out / "other/seed0", out / "biscuit/seed1"):
        kept.mkdir(parents=True)
        (kept / "config.yaml").write_text(tiny.to_yaml())
    with pytest.raises(CrdkitError, match=r"out: is not empty; give --resume .*, --overwrite "):
        sweep(tiny, out=out, categories=["biscuit"], seeds=[1])
    assert trained == []
    sweep(tiny.with_overrides("training.epochs=7"), out=out, categories=["biscuit"], seeds=[1], overwrite=True)
    assert trained == [(out / "biscuit/seed1", True)]
    assert (out / "other/seed0/config.yaml").exists()
    with pytest.raises(ConfigError, match="exclude each other"):
        sweep(tiny, out=out, categories=["biscuit"], resume=True, overwrite=True)


@pytest.mark.usefixtures("without_reports")
def test_two_trainings_at_the_same_time_never_mix(tiny, tmp_path, monkeypatch):
    """The second, of another configuration, asks for the folder while the first is training."""
    refused = []
    train = run_module.train

    def second(*arguments, **options):
        for flags in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(CrdkitError, match=r"is being written|another configuration") as caught:
                fit(tiny.with_overrides("training.epochs=1"), tmp_path / "run", **flags)
            refused.append(str(caught.value))
        train(*arguments, **options)

    monkeypatch.setattr(run_module, "train", second)
    fit(tiny, tmp_path / "run")
    assert len(refused) == 3
    assert (tmp_path / "run/config.yaml").read_text() == tiny.to_yaml()
    assert len((tmp_path / "run/log.jsonl").read_text().splitlines()) == tiny.training.epochs


def test_the_lock_is_free_again_at_once(tmp_path):
    for _ in range(3):
        with hold(tmp_path / "run"):
            time.sleep(0.01)
    assert not (tmp_path / "run").exists()
