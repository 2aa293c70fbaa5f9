"""Which samples are due: all sensors are there and their sizes rest, or the time to wait for the others is over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from crdkit.data.arriving import Arrived, ArrivedFile
from crdkit.watch._ledger import Files, Ledger

What = Literal["decide", "incomplete", "late", "repeated", "ignored", "gone"]


class Due(NamedTuple):
    """What is to be done about a sample, or about a file that belongs to none."""

    what: What
    sample: str
    """For "ignored" the path of the file."""
    files: Files
    detail: str = ""


@dataclass(slots=True)
class _Waiting:
    files: dict[str, ArrivedFile]
    changed: float
    """When any of them did last, in the caller's seconds."""


class Arrivals:
    """Keeps what is not decided yet.

    Args:
        ledger: what was decided and reported before.
        sensors: of the detector.
        can_do_with: whether these sensors are enough to decide.
        settle: seconds for which the files of a sample must not change.
        wait: seconds after the last change, from which on a sample lacks what is not there.
    """

    def __init__(
        self,
        ledger: Ledger,
        sensors: Collection[str],
        can_do_with: Callable[[Collection[str]], bool],
        *,
        settle: float,
        wait: float,
    ) -> None:
        self._ledger, self._sensors, self._can_do_with = ledger, tuple(sensors), can_do_with
        self._settle, self._wait = settle, max(wait, settle)
        self._waiting: dict[str, _Waiting] = {}
        self._others: dict[str, float] = {}
        self._reasons: Mapping[str, str] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def nothing_left(self) -> bool:
        """Whether nothing waits, no sample and no file that belongs to none."""
        return not self._waiting and not self._others

    def update(self, found: Arrived, now: float) -> list[Due]:
        """Take note of what is in the folder, and return which samples have vanished undecided."""
        for sample, files in found.samples.items():
            if not self._concerns(sample, files):
                self._waiting.pop(sample, None)
                continue
            entry = self._waiting.get(sample)
            if entry is None or entry.files != files:
                self._waiting[sample] = _Waiting(files, now)
        self._reasons = found.others
        self._others = {path: self._others.get(path, now) for path in found.others if not self._ledger.is_ignored(path)}
        vanished = [sample for sample in self._waiting if sample not in found.samples]
        gone = []
        for sample in vanished:
            entry = self._waiting.pop(sample)
            if not self._ledger.is_decided(sample):
                gone.append(Due("gone", sample, entry.files, "its files have vanished before it could be decided"))
        return gone

    def _concerns(self, sample: str, files: Files) -> bool:
        """Whether something about a sample is new."""
        if self._ledger.is_decided(sample):
            return bool(self._ledger.late(sample, files)) or self._ledger.is_repeated(sample, files)
        return not self._ledger.is_refused(sample, files)

    def due(self, now: float) -> Iterator[Due]:
        """Yield what is to be done now, the oldest first; each stays until `done`."""
        for sample, entry in list(self._waiting.items()):
            rested = now - entry.changed
            empty = any(not file.size for file in entry.files.values())  # its writer has only created it
            if rested >= (self._wait if empty else self._settle) and (due := self._judge(sample, entry.files, rested)):
                yield due
        for path, since in list(self._others.items()):
            if now - since >= self._wait:
                yield Due("ignored", path, {}, self._reasons[path])

    def _judge(self, sample: str, files: Files, rested: float) -> Due | None:
        if self._ledger.is_decided(sample):
            if late := self._ledger.late(sample, files):
                return Due("late", sample, late, f"{_names(late)} came after the sample was decided without it")
            detail = "the name of a decided sample came again, with other files; they are not decided"
            return Due("repeated", sample, files, detail)
        absent = [sensor for sensor in self._sensors if sensor not in files]
        if not absent:
            return Due("decide", sample, files)
        if rested < self._wait:
            return None
        if self._can_do_with(files):
            return Due("decide", sample, files)
        return Due("incomplete", sample, files, f"{_names(absent)} is missing, which the detector cannot do without")

    def done(self, due: Due) -> None:
        """Forget what was done."""
        if due.what == "ignored":
            self._others.pop(due.sample, None)
        else:
            self._waiting.pop(due.sample, None)


def _names(sensors: Collection[str]) -> str:
    return f"sensor {', '.join(map(repr, sorted(sensors)))}"
