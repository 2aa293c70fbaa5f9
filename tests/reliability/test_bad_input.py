"""Damaged files and texts, by the thousand: a right result or one clear error, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CASES = 2_100


def fuzz(*arguments):
    command = [sys.executable, "-m", "tests.reliability.fuzzing", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_damaged_files_end_in_a_right_result_or_one_error_that_names_the_file():
    done = fuzz("--cases", CASES)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert f"{CASES} cases, 0 not allowed" in done.stdout
    counts = {name: int(count) for name, count in re.findall(r"^(\S+: \w+) +(\d+)$", done.stdout, re.MULTILINE)}
    assert sum(counts.values()) == CASES
    assert len({name.partition(":")[0] for name in counts}) >= 20  # every reader
    # damage that is always refused, or never, would be none: both outcomes are seen
    assert sum(count for name, count in counts.items() if name.endswith("refused")) > CASES // 3
    assert sum(count for name, count in counts.items() if name.endswith("read")) > CASES // 20


SEEN = {
    "hang": "it takes more than 5 s",
    "crash": "the process ended with -11",
    "error": "KeyError: 'raw'",
    "memory": "MiB for 0 MiB of arrays",
    "warning": "UserWarning: odd",
    "content": "it reads another content",
    "nameless": "the message does not name the file",
    "print": "it prints b'beside",
}


def test_the_fuzzer_sees_what_is_not_allowed_and_goes_on():
    done = fuzz("--faulty", "--cases", len(SEEN))
    assert done.returncode == 1, done.stdout + done.stderr
    for reader, message in SEEN.items():
        assert re.search(rf"^{reader} \d+ \(append\): .*{message}", done.stdout, re.MULTILINE), (reader, done.stdout)
