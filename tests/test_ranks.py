"""Ranks that share a sweep: claims end with their process, and a killed rank costs its unfinished runs only."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import TINY

from crdkit._core.distributed import Ranks, claim
from crdkit.data.synthetic import write_mvtec3d
from crdkit.errors import CrdkitError

CATEGORIES = ("biscuit", "gear", "biscuit_b", "gear_b")
LONG_S = 600  # what only a hang takes, on a busy machine too
WITHOUT_REPORTS = """
import crdkit.runs.directory
from crdkit.cli import entry_point

# the figures take most of the time of a tiny run
crdkit.runs.directory.write_report = lambda *_args, **_options: None
entry_point()
"""
LINUX = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds ranks in /proc")


def test_alone_without_a_launcher(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert Ranks.from_environment() == Ranks(rank=0, world_size=1, local_rank=0)
    called = []
    Ranks().agree(lambda: called.append(1))
    assert called == [1]
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert Ranks.from_environment() == Ranks(rank=3, world_size=4, local_rank=1)
    assert not Ranks.from_environment().is_main
    monkeypatch.setenv("RANK", "x")
    with pytest.raises(CrdkitError, match="must be numbers, as torchrun sets"):
        Ranks.from_environment()


def test_a_claim_ends_with_its_process(tmp_path):
    lock = tmp_path / "run.lock"
    code = (
        "import sys, time; from pathlib import Path; from crdkit._core.distributed import claim\n"
        "with claim(Path(sys.argv[1])) as ours: print(ours, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "True\n"
        with claim(lock) as ours:
            assert not ours
    finally:
        process.kill()
        process.communicate()
    with claim(lock) as ours:
        assert ours


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects") / "data"
    counts = {"train": 4, "validation": 2, "test_good": 1, "test_per_defect": 1}
    write_mvtec3d(folder, categories=CATEGORIES[:2], size=64, **counts)
    for name in CATEGORIES[:2]:
        shutil.copytree(folder / name, folder / f"{name}_b")
    return folder


def command(objects, out, categories=CATEGORIES):
    # written where it is used: as a module beside the tests, doctest would import it and take every report away
    script = objects.parent / "without_reports.py"
    script.write_text(WITHOUT_REPORTS, encoding="utf-8")
    options = [*TINY, "training.epochs=1", f"data.root={objects}"]
    chosen = ["--categories", *categories, "--seeds", "0", "1"]
    return [str(script), "sweep", "quick", *options, *chosen, "--out", str(out)]


def wait_for(condition, process, seconds=LONG_S):
    deadline = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def finished(out):
    return sorted(path.parent for path in out.glob("*/seed*/metrics.json"))


def files(folders):
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def worker(parent, rank):
    """Return the process id of a rank that torchrun, whose id is ``parent``, has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"\nPPid:\t{parent}\n" in (folder / "status").read_text()
            if ours and f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(f"torchrun has no rank {rank}")


@LINUX
@pytest.mark.slow
def test_a_killed_rank_costs_its_unfinished_runs_only(objects, tmp_path):
    out = tmp_path / "out"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen([*torchrun, *command(objects, out)], env=environment, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(finished(out)) >= 3, first)
    os.kill(worker(first.pid, 1), signal.SIGKILL)
    _, err = first.communicate(timeout=LONG_S)
    assert first.returncode != 0, err
    before = finished(out)
    assert 3 <= len(before) < 8
    kept = files(before)

    again = [*torchrun, *command(objects, out), "--resume"]
    second = subprocess.run(again, env=environment, capture_output=True, text=True, timeout=LONG_S, check=False)
    assert second.returncode == 0, second.stderr
    assert len(finished(out)) == 8
    assert files(before) == kept
    for folder in before:
        assert f"{folder.parent.name} seed {folder.name.removeprefix('seed')}:" not in second.stderr
    assert (out / "results.md").read_text().count("| 2 |") == len(CATEGORIES)
    assert "AU-PRO@30%" in second.stdout


@pytest.mark.slow
def test_the_first_rank_takes_over_from_a_killed_one(objects, tmp_path):
    out = tmp_path / "out"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, *command(objects, out, CATEGORIES[:2])],
            env={**os.environ, **launcher, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    wait_for(lambda: len(list(out.glob("*/seed*/config.yaml"))) >= 2, ranks[0])  # both are at a run
    ranks[1].kill()
    ranks[1].communicate()
    _, err = ranks[0].communicate(timeout=LONG_S)
    assert ranks[0].returncode == 0, err
    assert len(finished(out)) == 4
    assert (out / "results.json").is_file()
