"""The files below a folder: images by their path, and why each other one is left out; nothing is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from crdkit.data._names import is_litter
from crdkit.data._own_data.manifest import MANIFESTS
from crdkit.data.images import SUFFIXES
from crdkit.errors import DataError

MAX_FILES = 500_000
LITTER = "is hidden, or left behind by a system"
LINK = "is a symbolic link, which may lead out of the folder; copy the file"


@dataclass(kw_only=True)
class Listing:
    """What a folder holds; paths are relative to it, with forward slashes."""

    images: list[str] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)
    """Why a file is left out, by its path."""


def list_files(folder: Path) -> Listing:
    """List the files below a folder; links below it are not followed.

    Raises:
        DataError: there is no such folder, it cannot be opened, or it holds more files than is sensible.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder}: {what}; give the folder that holds the files")
    listing = Listing()
    for number, (path, reason) in enumerate(_walk(str(folder), "", listing), start=1):
        if number > MAX_FILES:
            raise DataError(f"{folder}: holds more than {MAX_FILES} files; give the folder of one kind of part")
        if reason:
            listing.unused[path] = reason
        else:
            listing.images.append(path)
    return listing


def _walk(folder: str, part: str, listing: Listing) -> Iterator[tuple[str, str]]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        if not part:
            raise DataError(f"{folder}: the folder cannot be opened: {error.strerror}") from error
        yield part, f"the folder cannot be opened: {error.strerror}"
        return
    for entry in entries:
        path = f"{part}/{entry.name}" if part else entry.name
        if entry.is_symlink():
            yield path, LINK
        elif is_litter(entry.name):
            yield path, LITTER
        elif entry.is_dir():
            yield from _walk(entry.path, path, listing)
        elif part or entry.name not in MANIFESTS:
            yield path, _why_not(path) or ("" if entry.stat().st_size else "is empty (0 bytes); copy it again")


def _why_not(path: str) -> str:
    """Return why a file cannot be used, judged by its name; "" if it can."""
    if os.path.splitext(path)[1].lower() not in SUFFIXES:
        return f"ends in none of {', '.join(SUFFIXES)}"
    if not path.isprintable() or "\\" in path or path != path.strip():
        return "its name cannot stand in a manifest; rename it"
    return ""
