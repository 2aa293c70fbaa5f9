"""Commands that are stopped: SIGTERM ends them as orderly as Ctrl-C, and they say how to go on."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
_RESUMABLE = ("train", "sweep")
_SHARED = ("predict", "evaluate")


class Terminated(SystemExit):
    """Raised by SIGTERM, so that what must happen at the end of a block happens."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` for the block, unless something else handles it or this is no main thread."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Terminated(TERMINATED)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def how_to_go_on(arguments: Sequence[str] | None) -> str:
    """Return the words after "interrupted": the command that goes on, for those that can.

    Args:
        arguments: of the command that was stopped; None for those of this process.

    Examples:
        >>> how_to_go_on(["-q", "train", "quick", "data.root=my scans", "--out", "runs/a", "--overwrite"])
        "; go on with: crdkit -q train quick 'data.root=my scans' --out runs/a --resume"
        >>> how_to_go_on(["predict", "runs/a", "scans", "--out", "found", "--share"])
        '; go on with the same command'
        >>> how_to_go_on(["data", "check", "scans"])
        ''
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = next((word for word in given if not word.startswith("-")), None)
    ranks = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if command in _SHARED and (ranks or "--share" in given):
        return "; go on with the same command"
    if command not in _RESUMABLE:
        return ""
    if ranks:  # the launcher's part of the command is not known here
        return "; go on with the same command and --resume"
    again = [word for word in given if word not in ("--overwrite", "--resume")]
    return f"; go on with: {shlex.join(['crdkit', *again, '--resume'])}"
