"""A watch as a real process, killed in the middle of its work: each good sample is decided exactly once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

COMMAND = (sys.executable, "-m", "crdkit", "watch")


@pytest.fixture(scope="session")
def parts(scans):
    """Return the RGB and XYZ files of every good scan of the tiny data set."""
    found = sorted((scans / "biscuit").glob("*/good/rgb/*.png"))
    return [(path, path.parents[1] / "xyz" / f"{path.stem}.tiff") for path in found]


def drop(line: Path, name: str, part: tuple[Path, Path], *, only: str | None = None) -> None:
    for source, sensor in zip(part, ("rgb", "xyz"), strict=True):
        if only in (None, sensor):
            (line / sensor).mkdir(exist_ok=True)
            shutil.copy(source, line / sensor / f"{name}{source.suffix}")


def events(out: Path) -> list[dict]:
    """Return the whole lines of the journal; the last may be one that is just written."""
    file = out / "journal.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}\n")]


def decided(out: Path) -> Counter:
    return Counter(event["sample"] for event in events(out) if event["event"] == "decided")


@contextmanager
def watching(run: Path, line: Path, out: Path, *options: str):
    command = [*COMMAND, run, line, "--out", out, "--settle", "0.2", "--wait", "2", "--every", "0.05", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*map(str, command)], env=environment, **pipes) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def until(condition, *, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


def line_of(parts, run: Path, tmp_path: Path, *options: str, samples: int, kills: int) -> tuple[Path, Path]:
    """Drop samples into a folder that is watched, kill the process now and then, and return the folders at the end.

    Every seventh sample is written in two halves; "corrupt" never becomes a picture, and "late" lacks a sensor at
    first.
    """
    line, out = tmp_path / "line", tmp_path / "out"
    line.mkdir()
    names = [f"{number:04d}" for number in range(samples)]
    drop(line, "corrupt", parts[0], only="xyz")
    (line / "rgb").mkdir()
    (line / "rgb/corrupt.png").write_bytes(b"this is no picture")
    drop(line, "late", parts[0], only="rgb")
    share = samples // (kills + 1)
    for turn in range(kills + 1):
        with watching(run, line, out, *options) as process:
            ours = names[turn * share : None if turn == kills else (turn + 1) * share]
            for place, name in enumerate(ours):
                part = parts[place % len(parts)]
                drop(line, name, part, only="rgb" if place % 7 == 0 else None)
                if place % 7 == 0:
                    whole = part[1].read_bytes()
                    (line / "xyz" / f"{name}.tiff").write_bytes(whole[: len(whole) // 2])
                    time.sleep(0.01)
                    (line / "xyz" / f"{name}.tiff").write_bytes(whole)
                if turn < kills and place == len(ours) // 2:
                    before = len(decided(out))
                    until(lambda before=before: len(decided(out)) > before)
            if turn < kills:
                process.kill()  # SIGKILL, whatever it is doing
                continue
            until(lambda: any(event["event"] == "incomplete" for event in events(out)))
            drop(line, "late", parts[0], only="xyz")
            until(lambda: len(decided(out)) >= samples + 1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 128 + signal.SIGTERM
    return line, out


def check(out: Path, *, samples: int, kills: int) -> None:
    kinds = Counter(event["event"] for event in events(out))
    wanted = {f"{number:04d}" for number in range(samples)} | {"late"}
    assert decided(out) == dict.fromkeys(wanted, 1)
    assert [event["sample"] for event in events(out) if event["event"] == "incomplete"].count("late") == 1
    assert [event["sample"] for event in events(out) if event["event"] == "unreadable"].count("corrupt") == 1
    assert kinds["started"] == kills + 1
    assert kinds["stopped"] == 1
    assert not list(out.glob(".*.partial")) or kills


def test_each_good_sample_is_decided_once_although_the_process_is_killed_twice(parts, finished, tmp_path):
    done = tmp_path / "done"
    line, out = line_of(parts, finished, tmp_path, "--move", str(done), samples=21, kills=2)
    check(out, samples=21, kills=2)
    assert sorted(path.name for path in line.rglob("*.*")) == ["corrupt.png", "corrupt.tiff"]
    assert len([path for path in done.rglob("*.*") if path.is_file()]) == 2 * 22


@pytest.mark.slow
def test_two_hundred_samples_and_two_kills(parts, finished, tmp_path):
    _, out = line_of(parts, finished, tmp_path, samples=200, kills=2)
    check(out, samples=200, kills=2)


def test_ctrl_c_ends_a_watch_in_order(parts, finished, tmp_path):
    line, out = tmp_path / "line", tmp_path / "out"
    line.mkdir()
    drop(line, "a", parts[0])
    with watching(finished, line, out, "--jsonl") as process:
        until(lambda: decided(out))
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert [json.loads(line) for line in printed.splitlines()] == events(out)
    assert errors.splitlines()[-1] == "interrupted"
    assert events(out)[-1]["event"] == "stopped"
    assert "watching has ended" in (out / "watch.html").read_text()
    assert not (out / ".lock").exists()
