"""Scores samples as they arrive in a folder, each exactly once, whatever happens to the process in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crdkit._core.files import LOCK
from crdkit._core.interruption import noted_signals
from crdkit._core.locks import hold
from crdkit.data.arriving import Arrived, ArrivingFiles
from crdkit.detector import Detector
from crdkit.errors import ConfigError, CrdkitError
from crdkit.watch._arrivals import Arrivals, Due
from crdkit.watch._deciding import Decider, calibration_of
from crdkit.watch._journal import JOURNAL, Event, Journal
from crdkit.watch._ledger import Files, Ledger
from crdkit.watch._moving import move_file
from crdkit.watch._page import Page
from crdkit.watch._pictures import Pictures
from crdkit.watch.record import RECENT, Record

_NAP = 0.1  # seconds between two looks whether to stop
_LOOKING = 0.1  # share of the time that may go into looking for files


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What happened while a folder was watched.

    Examples:
        >>> Watched(decided=7, anomalous=1, reported=0).anomalous
        1
    """

    decided: int
    anomalous: int
    reported: int
    """Events besides decisions that somebody should know of."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long to wait for what, in seconds.

    Raises:
        ConfigError: a number is negative.

    Examples:
        >>> Pace(wait=5.0).settle
        1.0
    """

    wait: float = 30.0
    """After the last file of a sample came, for the others."""
    settle: float = 1.0
    """For which sizes must not change."""
    every: float = 0.5
    """Between two looks at the folder."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise ConfigError(f"{name} (={value}) must be a number of seconds, 0 or more")


def watch(
    detector: Detector,
    folder: Path,
    out: Path,
    *,
    pace: Pace | None = None,
    move: Path | None = None,
    once: bool = False,
    stop: Callable[[], bool] = lambda: False,
    on_event: Callable[[Event], None] = lambda event: None,
    on_look: Callable[[Record, int], None] = lambda record, waiting: None,
) -> Watched:
    """Score samples as they arrive, until Ctrl-C or SIGTERM, which let the sample in hand be finished.

    Every event is a line of ``out/journal.jsonl``, on the disk before anything else happens; ``out/watch.html`` shows
    the last ones. What the journal knows is not done again, also after the process was killed.

    Args:
        detector: to score with.
        folder: where files arrive, see `crdkit.data.arriving.ArrivingFiles`.
        out: of journal and page: new, empty, or that of an earlier watch.
        pace: how long to wait.
        move: where the files of decided samples go, under the names that they have in ``folder``; None: they stay.
        once: end when all that is there is decided or reported; nothing is waited for but what is being written.
        stop: asked between samples whether to end, for programs; Ctrl-C and SIGTERM are heard in the main thread only.
        on_event: called with every new event, once it is on the disk.
        on_look: called after every look, with what is known and how many samples wait.

    Raises:
        DataError: ``folder`` does not exist, or its manifest cannot be used.
        CrdkitError: another process watches with ``out``, or it cannot be used or written.
    """
    arriving = ArrivingFiles(folder, detector.sensors, **_as_in_training(detector))
    out = out.expanduser().resolve()
    for place, name in ((out, "--out"), (move and move.expanduser().resolve(), "--move")):
        if place is not None and place.is_relative_to(arriving.folder):
            raise CrdkitError(f"{place}: {name} lies in the watched folder; choose one outside of it")
    with hold(out):
        _require_ours(out)
        with noted_signals(True) as interruption, Journal(out) as journal:
            watching = _Watching(detector, arriving, journal, move=move, pace=pace or Pace(), once=once)
            watching.on_event, watching.on_look = on_event, on_look
            return watching.run(lambda: interruption.pending or stop())


def _require_ours(out: Path) -> None:
    found = {entry.name for entry in out.iterdir()} - {LOCK}
    if found and JOURNAL not in found:
        raise CrdkitError(f"{out}: is not empty, and holds no {JOURNAL} of an earlier watch; choose a new folder")


def _as_in_training(detector: Detector) -> dict[str, Any]:
    data = detector.config.data
    return {"manifest": getattr(data, "manifest", None), "follow_links": data.follow_links}


class _Watching:
    def __init__(
        self,
        detector: Detector,
        arriving: ArrivingFiles,
        journal: Journal,
        *,
        move: Path | None,
        pace: Pace,
        once: bool,
    ) -> None:
        self._detector, self._arriving, self._journal = detector, arriving, journal
        self._move_to, self._every, self._once = move, pace.every, once
        self._ledger = Ledger(detector.sensors)
        self._record = Record(calibration_of(detector))
        self._pictures = Pictures(journal.path.parent / "recent", count=RECENT)
        wait = 0.0 if once else pace.wait
        self._decider = Decider(detector, arriving.folder, self._pictures, parts=arriving.parts)
        enough = self._decider.can_do_with
        self._arrivals = Arrivals(self._ledger, detector.sensors, enough, settle=pace.settle, wait=wait)
        self._page = Page(journal.path.parent, arriving.folder, self._record, self._pictures)
        self._unreachable = False
        self._unmoved: set[str] = set()
        self.on_event: Callable[[Event], None] = lambda event: None
        self.on_look: Callable[[Record, int], None] = lambda record, waiting: None

    def run(self, stop: Callable[[], bool]) -> Watched:
        before = self._replay()
        self._emit({"event": "started", "folder": str(self._arriving.folder), "detector": self._decider.identity()})
        while True:
            began = time.monotonic()
            self._look(stop)
            self.on_look(self._record, len(self._arrivals))
            if stop() or (self._once and self._arrivals.nothing_left):
                break
            self._page.write(watching=True)
            spent = time.monotonic() - began
            self._rest(max(self._every - spent, spent * (1 / _LOOKING - 1) if self._idle else 0.0), stop)
        self._emit({"event": "stopped"})
        self._page.write(watching=False)
        record = self._record
        return Watched(
            decided=record.decided - before[0],
            anomalous=record.alarms - before[1],
            reported=record.reported - before[2],
        )

    def _replay(self) -> tuple[int, int, int]:
        """Follow the journal so far, and return how much is in it."""
        for event in self._journal.read():
            if event["event"] == "started" and event["detector"]["sensors"] != list(self._detector.sensors):
                raise CrdkitError(
                    f"{self._journal.path}: is of a detector with the sensors {event['detector']['sensors']}, this one "
                    f"has {list(self._detector.sensors)}; give another --out"
                )
            self._ledger.follow(event)
            self._record.follow(event, old=True)
        self._record.drift.test()
        for decision in self._record.recent:
            self._pictures.restore(decision["number"])
        return self._record.decided, self._record.alarms, self._record.reported

    def _rest(self, seconds: float, stop: Callable[[], bool]) -> None:
        end = time.monotonic() + seconds
        while not stop() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _NAP))

    def _look(self, stop: Callable[[], bool]) -> None:
        """Look at the folder once, and do what is due."""
        self._idle = True
        try:
            found = self._arriving.look()
        except OSError as error:
            if not self._unreachable:
                self._emit({"event": "unreachable", "detail": f"{self._arriving.folder}: {error.strerror or error}"})
            self._unreachable = True
            return
        self._unreachable = False
        for due in self._arrivals.update(found, time.monotonic()):
            self._report(due)
        self._move_decided(found)
        for due in self._arrivals.due(time.monotonic()):
            if stop():
                return
            self._idle = False
            if due.what == "decide":
                self._decide(due)
                self._page.write(watching=True)
                self.on_look(self._record, len(self._arrivals))
            else:
                self._report(due)

    def _report(self, due: Due) -> None:
        about = {"file": due.sample} if due.what == "ignored" else {"sample": due.sample, "files": due.files}
        self._emit({"event": due.what, **about, "detail": due.detail})
        self._arrivals.done(due)
        if due.what == "late":
            self._move(due.sample, due.files)

    def _decide(self, due: Due) -> None:
        """Journal the decision of a sample, or why there is none."""
        event = self._decider(due, number=self._record.decided)
        if event is None:
            return  # it is being written, and will be looked at again
        event["after_report"] = self._ledger.was_refused(due.sample)
        self._emit(event)
        self._arrivals.done(due)
        if event["event"] == "decided":
            self._move(due.sample, due.files)
            self._decider.draw()
        if self._record.has_drifted:
            drift = self._record.drift
            self._emit({"event": "drift", "moved": list(drift.moved()), "detail": " ".join(drift.warnings())})

    def _move_decided(self, found: Arrived) -> None:
        """Move what an earlier process decided and did not move."""
        if self._move_to is not None:
            for sample, files in found.samples.items():
                if self._ledger.is_decided(sample):
                    self._move(sample, files)

    def _move(self, sample: str, files: Files) -> None:
        if self._move_to is None or sample in self._unmoved:
            return
        for file in self._ledger.decided_files(sample, files):
            try:
                move_file(self._arriving.folder / file.path, self._move_to / file.path)
            except (OSError, CrdkitError) as error:
                self._unmoved.add(sample)
                self._emit({"event": "unmoved", "sample": sample, "detail": f"{file.path}: {error}"})
                return

    def _emit(self, event: Event) -> None:
        stamped = self._journal.append(event)
        self._ledger.follow(stamped)
        self._record.follow(stamped)
        self.on_event(stamped)
