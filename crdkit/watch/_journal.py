"""The journal of a watch: one JSON object a line, on the disk before anything else happens; read again at a restart."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from crdkit.errors import CrdkitError

JOURNAL = "journal.jsonl"
TORN = "torn"
"""The event that says that the line before it is incomplete: its writer was killed."""

Event = dict[str, Any]


class Journal:
    """Appends events to ``journal.jsonl``; used as a context manager, by one process at a time.

    Args:
        folder: that holds the file; it is created by the first event.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        self._file: IO[bytes] | None = None

    def read(self) -> Iterator[Event]:
        """Yield the events so far, line by line; a last line that is torn is left out, and is followed by `TORN`.

        Raises:
            CrdkitError: the file cannot be read, or a line is damaged that no kill explains.
        """
        if not self.path.exists():
            return
        damaged: tuple[int, int] | None = None
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    event = _parse(line)
                    if damaged is not None and (event is None or event["event"] != TORN):
                        raise _damaged(self.path, damaged[0])
                    damaged = None if event is not None else (number, len(line))
                    if event is not None:
                        yield event
        except OSError as error:
            raise CrdkitError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        if damaged is not None:
            yield self._mend(*damaged)

    def _mend(self, number: int, length: int) -> Event:
        """End a torn line, and say so in the next one."""
        try:
            with self.path.open("rb+") as file:
                file.seek(-1, os.SEEK_END)
                ended = file.read(1) == b"\n"
                if not ended:
                    file.write(b"\n")
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        return self.append({"event": TORN, "line": number, "bytes": length})

    def append(self, event: Mapping[str, Any]) -> Event:
        """Write an event with the time of now, wait until it is on the disk, and return it.

        Raises:
            CrdkitError: it cannot be written; then it is not known to have happened.
        """
        stamped = {"event": event["event"], "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **event}
        line = json.dumps(stamped, allow_nan=False) + "\n"
        try:
            if self._file is None:
                created = not self.path.exists()
                self._file = self.path.open("ab", buffering=0)
                if created:
                    _sync_folder(self.path.parent)
            self._file.write(line.encode())
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        return stamped

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _parse(line: bytes) -> Event | None:
    """Return the event of a line; None if it is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _sync_folder(folder: Path) -> None:
    """Wait until the name of a new file is on the disk too, where the system can."""
    with suppress(OSError):  # Windows opens no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _damaged(path: Path, number: int) -> CrdkitError:
    return CrdkitError(
        f"{path}: line {number} is damaged, so it is not known which samples were decided; "
        "restore the file, or give another --out"
    )


def _cannot_write(path: Path, error: OSError) -> CrdkitError:
    return CrdkitError(f"{path}: cannot be written: {error.strerror or error}")
