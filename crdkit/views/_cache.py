"""Decoded splits kept on disk for the next run: one safetensors file each, named by what it was made from."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from crdkit._core.files import PARTIAL, read_tensors, write_tensors
from crdkit._core.sources import state
from crdkit.data import HOW_READ, SPLITS, Dataset, SampleRecord
from crdkit.data.cache import cache_folder
from crdkit.errors import CacheWarning, CrdkitError
from crdkit.views import View
from crdkit.views._sources import Sources, code_of
from crdkit.views.summary import SampleSummary, from_json, to_json

FORMAT_VERSION = 1

_UNHASHED_OPTIONS = {"on_bad_sample", *HOW_READ}  # options that do not change decoded values
_LIBRARIES = ("numpy", "pillow", "scikit-learn", "scipy", "tifffile", "torch")  # libraries whose versions may
_ABANDONED_SECONDS = 86400.0
_IS_OURS = re.compile(rf"({'|'.join(SPLITS)})-[0-9a-f]{{32}}\.safetensors")  # others' files in the folder stay


Tensors = dict[str, torch.Tensor]
CachedSplit = tuple[Tensors, dict[int, str], list[SampleSummary]]
"""Tensors of a split, why records were left out by their index, and what the other samples hold."""


class CacheEntry:
    """The place of one split in the cache, whether or not its file exists.

    Args:
        path: the file.
        limit_gib: what all files in its folder may take; above that the least recently used are removed.
        sources: the code that makes the split.
    """

    def __init__(self, path: Path, *, limit_gib: float, sources: Sources) -> None:
        self.path = path
        self._sources = sources
        self._limit = limit_gib * 2**30

    def read(self) -> CachedSplit | None:
        """Return what `write` was given, mapped from the file, or None if it does not exist or is damaged.

        Warns:
            CacheWarning: it is damaged.
        """
        try:
            tensors, header = read_tensors(self.path)
            _require_checksums(tensors, header["checksums"])
            skipped = {int(index): why for index, why in header["skipped"].items()}
            summaries = [from_json(values) for values in header["summaries"]]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            _warn(f"{self.path}: the cached split is damaged ({error}); its files are decoded again")
            return None
        _touch(self.path)
        return tensors, skipped, summaries

    def write(self, tensors: Tensors, skipped: Mapping[int, str], summaries: Sequence[SampleSummary]) -> None:
        """Keep a split's tensors, why records were left out, and what samples hold, for the next run; atomic.

        Warns:
            CacheWarning: it cannot be written, or is larger than the cache may become, or code has changed meanwhile.
        """
        changed = self._sources.changed
        if changed is not None:  # which of its versions made these tensors?
            _warn(f"data.cache is not written: {changed} has changed while the files were decoded")
            return
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
            plain = [to_json(summary) for summary in summaries]
            write_tensors(self.path, tensors, header={"checksums": checksums, "skipped": skipped, "summaries": plain})
        except (OSError, CrdkitError) as error:  # a full disk, for one
            _warn(f"{self.path.parent}: data.cache cannot be written: {error}; the run goes on without it")

    def _make_room(self, size: int) -> None:
        """Remove what killed processes left behind, then the least recently used files, until ``size`` bytes fit."""
        now = time.time()
        for partial in self.path.parent.glob(f".*.safetensors.*{PARTIAL}"):
            if (
                partial.name.startswith(tuple(f".{split}-" for split in SPLITS))
                and now - state(partial)[1] / 1e9 > _ABANDONED_SECONDS
            ):
                partial.unlink(missing_ok=True)
        ours = (path for path in self.path.parent.glob("*.safetensors") if _IS_OURS.fullmatch(path.name))
        others = {path: state(path) for path in ours if path != self.path}
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
    plug-ins with all that they import, and versions.

    Warns:
        CacheWarning: the code of a part is not in a file, so that a change of it would go unnoticed, or the file has
            changed since it was loaded.
    """
    folder = cache_folder(dataset.config)
    if folder is None or not records:
        return None
    try:
        sources = code_of([type(part) for part in (dataset, *views.values())])
    except OSError as error:
        _warn(f"data.cache is not used: {error}")
        return None
    content = {
        "format": FORMAT_VERSION,
        "versions": {name: metadata.version(name) for name in _LIBRARIES},
        "sources": sources.hashes,
        "dataset": dataset.config.model_dump(mode="json", exclude=_UNHASHED_OPTIONS),
        "views": {name: view.config.model_dump(mode="json") for name, view in views.items()},
        "records": [asdict(record) for record in records],
        "files": {str(path): state(path) for record in records for path in dataset.files(record)},
        "options": {str(path): state(path) for path in _option_files([dataset, *views.values()])},
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    path = folder / f"{records[0].split}-{digest[:32]}.safetensors"
    return CacheEntry(path, limit_gib=dataset.config.cache_gib, sources=sources)


def _option_files(parts: Iterable[Dataset | View]) -> list[Path]:
    values = [value for part in parts for _, value in part.config]
    return [value for value in values if isinstance(value, Path) and value.is_file()]


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
