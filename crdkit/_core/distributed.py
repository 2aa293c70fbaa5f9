"""Processes that were started together, to share one list of work or to train one detector.

Sharing work needs one rendezvous at the start, then claims that end with the process that holds them.

A claim is a lock of the operating system on a file, because such a lock goes away with its process, however that ends.
A key in a store of ``torch.distributed`` would stay, and a collective operation would wait for dead processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from crdkit.errors import CrdkitError, first_line

RENDEZVOUS_TIMEOUT_S = 300.0
"""How long the ranks of a sweep wait for each other at the start, and only there."""
COLLECTIVE_TIMEOUT_S = 1800.0
"""How long ranks that train one detector wait for each other."""
LOST_PEER_MESSAGES = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting")
"""Parts of gloo's messages when another process has ended."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The place of this process among those that were started together, in torchrun's terms."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Place on this machine, which selects the GPU."""

    @property
    def is_main(self) -> bool:
        """Whether this process is rank 0, which stays to the end and writes the results."""
        return self.rank == 0

    @classmethod
    def from_environment(cls) -> Ranks:
        """Read the variables that torchrun and similar launchers set; without them, this process is alone.

        Raises:
            CrdkitError: a variable is not a number.
        """
        if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ):
            return cls()
        try:
            rank, world_size, local_rank = (
                int(os.environ.get(key, "0")) for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
            )
        except ValueError as error:
            raise CrdkitError(
                f"RANK, WORLD_SIZE and LOCAL_RANK must be numbers, as torchrun sets them: {error}"
            ) from error
        return cls(rank=rank, world_size=world_size, local_rank=local_rank)

    def agree(self, decide: Callable[[], object]) -> None:
        """Let rank 0 run ``decide`` before any rank goes on; an error that it raises is raised on every rank.

        In a sweep this is the only point at which ranks wait for each other.

        Raises:
            CrdkitError: what ``decide`` raised, or a rank did not join.
        """
        with self.group(timeout_s=RENDEZVOUS_TIMEOUT_S):
            self.follow_main(decide)

    def follow_main(self, decide: Callable[[], object]) -> None:
        """Do what `agree` does, inside a `group`.

        Raises:
            CrdkitError: what ``decide`` raised.
        """
        if self.world_size == 1:
            decide()
            return
        import torch.distributed as dist

        refusal: list[str | None] = [None]
        if self.is_main:
            try:
                decide()
            except CrdkitError as error:
                refusal = [str(error)]
        dist.broadcast_object_list(refusal, src=0)
        if refusal[0] is not None:
            raise CrdkitError(refusal[0])

    @contextmanager
    def group(self, *, cuda: bool = False, timeout_s: float = COLLECTIVE_TIMEOUT_S) -> Iterator[None]:
        """Join the other ranks for the block, by gloo and with ``cuda`` by NCCL too; do nothing if there are none.

        Raises:
            CrdkitError: a rank did not join, or ended early.
        """
        if self.world_size == 1:
            yield
            return
        import torch.distributed as dist

        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=timedelta(seconds=timeout_s))
        except RuntimeError as error:
            reason = first_line(error)
            raise CrdkitError(f"rank {self.rank} of {self.world_size} cannot reach the others: {reason}") from error
        try:
            yield
        except RuntimeError as error:
            reason = first_line(error)
            if not any(words in reason for words in LOST_PEER_MESSAGES):
                raise
            raise CrdkitError(
                f"rank {self.rank} of {self.world_size} lost another rank; see that rank's own message: {reason}"
            ) from error
        finally:
            dist.destroy_process_group()

    def use_local_device(self) -> None:
        """Make this rank's GPU the one that ``training.device=auto`` and ``cuda`` mean in this process."""
        import torch

        if self.world_size > 1 and torch.cuda.is_available():
            torch.cuda.set_device(self.local_rank % torch.cuda.device_count())


@contextmanager
def claim(lock_file: Path, *, wait_s: float = 0.0) -> Iterator[bool]:
    """Hold ``lock_file`` for the block, or yield False if another process still holds it after ``wait_s``.

    Raises:
        CrdkitError: the file system does not support locks.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        yield False
        return
    except NotImplementedError as error:
        raise CrdkitError(f"{lock_file}: the file system has no locks; choose a folder on another disk") from error
    try:
        yield True
    finally:
        lock.release()
