"""Files that arrive one by one: which sample and which sensor each is of, told by its name, before all are there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from crdkit.data._names import MASK, is_litter
from crdkit.data._own_data.manifest import MANIFESTS, find_manifest, read_manifest
from crdkit.data._own_data.naming import naming_of, sample_of
from crdkit.data.images import SUFFIXES
from crdkit.data.parts import FilePart
from crdkit.errors import DataError

_NOT_NEW = ("train", "validation")  # splits of a data set, whose samples are not those to look at
_GROUND_TRUTH = (MASK, "gt")
_JOINTS = "_-."  # between the name of a sample and that of a sensor


class ArrivedFile(NamedTuple):
    """A file as it is now.

    Examples:
        >>> ArrivedFile("rgb/000.png", 1024, 0)._replace(size=2048).size
        2048
    """

    path: str
    """Relative to the folder, with forward slashes."""
    size: int
    """Bytes."""
    modified: int
    """Nanoseconds since 1970."""


class Arrived(NamedTuple):
    """What is in a folder now.

    Examples:
        >>> Arrived(samples={"000": {"rgb": ArrivedFile("rgb/000.png", 1024, 0)}}, others={}).samples["000"]["rgb"].size
        1024
    """

    samples: dict[str, dict[str, ArrivedFile]]
    """By sample and sensor."""
    others: dict[str, str]
    """Why a file belongs to no sample, by its path."""


class ArrivingFiles:
    """Looks which files of which samples are in a folder; nothing is read.

    A file ``<sensor>/<name>.<ending>`` or ``<name>_<sensor>.<ending>`` (also ``-`` or ``.``), at any depth, belongs to
    the sample ``<name>``; or the patterns of a manifest.yaml in the folder say so; or a manifest.csv there, by how the
    files are called that it lists. Hidden files, the splits ``train`` and ``validation``, also those of the table, and
    folders of masks are passed over.

    Args:
        folder: where files arrive.
        sensors: names of those that count.
        manifest: a manifest that counts if the folder holds none.
        follow_links: whether symbolic links are followed.

    Raises:
        DataError: the folder does not exist, or its manifest cannot be used.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     folder = Path(scratch)
        ...     (folder / "xyz").mkdir()
        ...     for name in ("xyz/000.tiff", "000_rgb.png", "notes.txt"):
        ...         _ = (folder / name).write_bytes(b"any")
        ...     found = ArrivingFiles(folder, ["rgb", "xyz"]).look()
        >>> sorted(found.samples["000"]), found.others
        (['rgb', 'xyz'], {'notes.txt': 'ends in none of .png, .jpg, .jpeg, .bmp, .tiff, .tif, .npy'})
    """

    def __init__(
        self, folder: Path, sensors: Sequence[str], *, manifest: Path | None = None, follow_links: bool = False
    ) -> None:
        self.folder = folder.expanduser().resolve()
        if not self.folder.is_dir():
            what = "is not a folder" if self.folder.exists() else "does not exist"
            raise DataError(f"{folder}: {what}; give the folder in which samples arrive")
        self._sensors = sorted(sensors, key=len, reverse=True)  # "left_depth" before "depth"
        self._follow_links = follow_links
        self.parts: dict[str, FilePart] = {}
        """What sensors take of files that hold several."""
        self._trained_on: frozenset[str] = frozenset()
        self._patterns = self._read_patterns(find_manifest(self.folder) or manifest)

    def _read_patterns(self, manifest: Path | None) -> dict[str, re.Pattern[str]]:
        """Return the pattern of each sensor that a manifest names; none without one. The parts of files are kept."""
        if manifest is None:
            return {}
        if manifest.suffix.lower() == ".csv":
            return self._read_table(manifest)
        read = read_manifest(manifest)
        found = read.of_sensors()
        absent = [name for name in self._sensors if name not in found]
        if absent and manifest.parent == self.folder:
            raise DataError(f"{manifest}: sensors lacks {', '.join(sorted(absent))}, which the detector reads")
        if absent:
            return {}
        self.parts = read.parts_of_files()
        return {name: _regex(found[name][0]) for name in self._sensors}

    def _read_table(self, manifest: Path) -> dict[str, re.Pattern[str]]:
        """Return the pattern of each sensor, as the files are called that a manifest.csv lists."""
        here = manifest.parent == self.folder
        try:
            naming = naming_of(manifest)
        except DataError:
            if here:
                raise
            return {}
        absent = [name for name in self._sensors if name not in naming.patterns]
        if absent and here:
            raise DataError(f"{manifest}: has no column {', '.join(sorted(absent))}, which the detector reads")
        if absent:
            return {}
        self.parts = dict(naming.parts)
        self._trained_on = naming.known if here else frozenset()
        return dict(naming.patterns)  # of all: a file of a sensor that is not read may fit another's pattern too

    def look(self) -> Arrived:
        """Return what is in the folder now.

        Raises:
            OSError: the folder cannot be read.
        """
        found = Arrived({}, {})
        for part, entry in self._files(str(self.folder), ""):
            self._add(found, part, entry)
        return found

    def _files(self, folder: str, part: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yield every file with the folder that it is in; ones that vanish in the meantime are left out."""
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:
            if not part:
                raise
            return
        for entry in listed:
            if is_litter(entry.name) or (not part and entry.name in MANIFESTS):
                continue
            if not entry.is_dir(follow_symlinks=self._follow_links):
                yield part, entry
            elif entry.name not in (*_NOT_NEW, *_GROUND_TRUTH):
                yield from self._files(entry.path, f"{part}/{entry.name}" if part else entry.name)

    def _add(self, found: Arrived, part: str, entry: os.DirEntry[str]) -> None:
        path = f"{part}/{entry.name}" if part else entry.name
        if path in self._trained_on:
            return
        if os.path.splitext(entry.name)[1].lower() not in SUFFIXES:
            found.others[path] = f"ends in none of {', '.join(SUFFIXES)}"
            return
        if not self._follow_links and entry.is_symlink():
            found.others[path] = "is a symbolic link; copy the file, or set data.follow_links=true"
            return
        named = [self._by_name(part, entry.name)] if not self._patterns else list(self._by_pattern(path))
        placed = [place for place in named if place is not None]
        if not placed:
            how = "" if self._patterns else "; call it <sample>_<sensor>, or copy the training's manifest to the folder"
            found.others[path] = f"names none of the sensors {', '.join(sorted(self._sensors))}{how}"
        for sample, sensor in placed:
            self._place(found, path, entry, sample, sensor)

    def _place(self, found: Arrived, path: str, entry: os.DirEntry[str], sample: str, sensor: str) -> None:
        files = found.samples.setdefault(sample, {})
        if sensor in files:
            found.others[path] = f"is the same sensor of the same sample as {files[sensor].path}"
            return
        try:
            state = entry.stat(follow_symlinks=self._follow_links)
        except FileNotFoundError:
            if not files:
                del found.samples[sample]
            return
        files[sensor] = ArrivedFile(path, state.st_size, state.st_mtime_ns)

    def _by_pattern(self, path: str) -> Iterator[tuple[str, str]]:
        """Yield sample and sensor of the first pattern that fits, and of all others if it is of a part of the file."""
        first = ""
        for sensor, pattern in self._patterns.items():
            if (match := pattern.fullmatch(path)) and (not first or {first, sensor} <= self.parts.keys()):
                first = first or sensor
                if sensor in self._sensors:
                    yield sample_of(match), sensor

    def _by_name(self, part: str, name: str) -> tuple[str, str] | None:
        stem = os.path.splitext(name)[0]
        above, _, last = part.rpartition("/")
        if last in self._sensors:
            return (f"{above}/{stem}" if above else stem), last
        for sensor in self._sensors:
            before = stem.removesuffix(sensor)
            if before != stem and len(before) > 1 and before[-1] in _JOINTS:
                return (f"{part}/{before[:-1]}" if part else before[:-1]), sensor
        return None


def _regex(pattern: str) -> re.Pattern[str]:
    """Return a manifest's pattern as one of whole paths, at any depth."""
    before, _, after = pattern.partition("*")
    ending = re.escape(after) if after else r"\.[^./]+"
    return re.compile(rf"(?:(?P<part>.+)/)?{re.escape(before)}(?P<name>[^/]+){ending}")
