"""Decoded splits kept on disk for the next run: one safetensors file each, named by what it was made from."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch

from crdkit._core.files import PARTIAL, read_tensors, write_tensors
from crdkit.data import HOW_READ, Dataset, SampleRecord
from crdkit.data.cache import cache_folder
from crdkit.errors import CacheWarning, CrdkitError
from crdkit.views import View

FORMAT_VERSION = 1

_UNHASHED_OPTIONS = {"on_bad_sample", *HOW_READ}  # options that do not change decoded values
_LIBRARIES = ("numpy", "pillow", "scikit-learn", "scipy", "tifffile", "torch")  # libraries whose versions may
_HASHED_ROOMS = ("data", "views")  # rooms whose code decides what a view is,
_EXCLUDED_FILES = {"cache.py", "check.py", "discover.py"}  # except these files
_ABANDONED_SECONDS = 86400.0


Tensors = dict[str, torch.Tensor]


class CacheEntry:
    """The place of one split in the cache, whether or not its file exists.

    Args:
        path: the file.
        limit_gib: what all files in its folder may take; above that the least recently used are removed.
    """

    def __init__(self, path: Path, *, limit_gib: float) -> None:
        self.path = path
        self._limit = limit_gib * 2**30

    def read(self) -> tuple[Tensors, dict[int, str]] | None:
        """Return what `write` was given, mapped from the file, or None if it does not exist or is damaged.

        Warns:
            CacheWarning: it is damaged.
        """
        try:
            tensors, header = read_tensors(self.path)
            _require_checksums(tensors, header["checksums"])
            skipped = {int(index): why for index, why in header["skipped"].items()}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            _warn(f"{self.path}: the cached split is damaged ({error}); its files are decoded again")
            return None
        _touch(self.path)
        return tensors, skipped

    def write(self, tensors: Tensors, skipped: Mapping[int, str]) -> None:
        """Keep a split's tensors, and why records were left out, for the next run; atomic, also among several writers.

        Warns:
            CacheWarning: it cannot be written, or is larger than the cache may become.
        """
        size = sum(tensor.nbytes for tensor in tensors.values())
        if size > self._limit:
            _warn(
                f"{self.path.parent}: data.cache_gib (={self._limit / 2**30:g}) is too small for {size / 2**30:.2g} GiB"
            )
            return
        checksums = {name: _checksum(tensor) for name, tensor in tensors.items()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._make_room(size)
            write_tensors(self.path, tensors, header={"checksums": checksums, "skipped": skipped})
        except (OSError, CrdkitError) as error:  # a full disk, for one
            _warn(f"{self.path.parent}: data.cache cannot be written: {error}; the run goes on without it")

    def _make_room(self, size: int) -> None:
        """Remove what killed processes left behind, then the least recently used files, until ``size`` bytes fit."""
        now = time.time()
        for partial in self.path.parent.glob(f".*.safetensors.*{PARTIAL}"):
            if now - _status(partial)[1] / 1e9 > _ABANDONED_SECONDS:
                partial.unlink(missing_ok=True)
        others = {path: _status(path) for path in self.path.parent.glob("*.safetensors") if path != self.path}
        total = size + sum(bytes_ for bytes_, *_ in others.values())
        for path, (bytes_, *_) in sorted(others.items(), key=lambda item: item[1][1]):
            if total <= self._limit:
                break
            path.unlink(missing_ok=True)  # a process that has it mapped keeps it until it ends
            total -= bytes_


def find_entry(dataset: Dataset, records: Sequence[SampleRecord], *, views: Mapping[str, View]) -> CacheEntry | None:
    """Return the place of a split in the cache; None if there is no cache.

    The name of the file is a hash of all that determines its content: the options of the dataset and of each view, the
    records, size and times of every file that is read, the code of the rooms `data` and `views` and of parts from
    plug-ins, and versions.

    Warns:
        CacheWarning: the code of a part is not in a file, so that a change of it would go unnoticed.
    """
    folder = cache_folder(dataset.config)
    if folder is None or not records:
        return None
    try:
        sources = _source_hashes([type(part) for part in (dataset, *views.values())])
    except OSError as error:
        _warn(f"data.cache is not used: {error}")
        return None
    content = {
        "format": FORMAT_VERSION,
        "versions": {name: metadata.version(name) for name in _LIBRARIES},
        "sources": sources,
        "dataset": dataset.config.model_dump(mode="json", exclude=_UNHASHED_OPTIONS),
        "views": {name: view.config.model_dump(mode="json") for name, view in views.items()},
        "records": [asdict(record) for record in records],
        "files": {str(path): _status(path) for record in records for path in dataset.files(record)},
        "options": {str(path): _status(path) for path in _option_files([dataset, *views.values()])},
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    path = folder / f"{records[0].split}-{digest[:32]}.safetensors"
    return CacheEntry(path, limit_gib=dataset.config.cache_gib)


def _status(path: Path) -> tuple[int, int, int]:
    """Return size and times of the last change of content and of metadata, ns; zeros for a missing file."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _option_files(parts: Iterable[Dataset | View]) -> list[Path]:
    values = [value for part in parts for _, value in part.config]
    return [value for value in values if isinstance(value, Path) and value.is_file()]


def _source_hashes(classes: Iterable[type]) -> dict[str, str]:
    """Return a hash of crdkit's code that views depend on, and of the module of each class of another package.

    Raises:
        OSError: such a module has no file, like code typed into a notebook.
    """
    modules = {sys.modules[base.__module__] for cls in classes for base in cls.__mro__}
    ours = __name__.partition(".")[0]
    foreign = [m for m in modules if m.__name__.partition(".")[0] not in (ours, "abc", "builtins", "typing")]
    for module in foreign:
        if getattr(module, "__file__", None) is None:
            raise FileNotFoundError(f"the code of module {module.__name__!r} is not in a file")
    files = {_file(other) for module in foreign for other in _with_own_imports(module)}
    return {ours: _hash_of_rooms(), **{str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}}


def _with_own_imports(module: ModuleType) -> set[ModuleType]:
    """Return ``module`` and what it imports, directly or through another, from its own folder or below."""
    folder, found, waiting = _file(module).parent, {module}, [module]
    while waiting:
        for value in list(vars(waiting.pop()).values()):
            owner = value.__module__ if isinstance(value, (type, FunctionType)) else None
            other = value if isinstance(value, ModuleType) else sys.modules.get(owner or "")
            if other is None or other in found or getattr(other, "__file__", None) is None:
                continue
            if _file(other).is_relative_to(folder):
                found.add(other)
                waiting.append(other)
    return found


def _file(module: ModuleType) -> Path:
    return Path(str(module.__file__)).absolute()


@cache
def _hash_of_rooms(package: Path = Path(__file__).parents[1]) -> str:
    digest = hashlib.sha256()
    files = (
        file for room in _HASHED_ROOMS for file in (package / room).glob("*.py") if file.name not in _EXCLUDED_FILES
    )
    for file in sorted(files):
        digest.update(f"{file.relative_to(package)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _checksum(tensor: torch.Tensor) -> int:
    return zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data)


def _require_checksums(tensors: Mapping[str, torch.Tensor], expected: Mapping[str, Any]) -> None:
    for name, tensor in tensors.items():
        if _checksum(tensor) != expected[name]:
            raise ValueError(f"checksum of {name} differs")


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except OSError:  # a cache that this user may only read
        return


def _warn(message: str) -> None:
    warnings.warn(message, CacheWarning, stacklevel=4)
