"""What `crdkit watch` shows: one line that changes on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crdkit._core.printable import printable
from crdkit._core.progress import is_quiet, say

if TYPE_CHECKING:
    from rich.live import Live

    from crdkit.watch.record import Record

_EVERY = 10.0
_SILENT = ("started", "stopped")
_LABELS = {True: "anomalous", False: "normal", None: "undecided"}


def in_words(event: Mapping[str, Any]) -> str:
    """Return an event in one line.

    Examples:
        >>> in_words({"event": "late", "sample": "007", "detail": "sensor 'xyz' came late"})
        "late: 007: sensor 'xyz' came late"
        >>> in_words({"event": "decided", "sample": "008", "pred_label": False, "pred_score": 0.25, "p_value": 0.5})
        '008: normal, score 0.25, p 0.5'
    """
    kind = event["event"]
    if kind == "decided":
        chance = "" if event["p_value"] is None else f", p {event['p_value']:.3g}"
        return f"{event['sample']}: {_LABELS[event['pred_label']]}, score {event['pred_score']:.6g}{chance}"
    if kind == "drift":
        return f"drift: {event['detail'] or 'as calibrated again'}"
    if kind == "torn":
        return f"torn: line {event['line']} of the journal is incomplete: the process that wrote it was killed"
    about = event.get("sample") or event.get("file")
    return ": ".join(part for part in (kind, about, event.get("detail")) if part)


def status(record: Record, waiting: int) -> str:
    """Return the state of a watch in one line."""
    share = f" ({100 * record.alarms / record.decided:.1f} %)" if record.decided else ""
    last = f", last {in_words(record.recent[-1])}" if record.recent else ""
    moved = f", moved: {', '.join(record.warned)}" if record.warned else ""
    alarms = f"{record.alarms} alarm{'' if record.alarms == 1 else 's'}{share}"
    reports = f"{record.reported} report{'' if record.reported == 1 else 's'}"
    return f"{record.decided} decided, {alarms}, {waiting} waiting, {reports}{moved}{last}"


class Display:
    """Shows events and the state in between.

    Args:
        live: the line of a terminal; None to print lines.
    """

    def __init__(self, live: Live | None) -> None:
        self._live = live
        self._said, self._next = "", time.monotonic() + _EVERY

    def event(self, event: Mapping[str, Any]) -> None:
        """Print what somebody should know of; on a terminal good samples only change the line."""
        kind = event["event"]
        if kind in _SILENT or (kind == "decided" and event["pred_label"] is not True):
            return
        say(in_words(event))

    def look(self, record: Record, waiting: int) -> None:
        """Show the state: at once on a terminal, elsewhere now and then, if it has changed."""
        text = status(record, waiting)
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text(printable(text), no_wrap=True, overflow="ellipsis"))
        elif text != self._said and time.monotonic() >= self._next:
            self._said, self._next = text, time.monotonic() + _EVERY
            say(text)


@contextmanager
def shown(watched: Path, out: Path) -> Iterator[Display]:
    """Yield what shows a watch."""
    say(f"watching {watched}; page: {out / 'watch.html'}; Ctrl-C ends it")
    if is_quiet() or not sys.stderr.isatty():
        yield Display(None)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(file=sys.stderr), refresh_per_second=4, transient=True) as live:
        yield Display(live)
