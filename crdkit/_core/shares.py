"""Work on one folder of results, cut into shares: any number of processes take them, whenever they start or end.

Nobody waits for a process to join or to be alive. A share belongs to who holds the lock on its file (see `claim`), and
it is done once its folder has its final name. So a killed process loses the share that it had begun, and no other.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crdkit._core.distributed import claim
from crdkit._core.documents import parse_json
from crdkit._core.files import PARTIAL, is_new_folder, move_folder, require_new_folder, write_text
from crdkit._core.progress import overall
from crdkit.errors import CrdkitError, shorten

MAX_SHARES = 64
MAX_SAMPLES = 512
"""Of a share, if there are more than `MAX_SHARES` times as many: what a killed process loses at most."""
POLL_S = 0.5
SHOWN_EVERY_S = 10.0
PREPARING_S = 60.0
"""How long a process may take to begin, which is milliseconds."""


def samples_per_share(total: int, batch_size: int) -> int:
    """Return how many samples a share has: whole batches, so that each batch is that of a process alone.

    Examples:
        >>> samples_per_share(400, 8), samples_per_share(12, 4), samples_per_share(1_000_000, 8)
        (8, 4, 512)
    """
    wanted = min(MAX_SAMPLES, -(-total // MAX_SHARES))
    return max(1, -(-wanted // batch_size)) * batch_size


class Shares:
    """The shares of one command that writes the folder ``out``; `begin`, then `each` once or more often, then `finish`.

    What is done is kept in a hidden folder beside ``out``, ``.<name>.shares``. Only the records of the order and of its
    end stay there, so that a process that comes late knows that nothing is left to do.

    Args:
        out: new or empty folder, which all processes see; it appears once it is complete.
        order: what makes this command this one, as plain values; processes with another one are refused.
        total: number of samples.
        size: samples of a share.

    Raises:
        CrdkitError: ``out`` is the root of the file system.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     shares = Shares(Path(scratch, "out"), order={"numbers": 3}, total=3, size=2)
        ...     shares.begin()
        ...     def work(share: int) -> None:
        ...         with shares.part(share) as folder:
        ...             _ = (folder / "sum.txt").write_text(str(sum(shares.samples(share))))
        ...     shares.each(work, shares.is_there, description="adding")
        ...     def merge(results: Path) -> dict[str, int]:
        ...         sums = [int((shares.place(share) / "sum.txt").read_text()) for share in range(2)]
        ...         _ = (results / "sum.txt").write_text(str(sum(sums)))
        ...         return {"shares": len(sums)}
        ...     shares.finish(merge), Path(scratch, "out/sum.txt").read_text()
        ({'shares': 2}, '3')
    """

    def __init__(self, out: Path, *, order: Mapping[str, Any], total: int, size: int) -> None:
        self.out = out.expanduser().resolve()
        if not self.out.name:
            raise CrdkitError(f"{self.out}: is no folder for results; choose another one")
        self.order = json.loads(json.dumps({**order, "share": size}))
        self.total, self.size = total, size
        self.work = self.out.with_name(f".{self.out.name}.shares")
        self.results = self.work / "results"
        """What becomes ``out``."""
        self._places, self._end, self._moved = (self.work / name for name in ("done", "merged.json", "finished"))

    def __len__(self) -> int:
        return (self.total + self.size - 1) // self.size

    @property
    def finished(self) -> bool:
        """Whether ``out`` is complete, by whoever did the last of it."""
        return self._moved.exists() or (self._end.exists() and not self.results.exists())

    def samples(self, share: int) -> range:
        """Return the places of a share's samples among all."""
        return range(share * self.size, min((share + 1) * self.size, self.total))

    def place(self, share: int) -> Path:
        """Return the folder of what is kept of a share that is done."""
        return self._places / f"{share:06d}"

    def is_there(self, share: int) -> bool:
        """Return whether a share's folder is complete."""
        return self.place(share).is_dir()

    def begin(self) -> None:
        """Begin the work, or join that which is there.

        Raises:
            CrdkitError: ``out`` holds anything else, another command's work is there, or it cannot be written.
        """
        if not self.work.exists():
            require_new_folder(self.out)
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            with claim(self.work / "order.lock", wait_s=PREPARING_S) as ours:
                if not ours:
                    raise CrdkitError(
                        f"{self.work}: another process has held its lock for {PREPARING_S:g} s; try again"
                    )
                self._join()
        except OSError as error:
            raise CrdkitError(f"{self.out}: cannot be written: {error.strerror or error}") from error

    def _join(self) -> None:
        file, finished = self.work / "order.json", self.finished
        begun = _read(file) if file.exists() else None
        if not is_new_folder(self.out):
            if begun == self.order and self.finished:  # perhaps just now
                return
            require_new_folder(self.out)
        if begun is not None and begun != self.order and not finished:
            raise CrdkitError(self._of_another(begun))
        if begun is None or finished:  # its results were moved away or deleted
            for record in (self._moved, self._end):
                record.unlink(missing_ok=True)
            for folder in (self.results, self._places):
                shutil.rmtree(folder, ignore_errors=True)
            write_text(file, json.dumps(self.order, indent=2) + "\n")

    def _of_another(self, begun: Mapping[str, Any]) -> str:
        keys = dict.fromkeys([*self.order, *begun])
        key = next(key for key in keys if begun.get(key) != self.order.get(key))
        there, here = (shorten(repr(values.get(key))) for values in (begun, self.order))
        return (
            f"{self.out}: another command has begun to fill it: {key} is {there} there, but {here} now; give that "
            f"command again to end it, delete {self.work} to give it up, or choose another folder"
        )

    def each(self, do: Callable[[int], None], done: Callable[[int], bool], *, description: str) -> None:
        """Do every share that nobody else does, and return when all are done.

        Args:
            do: the work of one share, which leaves it ``done``.
            done: whether nothing is left to do for it.
            description: the words before the progress.
        """
        left = dict.fromkeys(range(len(self)))
        with overall(description, total=len(self), every_s=SHOWN_EVERY_S) as shown:
            while left and not self._end.exists():
                for share in list(left):
                    if done(share) or self._do_unless_taken(share, do, done):
                        del left[share]
                        shown.update(len(self) - len(left))
                if left:
                    time.sleep(POLL_S)

    def _do_unless_taken(self, share: int, do: Callable[[int], None], done: Callable[[int], bool]) -> bool:
        with claim(self._places / f"{share:06d}.lock") as ours:
            if ours and not self._end.exists() and not done(share):  # another process may just have done it
                do(share)
            return ours

    @contextmanager
    def part(self, share: int) -> Iterator[Path]:
        """Yield a hidden folder that becomes the share's at the end, or is deleted on any failure."""
        place = self.place(share)
        for left in self._places.glob(f".{place.name}.*{PARTIAL}"):  # of a killed process
            shutil.rmtree(left, ignore_errors=True)
        partial = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
        try:
            partial.mkdir(parents=True)
            yield partial
            shutil.rmtree(place, ignore_errors=True)  # of samples that have changed since
            partial.rename(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def finish(self, merge: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
        """Let one process write what is left into the folder of results, which becomes ``out``.

        Args:
            merge: is given that folder, and returns plain values to keep; what a killed one left is there, too.

        Returns:
            The values, in every process.

        Raises:
            CrdkitError: what ``merge`` raised; or ``out`` has been filled meanwhile, or cannot be written.
        """
        while not self.finished:
            with claim(self.work / "finish.lock") as ours:
                if ours and not self.finished:
                    self._publish(merge)
            if not ours:
                time.sleep(POLL_S)
        self._moved.touch()
        shutil.rmtree(self._places, ignore_errors=True)
        return _read(self._end)

    def _publish(self, merge: Callable[[Path], Mapping[str, Any]]) -> None:
        try:
            if not self._end.exists():
                self.results.mkdir(exist_ok=True)
                write_text(self._end, json.dumps(dict(merge(self.results))) + "\n")
            move_folder(self.results, self.out)
        except OSError as error:
            raise CrdkitError(f"{self.out}: cannot be written: {error.strerror or error}") from error


def _read(file: Path) -> dict[str, Any]:
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no mapping")
        return content
    except ValueError as error:
        raise CrdkitError(f"{file}: is damaged ({error}); delete the folder {file.parent} to begin anew") from error
