"""What the journal says of every sample: decided, refused, or neither; all that has to be known to decide it once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crdkit.data.arriving import ArrivedFile

Files = Mapping[str, ArrivedFile]
"""Of one sample, by sensor."""


class Ledger:
    """Follows the events of a journal.

    It keeps one name and one number a sample, about 0.2 kB.

    Args:
        sensors: of the detector, sorted.
    """

    def __init__(self, sensors: Sequence[str]) -> None:
        self._sensors = tuple(sensors)
        self._decided: dict[str, int] = {}
        self._lacked: dict[str, frozenset[str]] = {}
        self._came_late: dict[str, set[str]] = {}
        self._repeated: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        self._ignored: set[str] = set()

    def follow(self, event: Mapping[str, Any]) -> None:
        """Take note of an event; kinds that say nothing about samples change nothing."""
        kind, sample = event["event"], event.get("sample", "")
        if kind == "decided":
            files = files_of(event)
            if absent := frozenset(self._sensors).difference(files):
                self._lacked[sample] = absent
            self._decided[sample] = self._mark(sample, files)
            self._refused.pop(sample, None)
        elif kind == "repeated":
            self._repeated[sample] = self._mark(sample, files_of(event))
        elif kind == "late":
            self._came_late.setdefault(sample, set()).update(files_of(event))
        elif kind in ("unreadable", "incomplete"):
            self._refused[sample] = self._state(files_of(event))
        elif kind == "gone":
            self._refused.pop(sample, None)
        elif kind == "ignored":
            self._ignored.add(event["file"])

    def is_decided(self, sample: str) -> bool:
        """Whether a sample was decided; its name is never decided again."""
        return sample in self._decided

    def is_refused(self, sample: str, files: Files) -> bool:
        """Whether a sample was reported as it is now: unreadable or incomplete."""
        return self._refused.get(sample) == self._state(files)

    def was_refused(self, sample: str) -> bool:
        """Whether a sample was reported before, and is not decided."""
        return sample in self._refused

    def is_ignored(self, path: str) -> bool:
        """Whether a file that belongs to no sample was reported."""
        return path in self._ignored

    def late(self, sample: str, files: Files) -> dict[str, ArrivedFile]:
        """Return the files of a decided sample that were not there when it was decided, and not reported since."""
        lacked = self._lacked.get(sample, frozenset()).difference(self._came_late.get(sample, ()))
        return {sensor: files[sensor] for sensor in files if sensor in lacked}

    def decided_files(self, sample: str, files: Files) -> list[ArrivedFile]:
        """Return those files of a decided sample that were decided, or reported as late; the first one last.

        As long as the first one is there, it says of the others whether they are still those that were decided.
        """
        late = self._came_late.get(sample, set())
        if self._mark(sample, files) == self._decided[sample]:
            late = late.union(self._sensors).difference(self._lacked.get(sample, frozenset()).difference(late))
        found = [files[sensor] for sensor in self._sensors if sensor in files and sensor in late]
        return list(dict.fromkeys(found))[::-1]  # several sensors may be in one file

    def is_repeated(self, sample: str, files: Files) -> bool:
        """Whether the name of a decided sample came again, with other files, and was not reported for them."""
        mark = self._mark(sample, files)
        return bool(mark) and mark not in (self._decided[sample], self._repeated.get(sample))

    def _mark(self, sample: str, files: Files) -> int:
        """Return a number for the first of the files that decide a sample, as it is now; 0 if it is not there."""
        lacked = self._lacked.get(sample, ())
        first = files.get(next(sensor for sensor in self._sensors if sensor not in lacked))
        # numbers hash alike in every process, text does not
        return 0 if first is None else hash((first.size, first.modified)) or 1

    def _state(self, files: Files) -> int:
        known = [(place, files[name]) for place, name in enumerate(self._sensors) if name in files]
        return hash(tuple((place, file.size, file.modified) for place, file in known))


def files_of(event: Mapping[str, Any]) -> dict[str, ArrivedFile]:
    """Return the files that an event names."""
    return {sensor: ArrivedFile(*entry) for sensor, entry in event.get("files", {}).items()}
