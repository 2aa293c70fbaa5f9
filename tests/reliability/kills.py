"""Kills commands at random moments, and checks that nothing is torn or lost and that doing them again gives the same.

The long form, 50 moments of each of five commands; the same command goes on where it stopped:

    python -m tests.reliability.kills --times 50 --out kills.jsonl

A command is run in a process that is forked from this one, where everything is imported, or with ``--new-process`` in a
new interpreter, as a user starts it. It is killed with SIGKILL at a moment drawn uniformly from the time that it took
when nothing disturbed it. ``train`` and ``sweep`` write a checkpoint after every epoch, and a report without figures;
``report`` is an evaluation into a folder, whose time is nearly all that of its report, and ``share`` a prediction
that goes on where it stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # no thread may be running when this process forks

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("train", "sweep", "predict", "report", "share")
WHOLE = ("predict", "share")
"""Kinds whose folder is there once it is complete."""
EPOCHS = 4
TINY = (
    "data.image_size=32",
    "modalities.rgb.encoder={name: timm, model: test_resnet, pretrained: false}",
    "modalities.depth.encoder={name: timm, model: test_resnet, pretrained: false}",
    "graph.filter.size=2",
    "student.depths=1",
    "student.embedding_blocks=1",
    f"training.epochs={EPOCHS}",
    "training.batch_size=3",
    "training.device=cpu",
)
SAME = ("detector/model.safetensors", "scores.csv")


def prepare(plain: bool) -> None:
    """Write checkpoints after every epoch; with ``plain``, leave figures out of reports."""
    from crdkit._core.files import new_folder, write_text
    from crdkit.runs import directory
    from crdkit.training import _checkpoint

    _checkpoint.EVERY_SECONDS = _checkpoint.MIN_TRAINING_PER_WRITING = 0

    def write_report(_data: object, path: Path, *, figures: Path) -> None:
        with new_folder(figures) as folder:
            (folder / "none.txt").write_text("no figures\n")
        write_text(path, "<html></html>\n")

    if plain:
        directory.write_report = write_report


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or minus the signal; what it printed; the seconds it took."""

    code: int
    printed: str
    seconds: float


@dataclass(frozen=True)
class Case:
    """A command, what is written by it, and the commands that are tried again after a kill."""

    kind: str
    arguments: tuple[str, ...]
    again: tuple[str, ...]
    out: Path

    @property
    def plain(self) -> bool:
        return self.kind in ("train", "sweep")


def run(arguments: tuple[str, ...], *, plain: bool, log: Path, kill_after: float | None, new_process: bool) -> Ended:
    """Run a crdkit command, and kill it after so many seconds if it has not ended by then."""
    start = time.monotonic()
    pid = _spawn(arguments, plain, log) if new_process else _fork(arguments, plain, log)
    status = None
    while status is None:
        found, value = os.waitpid(pid, os.WNOHANG)
        if found:
            status = value
        elif kill_after is not None and time.monotonic() - start >= kill_after:
            os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
        else:
            time.sleep(0.002)
    code = os.waitstatus_to_exitcode(status)
    return Ended(code, log.read_text(errors="replace") if log.exists() else "", time.monotonic() - start)


def _fork(arguments: tuple[str, ...], plain: bool, log: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        prepare(plain)
        from crdkit.cli import main

        code = main(list(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _spawn(arguments: tuple[str, ...], plain: bool, log: Path) -> int:
    code = f"from tests.reliability import kills; kills.prepare({plain}); import crdkit.cli; crdkit.cli.entry_point()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdout=file, stderr=file, cwd=ROOT, env=environment
        ).pid


class Bench:
    """Data, a finished run, and what each command writes when nothing disturbs it."""

    def __init__(self, folder: Path, *, new_process: bool) -> None:
        self.folder, self.new_process = folder, new_process
        self.log = folder / "log.txt"
        self.data = folder / "scans"
        self._undisturbed: dict[str, tuple[float, dict[str, str]]] = {}

    def build(self) -> None:
        from crdkit.data.synthetic import write_mvtec3d

        counts = {"train": 6, "validation": 2, "test_good": 2, "test_per_defect": 1}
        write_mvtec3d(self.data, categories=["biscuit", "gear"], size=32, **counts)
        done = self._run(self.case("train", self.folder / "finished"))
        assert done.code == 0, done.printed

    def case(self, kind: str, out: Path) -> Case:
        finished = str(self.folder / "finished")
        options = ("quick", f"data.root={self.data}", *TINY, "--out", str(out))
        arguments = {
            "train": ("train", *options, "data.category=biscuit"),
            "sweep": ("sweep", *options, "--categories", "biscuit", "gear"),
            "predict": ("predict", finished, str(self.data / "biscuit"), "--out", str(out)),
            "share": ("predict", finished, str(self.data / "biscuit"), "--out", str(out), "--share"),
            "report": ("evaluate", finished, "--out", str(out)),
        }[kind]
        again = (*arguments, "--resume") if kind in ("train", "sweep") else arguments
        return Case(kind, arguments, again, out)

    def undisturbed(self, kind: str) -> tuple[float, dict[str, str]]:
        """Return how long a command takes, and a hash of each of its files; an earlier command has warmed it up."""
        if kind not in self._undisturbed:
            case = self.case(kind, self.folder / f"undisturbed-{kind}")
            done = self._run(case)
            assert done.code == 0, done.printed
            self._undisturbed[kind] = done.seconds, content(case.out)
        return self._undisturbed[kind]

    def trial(self, kind: str, moment: float) -> str:
        """Kill a command at that share of its time, check what is left, do it again and check the result.

        Returns:
            Where it was killed.

        Raises:
            AssertionError: something is torn, lost or different.
        """
        seconds, expected = self.undisturbed(kind)
        place = self.folder / "trial"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        case = self.case(kind, place / "out")
        ended = self._run(case, kill_after=moment * seconds)
        assert ended.code in (0, -signal.SIGKILL), ended.printed
        where = "had ended" if ended.code == 0 else stage(case.out)
        if kind in WHOLE:  # all or nothing
            kept = []
            same(content(case.out), expected, list(expected) if case.out.exists() else [])
        else:
            kept = [check_run(folder, expected, case.out) for folder in runs_in(case.out)]
        if ended.code == 0 and kind not in ("train", "sweep"):
            return where
        again = self._run(case, again=True)
        assert again.code == 0, again.printed
        for epochs in kept:
            assert not epochs or f"resuming after epoch {epochs}" in again.printed or epochs < 0, again.printed
        same(content(case.out), expected, [name for name in expected if name.endswith(SAME) or kind in WHOLE])
        for folder in runs_in(case.out) if kind not in WHOLE else []:
            assert check_run(folder, expected, case.out) == -1, "it is still unfinished"
        assert not list(case.out.rglob(".*.partial")), "partial files are left"
        assert not list(case.out.rglob(".lock")), "a lock is left"
        return where

    def _run(self, case: Case, *, kill_after: float | None = None, again: bool = False) -> Ended:
        arguments = case.again if again else case.arguments
        return run(arguments, plain=case.plain, log=self.log, kill_after=kill_after, new_process=self.new_process)


def content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def same(found: dict[str, str], expected: dict[str, str], names: list[str]) -> None:
    differ = [name for name in names if found.get(name) != expected[name]]
    assert not differ, f"missing or different: {differ}"


def runs_in(out: Path) -> list[Path]:
    return sorted({path.parent for name in ("config.yaml", "scores.csv", "metrics.json") for path in out.rglob(name)})


def stage(out: Path) -> str:
    """Return the newest thing that a command had written when it was killed."""
    order = (
        "metrics.json",
        "report.html",
        "figures",
        "scores.csv",
        "detector",
        "checkpoints",
        "data.json",
        "config.yaml",
    )
    return next((f"after {name}" for name in order if any(out.rglob(name))), "before anything was written")


def check_run(folder: Path, expected: dict[str, str], out: Path) -> int:
    """Check every file in a run directory under its final name.

    Returns:
        The epochs that its newest checkpoint holds; 0 without one, and -1 for a finished run.
    """
    import yaml
    from PIL import Image

    from crdkit.training._checkpoint import _read

    found = content(folder)
    prefix = "" if folder == out else f"{folder.relative_to(out).as_posix()}/"
    same(found, {name: expected.get(prefix + name, "") for name in found}, [name for name in SAME if name in found])
    for name in found:
        path = folder / name
        if any(part.endswith(".partial") for part in path.parts):
            continue
        if path.suffix == ".yaml":
            assert isinstance(yaml.safe_load(path.read_text()), dict), path
        elif path.suffix == ".json":
            assert isinstance(json.loads(path.read_text()), dict), path
        elif path.suffix == ".jsonl":
            assert all(isinstance(json.loads(line), dict) for line in path.read_text().splitlines()), path
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>"), path
        elif path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
    if (folder / "detector").exists():
        assert {"config.json", "model.safetensors"} <= {path.name for path in (folder / "detector").iterdir()}
    if "metrics.json" in found:
        assert "scores.csv" in found
        assert "report.html" in found
        return -1
    checkpoints = sorted((folder / "checkpoints").glob("epoch-*.safetensors"))
    return len(_read(checkpoints[-1])[0]) if checkpoints else 0


def moments(kinds: Sequence[str], times: int) -> Iterator[tuple[str, int, float]]:
    """Yield kind, number and moment of each trial; a kind's are the same for every call."""
    draws = {kind: random.Random(f"kills {kind}") for kind in kinds}
    for number in range(times):
        for kind, draw in draws.items():
            yield kind, number, draw.random()


def warm_up(bench: Bench, kinds: Sequence[str]) -> None:
    """Let this process import, by using it, all that the commands need: forked ones then spend their time on work.

    Nothing is differentiated here: torch refuses that in a process whose parent has done it.
    """
    import torch

    torch.set_num_threads(1)
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.zeros(2)
    torch.optim.Adam([weight], fused=True).step()
    from crdkit.cli import main

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for kind in [kind for kind in ("predict", "share", "report") if kind in kinds]:
            assert main(list(bench.case(kind, bench.folder / f"warm-{kind}").arguments)) == 0
    assert threading.active_count() == 1, threading.enumerate()


def main(arguments: list[str] | None = None, *, say: Callable[[str], None] = print) -> int:
    """Run the trials that ``--out`` does not hold yet, and print how many of each ended how; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50, help="of each command")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out", type=Path, help="JSON lines: what was seen; trials that it holds are not repeated")
    parser.add_argument("--new-process", action="store_true", help="a new interpreter for every command")
    options = parser.parse_args(arguments)
    seen: list[dict[str, object]] = []
    if options.out is not None and options.out.exists():
        seen = [json.loads(line) for line in options.out.read_text().splitlines()]
    done = {(entry["kind"], entry["number"]) for entry in seen}
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), new_process=options.new_process)
        bench.build()
        if not options.new_process:
            warm_up(bench, options.only)
        for kind, number, moment in moments(options.only, options.times):
            if (kind, number) in done:
                continue
            entry: dict[str, object] = {"kind": kind, "number": number, "moment": round(moment, 4)}
            try:
                entry["where"], entry["error"] = bench.trial(kind, moment), None
            except AssertionError as error:
                entry["where"], entry["error"] = "", str(error)[-2000:]
            seen.append(entry)
            if options.out is not None:
                with options.out.open("a") as file:
                    file.write(json.dumps(entry) + "\n")
    seen = [entry for entry in seen if entry["kind"] in options.only]
    for (kind, where), count in sorted(Counter((str(e["kind"]), str(e["where"])) for e in seen).items()):
        say(f"{kind}: killed {count} times {where}")
    failed = [entry for entry in seen if entry["error"]]
    for entry in failed:
        say(f"{entry['kind']} {entry['number']} at {entry['moment']}: {entry['error']}")
    say(f"{len(seen)} kills, {len(failed)} with something torn, lost or different")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
