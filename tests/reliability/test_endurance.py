"""Memory stays flat; the long forms are in docs/reliability.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from crdkit._core.progress import set_quiet

ROOT = Path(__file__).resolve().parents[2]


COUNTS = {"predictions": (80, 20), "watch": (40, 30), "folder": (200, 0), "trainings": (4, 2)}
"""Of steps, and of those to warm up."""
SCRIPT = """
import sys
from tests.reliability.endurance import main

sys.exit(max([main(form.split()) for form in sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def measured():
    """One process for all forms: to start and fill it takes as long as a form."""
    forms = [f"{what} --count {count} --warm-up {warm_up}" for what, (count, warm_up) in COUNTS.items()]
    command = [sys.executable, "-c", SCRIPT, *forms]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("what", COUNTS)
def test_memory_is_flat(measured, what):
    assert f"{COUNTS[what][0]} {what}: flat" in measured.stdout, measured.stdout + measured.stderr
    assert measured.returncode == 0


def test_the_measure_sees_a_leak():
    from tests.reliability.endurance import drift

    set_quiet(True)
    kept = []
    leaking, _ = drift(lambda _: kept.append(bytearray(b"x") * 2**24), count=8, warm_up=1)
    kept.clear()
    steady, _ = drift(lambda _: bytearray(b"x") * 2**24, count=8, warm_up=1)
    assert leaking > 0.02 > abs(steady)
