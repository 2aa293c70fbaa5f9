"""Readers that do what none may do, to see that the fuzzer notices."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from crdkit.errors import DataError
from tests.reliability.mutations import append
from tests.reliability.readers import Reader


def hang(_: Path) -> Any:
    for _ in itertools.count():
        pass


def crash(_: Path) -> Any:
    os.kill(os.getpid(), signal.SIGSEGV)


def error(_: Path) -> Any:
    raise KeyError("raw")


def memory(_: Path) -> Any:
    np.ones(2**24)


def warning(_: Path) -> Any:
    warnings.warn("odd", UserWarning, stacklevel=2)


def content(path: Path) -> Any:
    return np.frombuffer(path.read_bytes(), np.uint8)


def nameless(_: Path) -> Any:
    raise DataError("a file is damaged")


def prints(_: Path) -> Any:
    sys.stderr.write("beside our own message")


def readers() -> dict[str, Reader]:
    faults = {"hang": hang, "crash": crash, "error": error, "memory": memory, "warning": warning, "content": content}
    return {
        name: Reader(file="a.bin", seeds=[b"seed"], mutations=[append], exact=[append] * (name == "content"), read=read)
        for name, read in {**faults, "nameless": nameless, "print": prints}.items()
    }
