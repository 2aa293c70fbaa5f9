"""Programs in a Python that lacks some packages, as on a machine where they are not installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_START = """
import importlib.abc, runpy, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Missing())
sys.argv = {argv!r}
sys.path.insert(0, {folder!r})
runpy.run_path({program!r}, run_name="__main__")
"""


def run_without(
    blocked: Sequence[str], program: Path, *arguments: object, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a Python program in which nothing can import the ``blocked`` packages."""
    argv = [str(program), *map(str, arguments)]
    start = _START.format(blocked=tuple(blocked), argv=argv, folder=str(program.parent), program=str(program))
    command = [sys.executable, "-W", "error", "-c", start]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd, timeout=120)
