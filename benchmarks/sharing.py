"""Whether processes that share a folder write the files of one alone, with one of them killed too, and what it costs.

    python -m benchmarks.sharing [--samples 400] [--size 96] [--preset tiny|quick] [--only NAME ...] [--new-process]

Writes synthetic scans (RGB and XYZ), trains a detector on a few of them, and scores the folder with one process, with
two and with four that share it, with four of which one is killed with SIGKILL once a quarter is done, and with four
under torchrun of which one is killed, so that the same command is given again. All files are compared with those of
one process alone. `evaluate` is shared in the same ways. Each process has one thread. It is forked from this one, where
everything is imported, or with ``--new-process`` a new interpreter, as a user starts it; torchrun needs that.

Processor seconds count all processes; other programs change them less than the time that passes.
Prints a table and writes benchmarks/results/sharing.json; 1 if a file is different.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "CRDKIT_CACHE": ""}  # no thread may be running when this process forks

import torch

import crdkit
import crdkit.cli
import crdkit.detector.sharing
import crdkit.runs.sharing
from benchmarks.machine import environment
from crdkit._core.progress import set_quiet
from crdkit.config import RunConfig
from crdkit.data.synthetic import write_mvtec3d

RESULT = Path(__file__).parent / "results" / "sharing.json"
DEFECTS = 6
WARM = ("PIL.Image", "tifffile", "timm", "scipy.ndimage", "safetensors.torch", "filelock", "matplotlib.figure")
WARM += ("crdkit.cli.sharing", "crdkit.cli.predict", "crdkit.cli.runs", "crdkit.cli.output")
"""What commands import when they need it."""
TINY = (
    "modalities.rgb.encoder={name: timm, model: test_resnet, pretrained: false}",
    "modalities.depth.encoder={name: timm, model: test_resnet, pretrained: false}",
    "graph.filter.size=2",
    "student.embedding_blocks=1",
)
PRESETS = {"tiny": TINY, "quick": ()}
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4")


@dataclass
class Seen:
    """One way to run a command."""

    name: str
    seconds: float
    cpu_seconds: float
    samples: int
    same: bool
    """Whether all files are those of one process alone."""


class Forked:
    """A process like those of subprocess."""

    def __init__(self, work: Callable[[], int]) -> None:
        def run() -> None:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the process ends
            torch.set_num_threads(1)
            sys.exit(work())

        self._process = multiprocessing.get_context("fork").Process(target=run)
        self._process.start()

    def send_signal(self, number: int) -> None:
        os.kill(self._process.pid or 0, number)

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode


class Bench:
    def __init__(self, folder: Path, *, samples: int, size: int, preset: str, new_process: bool) -> None:
        self.folder, self.samples, self.new_process = folder, samples, new_process
        self.data, self.run = folder / "scans", folder / "run"
        good = samples // 2
        counts = {"train": 8, "validation": 4, "test_good": good, "test_per_defect": (samples - good) // DEFECTS + 1}
        write_mvtec3d(self.data, categories=["biscuit"], size=size, **counts)
        self.line = folder / "line"  # exactly as many, without labels
        images = sorted((self.data / "biscuit/test").glob("*/rgb/*.png"))[:samples]
        for sensor in ("rgb", "xyz"):
            (self.line / sensor).mkdir(parents=True)
        for place, image in enumerate(images):
            os.link(image, self.line / f"rgb/{place:05d}.png")
            os.link(image.parents[1] / f"xyz/{image.stem}.tiff", self.line / f"xyz/{place:05d}.tiff")
        options = [f"data.root={self.data}", "data.category=biscuit", f"data.image_size={size}", "training.epochs=1"]
        config = RunConfig.preset("quick").with_overrides(*options, "training.device=cpu", *PRESETS[preset])
        require(Forked(lambda: crdkit.fit(config, self.run) is None).wait() == 0, "training failed")

    def command(self, kind: str, out: Path) -> list[str]:
        if kind == "evaluate":
            return ["-m", "crdkit", "-q", "evaluate", str(self.run), "--out", str(out)]
        return ["-m", "crdkit", "-q", "predict", str(self.run), str(self.line), "--out", str(out)]

    def start(self, arguments: Sequence[str]) -> subprocess.Popen[bytes] | Forked:
        if self.new_process:
            return subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
        return Forked(lambda: crdkit.cli.main([*arguments[2:]]))

    def alone(self, kind: str, out: Path) -> None:
        require(self.start(self.command(kind, out)).wait() == 0, "one process alone failed")

    def shared(self, kind: str, out: Path, *, processes: int, kill: bool = False) -> None:
        running = [self.start([*self.command(kind, out), "--share"]) for _ in range(processes)]
        if kill:
            self.wait_for_a_quarter(out, kind)
            running[-1].send_signal(signal.SIGKILL)
        codes = [process.wait() for process in running]
        require(codes == [0] * (processes - kill) + [-signal.SIGKILL] * kill, f"exit codes {codes}")

    def torchrun(self, kind: str, out: Path) -> None:
        launcher = self.start([*TORCHRUN, *self.command(kind, out)])
        self.wait_for_a_quarter(out, kind)
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text(encoding="utf-8").split()
        os.kill(int(children[-1]), signal.SIGKILL)
        require(launcher.wait() != 0, "torchrun did not notice")
        require(not out.exists(), "the folder was there too early")
        require(self.start([*TORCHRUN, *self.command(kind, out)]).wait() == 0, "the second torchrun failed")

    def wait_for_a_quarter(self, out: Path, kind: str) -> None:
        size = 4  # the batch of `quick`
        samples = self.samples if kind == "predict" else len(list(self.data.glob("*/test/*/rgb/*.png")))
        wanted = -(-samples // 4) // (size * max(1, -(-samples // 64 // size)))
        while len(list((out.parent / f".{out.name}.shares/done").glob("??????"))) < max(1, wanted):
            require(not out.exists(), "it ended before a process could be killed")
            time.sleep(0.02)

    def measure(self, kind: str, only: Sequence[str]) -> list[Seen]:
        ways = {
            "1 process": lambda out: self.alone(kind, out),
            "1 that could share": lambda out: self.shared(kind, out, processes=1),
            "2 that share": lambda out: self.shared(kind, out, processes=2),
            "4 that share": lambda out: self.shared(kind, out, processes=4),
            "4, one killed": lambda out: self.shared(kind, out, processes=4, kill=True),
            "torchrun, one of 4 killed, again": lambda out: self.torchrun(kind, out),
        }
        found: list[Seen] = []
        expected: dict[str, str] = {}
        for place, (name, way) in enumerate(ways.items()):
            if (place and only and name not in only) or ("torchrun" in name and not self.new_process):
                continue
            out = self.folder / f"{kind}-{place}"
            start, before = time.perf_counter(), _cpu()
            way(out)
            seconds, cpu = time.perf_counter() - start, _cpu() - before
            files = content(out)
            expected = expected or files
            found.append(Seen(f"{kind}: {name}", seconds, cpu, self.samples, files == expected))
            print(found[-1], flush=True)
        start, before = time.perf_counter(), _cpu()
        self.shared(kind, out, processes=1)
        found.append(Seen(f"{kind}: nothing left to do", time.perf_counter() - start, _cpu() - before, 0, True))
        return found


def content(folder: Path) -> dict[str, str]:
    """Return a hash of each file; of metrics.json without what differs from run to run alone, and no page of it."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "report.html":
            data = path.read_bytes()
            if path.name == "metrics.json":
                data = json.dumps({key: value for key, value in json.loads(data).items() if key != "seconds"}).encode()
            found[path.relative_to(folder).as_posix()] = hashlib.sha256(data).hexdigest()
    return found


def require(holds: bool, what: str) -> None:
    if not holds:
        raise SystemExit(what)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(found: Sequence[Seen]) -> str:
    lines = ["| | seconds | processor seconds | samples/s | files |", "|---|--:|--:|--:|---|"]
    for seen in found:
        files = "the same" if seen.same else "DIFFERENT"
        rate = f"{seen.samples / seen.seconds:.1f}" if seen.samples else "-"
        lines.append(f"| {seen.name} | {seen.seconds:.1f} | {seen.cpu_seconds:.1f} | {rate} | {files} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--size", type=int, default=96, help="of scans and views")
    parser.add_argument("--preset", choices=PRESETS, default="tiny")
    parser.add_argument("--commands", nargs="+", default=["predict", "evaluate"])
    parser.add_argument("--only", nargs="+", default=[], help="ways, besides one process alone")
    parser.add_argument("--new-process", action="store_true", help="a new interpreter for every process; torchrun too")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    set_quiet(True)
    for name in WARM:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        kind = {"preset": options.preset, "new_process": options.new_process}
        bench = Bench(Path(folder), samples=options.samples, size=options.size, **kind)
        found = [seen for kind in options.commands for seen in bench.measure(kind, options.only)]
    print(table(found))
    before = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    entry = {"environment": environment(), "samples": options.samples, "size": options.size}
    name = f"{options.preset} {options.size}{' new processes' if options.new_process else ''}"
    before[name] = entry | {"ways": [asdict(seen) for seen in found]}
    options.out.write_text(json.dumps(before, indent=2) + "\n", encoding="utf-8")
    return 0 if all(seen.same for seen in found) else 1


if __name__ == "__main__":
    sys.exit(main())
