"""Fuzzing of every reader in a process of its own, so that a crash or a hang is reported and not suffered.

The long form, 20,000 cases, about 10 minutes on one core:

    python -m tests.reliability.fuzzing --cases 20000

A case is determined by its reader and number; one is repeated, and its file kept, by

    python -m tests.reliability.fuzzing --only tiff --first 1234 --cases 1 --keep OUT

Memory: before each case the kernel's mark of the process's peak is reset (``/proc/self/clear_refs``), so that the peak
afterwards (``VmHWM``), less what was resident before, is what this case took, whoever allocated it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import selectors
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_SECONDS = 5.0  # of processor time; a busy machine may take longer
MAX_WALL_SECONDS = 120.0
SPARE_BYTES = 64 * 2**20
LONGEST_MESSAGE = 2000


@dataclass
class Report:
    """What came of all cases."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """Cases by reader and outcome, ``"png: refused"``."""
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    most_bytes: int = 0
    """Above twice the decoded arrays, at most."""

    @property
    def cases(self) -> int:
        return sum(self.outcomes.values())


def run(
    cases: int, *, first: int = 0, only: str | None = None, keep: Path | None = None, use_faulty: bool = False
) -> Report:
    """Run ``cases`` cases of all readers, or of ``only`` one, and report every outcome that is not allowed."""
    report = Report()
    place = first
    while place < first + cases:
        begun = place
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "-m", "tests.reliability.fuzzing", "--worker", scratch, "--first", str(place)]
            command += ["--cases", str(first + cases - place)]
            command += ["--only", only] if only else []
            command += ["--keep", str(keep)] if keep else []
            command += ["--faulty"] if use_faulty else []
            with Path(scratch, "stderr").open("wb") as errors:
                worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
                for found in _follow(worker):
                    place = found["case"] + 1
                    _add(report, found)
            if place == begun:  # it failed before its first case, and would again
                report.failures.append(Path(scratch, "stderr").read_text(errors="replace")[-3000:])
                break
    return report


def _add(report: Report, found: dict[str, Any]) -> None:
    name, case, wrong = found["reader"], found["case"], found.get("wrong")
    report.outcomes[f"{name}: {'wrong' if wrong else found['outcome']}"] += 1
    report.slowest = max(report.slowest, found.get("seconds", 0.0))
    report.most_bytes = max(report.most_bytes, found.get("excess", 0))
    if wrong:
        report.failures.append(f"{name} {case} ({found.get('mutation')}): {wrong}")


def _follow(worker: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """Yield what the worker finishes; one that stays silent for too long is ended and reported."""
    assert worker.stdout is not None
    os.set_blocking(worker.stdout.fileno(), False)
    begun: dict[str, Any] | None = None
    text, spent, since = b"", _cpu_seconds(worker.pid), time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(worker.stdout, selectors.EVENT_READ)
        while True:
            selector.select(timeout=0.5)
            part = worker.stdout.read()
            if part == b"":
                break
            *lines, text = (text + (part or b"")).split(b"\n")
            for line in lines:
                message = json.loads(line)
                begun = message if "outcome" not in message else None
                if begun is None:
                    yield message
            if lines:
                spent, since = _cpu_seconds(worker.pid), time.monotonic()
            busy = _cpu_seconds(worker.pid) - spent > MAX_SECONDS
            if begun and (busy or time.monotonic() - since > MAX_WALL_SECONDS):
                worker.kill()
                worker.wait()
                yield {**begun, "outcome": "hang", "wrong": f"it takes more than {MAX_SECONDS:g} s"}
                return
    worker.wait()
    if begun:
        yield {**begun, "outcome": "crash", "wrong": f"the process ended with {worker.returncode}"}


def _cpu_seconds(pid: int) -> float:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _work(scratch: Path, *, first: int, cases: int, only: str | None, keep: Path | None, use_faulty: bool) -> None:
    import torch

    from tests.reliability import faulty
    from tests.reliability.readers import all_readers

    torch.set_num_threads(1)
    logging.getLogger("crdkit").addHandler(logging.NullHandler())  # our own messages may be printed
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    readers = faulty.readers() if use_faulty else all_readers(scratch)
    names = [name for name, reader in readers.items() for _ in range(reader.share)]
    folder = scratch / "damaged"
    folder.mkdir()
    for case in range(first, first + cases):
        name = only or names[case % len(names)]
        reader = readers[name]
        rng = random.Random(zlib.crc32(f"{name} {case}".encode()))
        seed = rng.randrange(len(reader.seeds))
        mutation = rng.choice(reader.mutations)
        content = mutation(rng, reader.seeds[seed], rng.choice(reader.seeds))
        if reader.file == "override.txt" and b"=" in content and rng.random() < 0.1:
            content += content
        path = folder / reader.file
        begun = {"reader": name, "case": case, "mutation": mutation.__name__}
        answers.write(json.dumps(begun) + "\n")
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        if keep:
            keep.mkdir(exist_ok=True)
            (keep / f"{name}-{case}-{reader.file}").write_bytes(content)
        exact = mutation in reader.exact
        answers.write(json.dumps({**begun, **_attempt(reader, path, seed, exact=exact)}) + "\n")


def _attempt(reader: Any, path: Path, seed: int, *, exact: bool) -> dict[str, Any]:
    from crdkit.errors import CrdkitError
    from tests.reliability.readers import nbytes, same

    if exact and seed not in reader.originals:
        _read_whole(reader, path, seed)
    result, wrong, outcome, decoded = None, None, "read", 0
    printed = os.fstat(2).st_size
    before, start = _reset_peak(), time.process_time()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            result = reader.read(path)
        except CrdkitError as error:
            outcome, wrong = "refused", _wrong_message(str(error), path, reader)
        except BaseException as error:
            wrong = f"{type(error).__name__}: {error!s:.300}"
    seconds, peak = time.process_time() - start, _status("VmHWM") - before
    if outcome == "read" and wrong is None:
        decoded = nbytes(result)
        if exact and result is not None and not same(result, reader.originals[seed]):
            wrong = "it reads another content, and the format has checksums"
        if result is not None:
            wrong = wrong or reader.check(result)
    wrong = wrong or _unwanted_warning(warned, reader)
    sys.stderr.flush()
    if os.fstat(2).st_size > printed and not wrong:  # libraries and their C code print beside our own message
        wrong = f"it prints {Path('/proc/self/fd/2').read_bytes()[printed:][:300]!r}"
    if seconds > MAX_SECONDS:
        wrong = f"it takes {seconds:.1f} s"
    excess = peak - 2 * decoded
    if excess > SPARE_BYTES:
        wrong = f"it takes {peak / 2**20:.0f} MiB for {decoded / 2**20:.0f} MiB of arrays"
    return {"outcome": outcome, "wrong": wrong, "seconds": seconds, "excess": excess}


def _unwanted_warning(warned: list[warnings.WarningMessage], reader: Any) -> str | None:
    for warning in warned:
        if not issubclass(warning.category, reader.allowed_warnings or ()):
            return f"{warning.category.__name__}: {warning.message!s:.300}"
    return None


def _read_whole(reader: Any, path: Path, seed: int) -> None:
    """Keep what the valid file holds; it has the same name, in the same place."""
    damaged = path.rename(path.with_name(f"damaged-{path.name}"))
    path.write_bytes(reader.seeds[seed])
    reader.originals[seed] = reader.read(path)
    path.unlink()
    damaged.rename(path)


def _wrong_message(message: str, path: Path, reader: Any) -> str | None:
    named = path.name in message or (reader.also_named and reader.also_named in message)
    if reader.names and not named:
        return f"the message does not name the file: {message:.300}"
    if "\n" in message.strip() or len(message) > LONGEST_MESSAGE:
        return f"the message is not one line of text: {message!r:.300}"
    return None


def _reset_peak() -> int:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(key: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return 0


def main() -> int:
    """Run as a command; exits with 1 if any outcome is not allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", help="name of a reader")
    parser.add_argument("--keep", type=Path, help="folder that keeps the damaged files")
    parser.add_argument("--faulty", action="store_true", help="run readers that do all that is not allowed")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _work(
            options.worker,
            first=options.first,
            cases=options.cases,
            only=options.only,
            keep=options.keep,
            use_faulty=options.faulty,
        )
        return 0
    start = time.monotonic()
    report = run(options.cases, first=options.first, only=options.only, keep=options.keep, use_faulty=options.faulty)
    for outcome, count in sorted(report.outcomes.items()):
        print(f"{outcome:30} {count:6}")
    print(*report.failures[:200], sep="\n")
    print(
        f"{report.cases} cases, {len(report.failures)} not allowed; slowest {report.slowest:.2f} s; at most "
        f"{report.most_bytes / 2**20:.0f} MiB above twice the arrays; {time.monotonic() - start:.0f} s"
    )
    return bool(report.failures)


if __name__ == "__main__":
    sys.exit(main())
