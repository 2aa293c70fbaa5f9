"""Memory over time, in one process: predictions, trainings, a watch, and a folder that streams through a detector.

    python -m tests.reliability.endurance predictions --count 2000
    python -m tests.reliability.endurance trainings --count 30
    python -m tests.reliability.endurance watch --count 2000
    python -m tests.reliability.endurance folder --count 10000

Memory is what is resident (``/proc/self/statm``) after a garbage collection and after the C library gave pages back
(``malloc_trim``), 40 times in all. The first steps warm up: caches fill, libraries load. The drift compares the
medians of the first and last quarter of the rest. A folder is measured by the peak while it streams (``VmHWM``).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MAX_DRIFT = 0.02
FOLDER_SPARE = 32 * 2**20
"""What a folder may take more than one of a tenth of its samples: their names, and what lies in buffers."""
TINY = (
    *("data.category=gear", "data.image_size=32", "training.device=cpu", "training.epochs=1", "student.depths=1"),
    *("student.embedding_blocks=1", "graph.filter.size=2", "training.batch_size=4"),
    "modalities.rgb.encoder={name: timm, model: test_resnet, pretrained: false}",
    "modalities.depth.encoder={name: timm, model: test_resnet, pretrained: false}",
)


def resident() -> int:
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def drift(step: Callable[[int], Any], *, count: int, warm_up: int) -> tuple[float, list[int]]:
    """Run ``step`` ``count`` times after ``warm_up``; return the drift and 40 measurements."""
    for index in range(warm_up):
        step(index)
    memory = []
    for index in range(count):
        step(warm_up + index)
        if index % max(count // 40, 1) == 0 or index == count - 1:
            memory.append(resident())
    quarter = max(len(memory) // 4, 1)
    before, after = statistics.median(memory[:quarter]), statistics.median(memory[-quarter:])
    return after / before - 1, memory


def tiny_run(root: Path, *overrides: str) -> Any:
    import crdkit

    return crdkit.RunConfig.preset("quick").with_overrides(f"data.root={root}", *TINY, *overrides)


def scans(folder: Path) -> Path:
    from crdkit.data.synthetic import write_mvtec3d

    return write_mvtec3d(folder, categories=["gear"], train=4, validation=2, test_good=2, test_per_defect=1, size=32)


def predictions(folder: Path, *, count: int, warm_up: int) -> tuple[float, list[int]]:
    import crdkit
    from crdkit.testing import example_sensors

    detector = crdkit.fit(tiny_run(scans(folder / "scans")))
    sizes = [(48, 64), (32, 32), (64, 40)]
    samples = [example_sensors(detector.sensors, size=size) for size in sizes]

    def step(index: int) -> None:
        detector.predict(samples[index % len(samples)])
        if index % 10 == 0:
            detector.predict_batch(samples)

    return drift(step, count=count, warm_up=warm_up)


def trainings(folder: Path, *, count: int, warm_up: int) -> tuple[float, list[int]]:
    import crdkit

    root = scans(folder / "scans")

    def step(index: int) -> None:
        crdkit.fit(tiny_run(root), folder / f"run{index}")
        shutil.rmtree(folder / f"run{index}")

    return drift(step, count=count, warm_up=warm_up)


def watching(folder: Path, *, count: int, warm_up: int) -> tuple[float, list[int]]:
    """Let samples arrive one after the other, each as soon as the one before is decided and moved."""
    import crdkit
    from crdkit.watch import Pace, watch

    detector = crdkit.fit(tiny_run(scans(folder / "scans"), "modalities.depth=null"))
    line, rng, memory, dropped = folder / "line", np.random.default_rng(0), list[int](), [0]
    (line / "rgb").mkdir(parents=True)

    def drop(event: dict[str, Any]) -> None:
        if event["event"] not in ("started", "decided") or dropped[0] == warm_up + count:
            return
        name = line / "rgb" / f"{dropped[0]:06d}.png"
        Image.fromarray(rng.integers(100, 156, (16, 16, 3)).astype(np.uint8)).save(name)
        dropped[0] += 1
        if dropped[0] > warm_up and (dropped[0] - warm_up) % max(count // 40, 1) == 0:
            memory.append(resident())

    pace = Pace(settle=0, every=0, wait=0)
    found = watch(
        detector, line, folder / "out", pace=pace, move=folder / "done", on_event=drop,
        stop=lambda: dropped[0] == warm_up + count,
    )  # fmt: skip
    assert found.decided >= warm_up + count - 1
    quarter = max(len(memory) // 4, 1)
    before, after = statistics.median(memory[:quarter]), statistics.median(memory[-quarter:])
    return after / before - 1, memory


def stream(folder: Path, *, count: int) -> tuple[int, int]:
    """Return the peaks above what was resident while a tenth of ``count`` samples, then all, were predicted."""
    import crdkit
    from crdkit.detector.files import open_folder, write_predictions

    detector = crdkit.fit(tiny_run(scans(folder / "scans"), "modalities.depth=null"))
    rng = np.random.default_rng(0)
    peaks = []
    for place, samples in enumerate((max(count // 10, 1), max(count // 10, 1), count)):  # the first warms up
        data = folder / f"samples{place}" / "rgb"
        data.mkdir(parents=True)
        for index in range(samples):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)).save(data / f"{index:06d}.png")
        before = resident()
        Path("/proc/self/clear_refs").write_text("5")
        written = write_predictions(detector, open_folder(detector, data.parent), folder / f"out{place}")
        assert (written.samples, len(list((folder / f"out{place}" / "overlays").rglob("*.png")))) == (samples, samples)
        status = Path("/proc/self/status").read_text()
        peaks.append(int(status.partition("VmHWM:")[2].split()[0]) * 1024 - before)
    return peaks[1], peaks[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a command; exits with 1 if memory is not flat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("predictions", "trainings", "watch", "folder"))
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--warm-up", type=int, help="steps before the first measurement; a tenth if not given")
    options = parser.parse_args(arguments)
    from crdkit._core.progress import set_quiet

    set_quiet(True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        if options.what == "folder":
            few, many = stream(Path(scratch), count=options.count)
            wrong = many - few > FOLDER_SPARE
            print(
                f"peak {few / 2**20:.1f} MiB for {options.count // 10} samples, {many / 2**20:.1f} MiB for all, ",
                end="",
            )
        else:
            warm_up = options.warm_up if options.warm_up is not None else max(options.count // 10, 3)
            measure = {"predictions": predictions, "trainings": trainings, "watch": watching}[options.what]
            found, memory = measure(Path(scratch), count=options.count, warm_up=warm_up)
            wrong = found >= MAX_DRIFT
            shown = ", ".join(f"{memory[i] / 2**20:.1f}" for i in np.linspace(0, len(memory) - 1, 8).astype(int))
            print(f"drift {100 * found:+.2f} % after {warm_up} to warm up; MiB: {shown}; ", end="")
    print(f"{options.count} {options.what}: {'not flat' if wrong else 'flat'}; {time.monotonic() - start:.0f} s")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
