"""Checkpoints of a running training: one safetensors file, written atomically, to resume with the same bits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from crdkit._core.files import PARTIAL, below, read_tensors, require_checksum, write_tensors
from crdkit._core.interruption import Interruption
from crdkit.errors import CrdkitError, DetectorFormatError

FORMAT = "crdkit-checkpoint"
FORMAT_VERSION = 2
READABLE = (1, 2)
CHECKSUMS_SINCE = 2
EVERY_SECONDS = 30.0
MIN_TRAINING_PER_WRITING = 20
"""Writing takes at most a twentieth of the time, however large a checkpoint is."""

State = dict[str, torch.Tensor]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Partial:
    """An epoch that was interrupted: what has been done of it since its order was drawn."""

    steps: int
    seconds: float
    sums: torch.Tensor
    """(modalities, terms) losses, summed over the samples of those steps."""


class Checkpoints:
    """Keeps the newest checkpoint of one training in a folder: weights, optimisers, generator and log after an epoch.

    Args:
        folder: created when the first one is written.
        run: what tells this training from others, written into each checkpoint: another run's is refused.
    """

    def __init__(self, folder: Path, *, run: str | None = None) -> None:
        self.folder = folder
        self.run = run
        self.restored = 0
        """Epochs that were not trained by this process but read by `restore`."""
        self.seconds = 0.0
        """What those took, and what was done of the epoch after them."""
        self.partial: Partial | None = None
        """What `restore` found of the epoch after them, until that goes on."""
        self._next_write = time.monotonic() + EVERY_SECONDS

    def restore(
        self, students: nn.Module, optimizers: Sequence[torch.optim.Optimizer], generator: torch.Generator
    ) -> list[dict[str, Any]]:
        """Set all arguments to the state of the newest checkpoint; return the log of the epochs before it.

        Without a checkpoint nothing is changed, and the log is empty.

        Raises:
            DetectorFormatError: the file is damaged, or of another run or model, or an unknown format version.
        """
        files = self._files()
        if not files:
            return []
        log, state, header = _read(files[-1])
        partial = header.get("partial")
        if self.run is not None and header.get("run", self.run) != self.run:
            raise DetectorFormatError(
                f"{files[-1]}: is a checkpoint of another run; put this run's back, or delete the file to start over"
            )
        try:
            students.load_state_dict(below("students.", state))
            for index, optimizer in enumerate(optimizers):
                _load_optimizer(optimizer, below(f"optimizers.{index}.", state))
            generator.set_state(state["generator"])
            if partial is not None:
                self.partial = Partial(**partial, sums=state["sums"])
        except (RuntimeError, LookupError, ValueError, TypeError) as error:
            raise _damaged_error(files[-1], error) from error
        self.restored = len(log)
        self.seconds = sum(entry.get("seconds", 0.0) for entry in log)
        self.seconds += 0.0 if self.partial is None else self.partial.seconds
        within = "" if self.partial is None else f" and {self.partial.steps} steps"
        _logger.info("resuming after epoch %d%s", self.restored, within)
        return log

    def take_partial(self) -> Partial | None:
        """Return what was done of an interrupted epoch, once."""
        found, self.partial = self.partial, None
        return found

    def keep(
        self,
        students: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        generator: torch.Generator,
        *,
        log: Sequence[dict[str, Any]],
        last: bool,
        partial: Partial | None = None,
    ) -> None:
        """Write the state after ``len(log)`` epochs if it is time for that, or if it is the ``last``.

        With ``partial`` it is the state within the next epoch, and ``generator`` that from which its order was drawn.

        Raises:
            CrdkitError: the file cannot be written.
        """
        start = time.monotonic()
        if not last and start < self._next_write:
            return
        state = {f"students.{name}": value for name, value in students.state_dict().items()}
        for index, optimizer in enumerate(optimizers):
            state |= {f"optimizers.{index}.{name}": value for name, value in _optimizer_state(optimizer)}
        state["generator"] = generator.get_state()
        if partial is not None:
            state["sums"] = partial.sums
        path = self.folder / _name(log)
        _write(path, log, state, partial, run=self.run)
        for older in [*self._files(), *self.folder.glob(f".*{PARTIAL}")]:  # partial: left by a killed process
            if older != path:
                older.unlink()
        end = time.monotonic()
        self._next_write = end + max(EVERY_SECONDS, MIN_TRAINING_PER_WRITING * (end - start))

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.safetensors"))


def stop_if_asked(
    interruption: Interruption, write: Callable[..., None] | None, start: float, steps: int, sums: torch.Tensor
) -> None:
    """After a signal, write a checkpoint within the epoch, and let the signal do what it would have done."""
    if interruption.pending and write is not None:
        write(partial=Partial(steps=steps, seconds=time.perf_counter() - start, sums=sums))
        interruption.deliver()


def _optimizer_state(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
    # the groups' options come from the configuration
    for parameter, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            yield f"{parameter}.{key}", value


def _load_optimizer(optimizer: torch.optim.Optimizer, state: State) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    values: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in state.items():
        number, _, key = name.partition(".")
        like = parameters[int(number)]
        # strides as the optimiser would create them: other strides may select other kernels
        fitted = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        values.setdefault(int(number), {})[key] = fitted
    optimizer.load_state_dict({**optimizer.state_dict(), "state": values})


def _name(log: Sequence[dict[str, Any]]) -> str:
    return f"epoch-{len(log):06d}.safetensors"


def _write(
    path: Path, log: Sequence[dict[str, Any]], state: State, partial: Partial | None = None, *, run: str | None = None
) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise CrdkitError(f"{path.parent}: cannot be written: {error.strerror or error}") from error
    header: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION, "log": list(log)}
    if run is not None:
        header["run"] = run
    if partial is not None:
        header["partial"] = {"steps": partial.steps, "seconds": partial.seconds}
    write_tensors(path, state, header=header, checksum=True)


def _read(path: Path) -> tuple[list[dict[str, Any]], State, dict[str, Any]]:
    try:
        state, header = read_tensors(path)
        kind, version, log = (header[key] for key in ("format", "format_version", "log"))
    except (OSError, ValueError, LookupError) as error:
        raise _damaged_error(path, error) from error
    if kind != FORMAT or version not in READABLE:
        known = " or ".join(map(str, READABLE))
        raise DetectorFormatError(
            f"{path}: is not a checkpoint of format version {known} (found {kind!r} {version!r}); "
            "resume with the version of crdkit that wrote it, or delete the file to start over"
        )
    try:
        if version >= CHECKSUMS_SINCE:
            require_checksum(state, header)
        if path.name != _name(log):
            raise ValueError(f"its content is that of {_name(log)}")
    except (ValueError, TypeError) as error:
        raise _damaged_error(path, error) from error
    return log, state, header


def _damaged_error(path: Path, error: Exception) -> DetectorFormatError:
    reason = " ".join(str(error).split())[:300]
    return DetectorFormatError(f"{path}: is a damaged checkpoint: {reason}; delete the file to start over")
