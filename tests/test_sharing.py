"""Predictions and evaluations that processes share: the files of one alone, whoever is stopped and whenever."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_cli import fails, run

from crdkit._core import shares as shares_module
from crdkit._core.distributed import claim
from crdkit._core.shares import Shares
from crdkit.cli import main
from crdkit.cli.stopping import how_to_go_on
from crdkit.detector import Detector, sharing
from crdkit.errors import BadSampleWarning, CrdkitError
from crdkit.runs import sharing as sharing_of_runs
from crdkit.runs.directory import read_metrics
from crdkit.runs.evaluate import evaluate_run
from crdkit.runs.sharing import share_evaluation

LONG_S = 600
RANK_THAT_HANGS = """
import os, time
from pathlib import Path
from crdkit.cli import entry_point
from crdkit.detector import Detector

if "HANGS" in os.environ:
    def predict_prepared(self, samples):
        Path(os.environ["HANGS"]).touch()
        time.sleep(600)
    Detector.predict_prepared = predict_prepared
entry_point()
"""


@pytest.fixture(scope="module")
def tolerant(tiny, scans, tmp_path_factory):
    """The detector of a tiny run that can do without a sensor, and a folder in which a share lacks one."""
    import crdkit

    folder = tmp_path_factory.mktemp("tolerant")
    options = ["training.modality_dropout=0.3", "training.epochs=1", "training.batch_size=3"]
    crdkit.fit(tiny.with_overrides(*options)).save(folder / "detector")
    shutil.copytree(scans, folder / "data")
    for scan in sorted(folder.glob("data/biscuit/test/*/xyz/*.tiff"))[:4]:
        scan.unlink()
    return folder


@pytest.fixture
def line(scans, tmp_path):
    """Twelve samples without labels."""
    images = sorted((scans / "biscuit/test").glob("*/rgb/*.png"))
    for place in range(12):
        image = images[place % len(images)]
        for file in (image, image.parents[1] / f"xyz/{image.stem}.tiff"):
            to = tmp_path / "line" / file.parent.name / f"{place:03d}{file.suffix}"
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, to)
    return tmp_path / "line"


def content(folder):
    """Return a hash of each file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def predict(run_folder, folder, out, *options):
    return main(["-q", "predict", str(run_folder), str(folder), "--out", str(out), *options])


def counted(monkeypatch):
    """Return a list that gets the number of samples of each batch that is predicted."""
    sizes, original = [], Detector.predict_prepared

    def predict_prepared(self, samples):
        sizes.append(len(samples))
        return original(self, samples)

    monkeypatch.setattr(Detector, "predict_prepared", predict_prepared)
    return sizes


# shares


def shared(out, **order):
    return Shares(out, order={"numbers": 1, **order}, total=5, size=2)


def write_table(results):
    (results / "table").write_text("")
    return {"table": 1}


def work(shares, merge=write_table):
    done = []

    def do(share):
        with shares.part(share):
            done.append(list(shares.samples(share)))

    shares.begin()
    shares.each(do, shares.is_there, description="numbers")
    return done, shares.finish(merge)


def test_a_command_of_many_processes(tmp_path):
    out = tmp_path / "out"
    first, late = shared(out), shared(out)
    assert work(first) == ([[0, 1], [2, 3], [4]], {"table": 1})
    assert work(late) == ([], {"table": 1})  # nothing is left to do
    assert first.finished
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.shares", "out"]
    assert not (first.work / "done").exists()
    with pytest.raises(CrdkitError, match="out exists and is not an empty folder"):
        shared(out, numbers=2).begin()
    shutil.rmtree(out)
    assert len(work(shared(out, numbers=2))[0]) == 3  # the record of a folder that is gone does not count
    shutil.rmtree(out)
    assert len(work(shared(out, numbers=2))[0]) == 3


def test_another_command_is_refused(tmp_path):
    out = tmp_path / "out"
    shared(out).begin()
    with pytest.raises(CrdkitError, match=r"numbers is 1 there, but 2 now; .* delete .*\.out\.shares to give it up"):
        shared(out, numbers=2).begin()
    with pytest.raises(CrdkitError, match="letters is None there, but 'a' now"):
        shared(out, letters="a").begin()
    (out / "file").parent.mkdir()
    (out / "file").touch()
    with pytest.raises(CrdkitError, match="not an empty folder"):
        shared(out).begin()
    (tmp_path / "other").touch()
    with pytest.raises(CrdkitError, match="other exists and is not an empty folder"):
        shared(tmp_path / "other").begin()
    assert not (tmp_path / ".other.shares").exists()
    (tmp_path / ".out.shares/order.json").write_text("{")
    shutil.rmtree(out)
    with pytest.raises(CrdkitError, match=r"order\.json: is damaged .* delete the folder"):
        shared(out).begin()
    (shared(out).work / "order.json").write_text("[]")
    with pytest.raises(CrdkitError, match=r"order\.json: is damaged \(no mapping\); delete the folder"):
        shared(out).begin()
    with pytest.raises(CrdkitError, match="/: is no folder for results"):
        shared(Path("/"))
    (tmp_path / "file").touch()
    with pytest.raises(CrdkitError, match="file/out: cannot be written"):
        shared(tmp_path / "file/out").begin()


def test_locks_are_waited_for(tmp_path, monkeypatch):
    shares = shared(tmp_path / "out")
    shares.begin()
    monkeypatch.setattr(shares_module, "PREPARING_S", 0.01)
    with claim(shares.work / "order.lock"), pytest.raises(CrdkitError, match="has held its lock"):
        shares.begin()
    held, released = [claim(shares.work / "done/000001.lock"), claim(shares.work / "finish.lock")], []

    def release(_seconds):
        released.append(held.pop(0).__exit__(None, None, None))

    for each in held:
        each.__enter__()
    monkeypatch.setattr(shares_module.time, "sleep", release)
    assert work(shares) == ([[0, 1], [4], [2, 3]], {"table": 1})
    assert len(released) == 2


@pytest.mark.parametrize("place", ["merging", "moving", "after moving"])
def test_a_process_is_killed_at_the_end(tmp_path, monkeypatch, place):
    out, merged = tmp_path / "out", []

    def merge(results):
        merged.append(place)
        (results / "table").write_text(place)
        if place == "merging" and len(merged) == 1:
            raise KeyboardInterrupt
        return {"times": len(merged)}

    def killed(*_args, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if place == "moving":
            patch.setattr(shares_module, "move_folder", killed)
        if place == "after moving":
            patch.setattr(Path, "touch", killed)
        with pytest.raises(KeyboardInterrupt):
            work(shared(out), merge)
    assert out.exists() == (place == "after moving")
    assert work(shared(out), merge) == ([], {"times": 2 if place == "merging" else 1})
    assert (out / "table").read_text() == place


def test_a_folder_that_cannot_be_moved(tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shares_module, "move_folder", full)
    with pytest.raises(CrdkitError, match="out: cannot be written: No space left"):
        work(shared(tmp_path / "out"))


# predictions


def test_stopped_anywhere_and_done_again(finished, line, tmp_path, monkeypatch):
    assert predict(finished, line, tmp_path / "alone") == 0
    expected = content(tmp_path / "alone")
    out = tmp_path / "out"
    calls = {"_write": 2, "_move_files": 1, "colour": 2, "writer_for": 4}  # which calls of a step are stopped
    for name, number in calls.items():
        owner = sharing._Predictions if name == "_write" else sharing
        original, count = getattr(owner, name), []

        def stopped(*args, original=original, count=count, number=number, **options):
            count.append(args)
            if len(count) == number:
                raise KeyboardInterrupt
            return original(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stopped)
            assert predict(finished, line, out, "--share") == (130 if name != "writer_for" else 0)
        assert out.exists() == (name == "writer_for")
    assert content(out) == expected
    sizes = counted(monkeypatch)
    assert predict(finished, line, out, "--share") == 0  # nothing is left to do
    assert sizes == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.shares", "alone", "line", "out"]


def stop(*_args, **_options):
    raise KeyboardInterrupt


def test_files_that_have_changed_are_predicted_again(finished, line, tmp_path, monkeypatch):
    out, skip = tmp_path / "out", "data.on_bad_sample=skip"
    with monkeypatch.context() as patch:
        patch.setattr(sharing._Predictions, "merge", stop)
        assert predict(finished, line, out, skip, "--share") == 130
    for kind in ("rgb/{}.png", "xyz/{}.tiff"):  # another sample, and one that cannot be read any more
        shutil.copy(line / kind.format("011"), line / kind.format("001"))
    (line / "xyz/002.tiff").write_bytes(b"II")
    with monkeypatch.context() as patch:
        sizes = counted(patch)
        assert predict(finished, line, out, skip, "--share") == 0
    assert sizes == [3]
    assert predict(finished, line, tmp_path / "alone", skip) == 0
    assert content(out) == content(tmp_path / "alone")
    assert len(list(out.glob("overlays/*.png"))) == 11


def test_a_bad_sample_is_what_it_is_alone(capsys, finished, line, tmp_path, monkeypatch):
    (line / "xyz/005.tiff").write_bytes(b"II")
    out = tmp_path / "out"
    alone = fails(capsys, "predict", finished, line, "--out", tmp_path / "alone")
    assert fails(capsys, "predict", finished, line, "--out", out, "--share") == alone
    assert "005.tiff" in alone
    assert not out.exists()
    again = fails(capsys, "predict", finished, line, "--out", out, "--share", "data.on_bad_sample=skip")
    assert "another command has begun to fill it: data.on_bad_sample is 'error' there, but 'skip' now" in again
    shutil.copy(line / "xyz/004.tiff", line / "xyz/005.tiff")
    sizes = counted(monkeypatch)
    code, printed, err = run(capsys, "-q", "predict", finished, line, "--out", out, "--share", "--json")
    assert (code, err, sizes) == (0, "", [4, 4])
    assert '"samples": 12' in printed


def test_skipped_samples_leave_their_batches_smaller(capsys, finished, line, tmp_path, monkeypatch):
    for place in (1, 4, 5, 6, 7):
        (line / f"xyz/{place:03d}.tiff").write_bytes(b"II")
    sizes, skip = counted(monkeypatch), "data.on_bad_sample=skip"
    _, _, warned = run(capsys, "-q", "predict", finished, line, "--out", tmp_path / "alone", skip)
    assert "skipped 5 of 12 samples" in warned
    assert run(capsys, "-q", "predict", finished, line, "--out", tmp_path / "out", skip, "--share")[2] == warned
    assert sizes == [3, 0, 4, 3, 0, 4]
    assert content(tmp_path / "out") == content(tmp_path / "alone")
    for scan in line.glob("xyz/*.tiff"):
        scan.write_bytes(b"II")
    none = fails(capsys, "predict", finished, line, "--out", tmp_path / "none", skip, "--share")
    assert "none of the 12 samples can be read" in none


def test_a_killed_process_changes_nothing(finished, line, tmp_path, monkeypatch):
    script, hangs, out = tmp_path / "rank.py", tmp_path / "hangs", tmp_path / "out"
    script.write_text(RANK_THAT_HANGS)
    environment = {**os.environ, "HANGS": str(hangs), "OMP_NUM_THREADS": "1", "CRDKIT_CACHE": ""}
    command = [sys.executable, str(script), "-q", "predict", str(finished), str(line), "--out", str(out), "--share"]
    rank = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + LONG_S
    while not hangs.exists() and rank.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert hangs.exists(), rank.communicate()

    def kill(_seconds):  # nothing is left but what the other one has begun
        assert sorted(path.name for path in out.parent.glob(".out.shares/done/??????")) == ["000001", "000002"]
        rank.kill()
        rank.communicate()

    with monkeypatch.context() as patch:
        patch.setattr(shares_module.time, "sleep", kill)
        assert predict(finished, line, out, "--share") == 0
    assert rank.returncode == -signal.SIGKILL
    assert predict(finished, line, tmp_path / "alone") == 0
    assert content(out) == content(tmp_path / "alone")


def test_ranks_share_without_being_asked(capsys, finished, line, tmp_path, monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "out"
    assert "processes that share samples write one folder: give --out" in fails(capsys, "predict", finished, line)
    assert run(capsys, "predict", finished, line, "--out", out) == (0, "", "")
    assert how_to_go_on(["evaluate", "runs/a", "--out", "found"]) == "; go on with the same command"
    published = ("evaluate", "quick", "--published", line, "--out", tmp_path / "new")
    assert "are for finished runs" in fails(capsys, *published)
    monkeypatch.setenv("RANK", "0")
    assert "12 samples" in run(capsys, "-q", "predict", finished, line, "--out", out)[1]


# evaluations


def evaluated(folder):
    """Return the scores and the numbers of an evaluation."""
    metrics = read_metrics(folder)
    assert set(metrics.pop("seconds")) == {"load", "teacher", "train", "evaluate", "total"}
    return (folder / "scores.csv").read_bytes(), metrics


def without_seconds(printed):
    return [line for line in printed.splitlines() if "; load " not in line and not line.startswith("report: ")]


@pytest.mark.usefixtures("without_reports")
def test_an_evaluation_is_that_of_one_process(capsys, finished, tmp_path, monkeypatch):
    command = ("-q", "evaluate", finished, "--intervals", "--out")
    code, printed, _ = run(capsys, *command, tmp_path / "alone")
    assert code == 0
    out = tmp_path / "out"
    score, scored = sharing_of_runs._Evaluation.score, []

    def stopped(self, share):
        if scored:
            raise KeyboardInterrupt
        scored.append(share)
        score(self, share)

    with monkeypatch.context() as patch:
        patch.setattr(sharing_of_runs._Evaluation, "score", stopped)
        assert run(capsys, *command, out, "--share")[2] == "interrupted; go on with the same command\n"
    with monkeypatch.context() as patch:
        patch.setattr("crdkit.runs._pipeline.finish", stop)  # before metrics.json
        assert run(capsys, *command, out, "--share")[0] == 130
    assert not out.exists()
    assert scored == [0]
    code, shown, err = run(capsys, *command, out, "--share")
    assert (code, err) == (0, "")
    assert without_seconds(shown) == without_seconds(printed)
    assert evaluated(out) == evaluated(tmp_path / "alone")
    monkeypatch.setenv("RANK", "1")
    for name in ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "2")
    assert run(capsys, *command, out) == (0, "", "")


@pytest.mark.usefixtures("without_reports")
def test_an_evaluation_without_some_sensors_and_samples(tolerant, tmp_path):
    root = Path(shutil.copytree(tolerant / "data", tmp_path / "data"))
    images = sorted(root.glob("biscuit/test/*/rgb/*.png"))
    for image in images[-4:]:  # the last share, and one more
        image.write_bytes(b"")
    options = [str(tolerant / "detector"), f"data.root={root}", "data.on_bad_sample=skip"]
    with pytest.warns(BadSampleWarning, match="skipped 4 of"):
        assert evaluate_run(*options, out=tmp_path / "alone")["counts"]["skipped"] == 4
    with pytest.warns(BadSampleWarning, match="skipped 4 of"):
        share_evaluation(*options, out=tmp_path / "out")
    assert evaluated(tmp_path / "out") == evaluated(tmp_path / "alone")
