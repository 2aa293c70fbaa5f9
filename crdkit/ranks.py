"""Processes started together, which share one list of work or train one detector.

Sharing work takes a meeting at the start, then claims that end with the process that holds them.

A claim is a lock of the operating system on a file, because such a lock goes away with its process, however that ends.
A key in a store of ``torch.distributed`` would stay, and a collective operation would wait for the dead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from crdkit.errors import CrdkitError, first_line

MEETING_S = 300.0
"""How long the ranks of a sweep wait for each other at the start, and only there."""
TOGETHER_S = 1800.0
"""How long ranks that train one detector wait for each other."""
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting")
"""What gloo says when another process has ended."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The place of this process among those that were started together."""

    rank: int = 0
    count: int = 1
    local: int = 0
    """Place on this machine, which picks the GPU."""

    @property
    def leader(self) -> bool:
        """Whether this process is rank 0, which stays to the end and writes the results."""
        return self.rank == 0

    @classmethod
    def from_environment(cls) -> Ranks:
        """Read what torchrun, or a launcher that sets the same variables, says; alone without it.

        Raises:
            CrdkitError: a variable is no number.
        """
        if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ):
            return cls()
        try:
            rank, count, local = (int(os.environ.get(key, "0")) for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        except ValueError as error:
            raise CrdkitError(
                f"RANK, WORLD_SIZE and LOCAL_RANK must be numbers, as torchrun sets them: {error}"
            ) from error
        return cls(rank=rank, count=count, local=local)

    def agree(self, decide: Callable[[], None]) -> None:
        """Let rank 0 run ``decide`` before any rank goes on; what it refuses, all refuse.

        In a sweep this is the only moment at which ranks wait for each other.

        Raises:
            CrdkitError: what ``decide`` raised, or a rank did not come.
        """
        with self.group(timeout_s=MEETING_S):
            self.follow_leader(decide)

    def follow_leader(self, decide: Callable[[], None]) -> None:
        """Do what `agree` does, inside a `group`.

        Raises:
            CrdkitError: what ``decide`` raised.
        """
        if self.count == 1:
            decide()
            return
        import torch.distributed as dist

        refusal: list[str | None] = [None]
        if self.leader:
            try:
                decide()
            except CrdkitError as error:
                refusal = [str(error)]
        dist.broadcast_object_list(refusal, src=0)
        if refusal[0] is not None:
            raise CrdkitError(refusal[0])

    @contextmanager
    def group(self, *, cuda: bool = False, timeout_s: float = TOGETHER_S) -> Iterator[None]:
        """Join the other ranks for the block: gloo, and with ``cuda`` NCCL too; alone, do nothing.

        Raises:
            CrdkitError: a rank did not come, or ended before its time.
        """
        if self.count == 1:
            yield
            return
        import torch.distributed as dist

        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=timedelta(seconds=timeout_s))
        except RuntimeError as error:
            reason = first_line(error)
            raise CrdkitError(f"rank {self.rank} of {self.count} did not meet the others: {reason}") from error
        try:
            yield
        except RuntimeError as error:
            reason = first_line(error)
            if not any(words in reason for words in LOST):
                raise
            raise CrdkitError(
                f"rank {self.rank} of {self.count} lost another rank, whose own message says why: {reason}"
            ) from error
        finally:
            dist.destroy_process_group()

    def use_local_device(self) -> None:
        """Make the GPU of this rank what ``training.device=auto`` and ``cuda`` mean in this process."""
        import torch

        if self.count > 1 and torch.cuda.is_available():
            torch.cuda.set_device(self.local % torch.cuda.device_count())


@contextmanager
def claim(lock_file: Path) -> Iterator[bool]:
    """Hold ``lock_file`` for the block, or give False at once where another process holds it.

    Raises:
        CrdkitError: the file system has no locks.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except NotImplementedError as error:
        raise CrdkitError(f"{lock_file}: the file system has no locks; choose a folder on another one") from error
    try:
        yield True
    finally:
        lock.release()
