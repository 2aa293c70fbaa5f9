"""Memory stays flat; the long forms are in docs/reliability.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from crdkit._core.progress import set_quiet

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("what", "count", "warm_up"), [("predictions", 80, 20), ("trainings", 4, 2), ("watch", 40, 30), ("folder", 200, 0)]
)
def test_memory_is_flat(what, count, warm_up):
    command = [sys.executable, "-m", "tests.reliability.endurance", what, "--count", str(count)]
    done = subprocess.run([*command, "--warm-up", str(warm_up)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{count} {what}: flat" in done.stdout


def test_the_measure_sees_a_leak():
    from tests.reliability.endurance import drift

    set_quiet(True)
    kept = []
    leaking, _ = drift(lambda _: kept.append(bytearray(b"x") * 2**24), count=8, warm_up=1)
    kept.clear()
    steady, _ = drift(lambda _: bytearray(b"x") * 2**24, count=8, warm_up=1)
    assert leaking > 0.02 > abs(steady)
