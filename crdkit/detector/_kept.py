"""Networks that were exported to compile a detector, kept on disk for the next process."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

import crdkit
from crdkit._core.files import new_folder
from crdkit.data import DatasetConfig
from crdkit.data.cache import VARIABLE, cache_folder
from crdkit.errors import CrdkitError

T = TypeVar("T")

NETWORK = "network.onnx"
_LIBRARIES = ("onnx", "onnxruntime", "onnxscript", "timm", "torch")  # whose versions change what is exported
_FOLDER = "compiled"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class KeptNetworks:
    """A folder of exported networks, each in a folder of its own that is named after what it was made from.

    Nothing here fails: what cannot be read or kept is exported again.
    """

    folder: Path
    limit: float
    """Bytes that all of them may take; beyond that the least recently used are removed."""

    @classmethod
    def of(cls, data: DatasetConfig) -> KeptNetworks | None:
        """Return those in ``data.cache`` or CRDKIT_CACHE, else in the user's cache folder; an empty variable: None."""
        found = cache_folder(data)
        if found is None and os.environ.get(VARIABLE) == "":
            return None
        try:
            folder = found or _of_user() / "crdkit"
        except RuntimeError:  # nobody's home
            return None
        return cls(folder=folder / _FOLDER, limit=data.cache_gib * 2**30)

    def read(self, key: str, use: Callable[[Path], T | None]) -> T | None:
        """Return what ``use`` makes of the kept network; None, and it is removed, if that is None or fails."""
        place = self.folder / key
        if not (place / NETWORK).is_file():
            return None
        with suppress(OSError):
            os.utime(place)
        try:
            found = use(place / NETWORK)
        except Exception as error:  # whatever ONNX Runtime raises for a damaged file
            _logger.debug("%s: %s", place, error)
            found = None
        if found is None:
            _logger.info("%s: the kept network is damaged or no longer right; it is exported again", place)
            shutil.rmtree(place, ignore_errors=True)
        return found

    def write(self, key: str, files: Iterable[Path]) -> None:
        """Keep the files of an exported network, if they fit."""
        listed = list(files)
        try:
            size = sum(file.stat().st_size for file in listed)
            if size > self.limit:
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(size)
            with new_folder(self.folder / key) as place:
                for file in listed:
                    shutil.copyfile(file, place / file.name)
        except (OSError, CrdkitError) as error:  # a full disk, a folder that may only be read, another process
            _logger.debug("%s: not kept: %s", self.folder / key, error)

    def _make_room(self, size: int) -> None:
        """Remove the least recently used networks until ``size`` bytes fit."""
        kept = {}
        for place in self.folder.iterdir():
            with suppress(OSError):  # another process removes some as well
                kept[place] = place.stat().st_mtime, sum(file.stat().st_size for file in place.iterdir())
        total = size + sum(bytes_ for _, bytes_ in kept.values())
        for place, (_, bytes_) in sorted(kept.items(), key=lambda item: item[1][0]):
            if total <= self.limit:
                break
            shutil.rmtree(place, ignore_errors=True)
            total -= bytes_


def key_of(network: nn.Module, example: Sequence[torch.Tensor]) -> str:
    """Return a hash of a network's structure and weights, of the shapes that it is given, and of versions.

    Examples:
        >>> key_of(nn.ReLU(), [torch.zeros(2, 3)]) == key_of(nn.ReLU(), [torch.ones(2, 3)])
        True
        >>> key_of(nn.ReLU(), [torch.zeros(2, 3)]) == key_of(nn.ELU(), [torch.zeros(2, 3)])
        False
    """
    versions = {name: _version(name) for name in _LIBRARIES} | {"crdkit": crdkit.__version__}
    shapes = [(str(tensor.dtype), tuple(tensor.shape)) for tensor in example]
    found = hashlib.sha256(f"{type(network).__qualname__} {network!r} {shapes} {sorted(versions.items())}".encode())
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:32]


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""


def _of_user() -> Path:
    """Return the folder for caches of who runs this."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
