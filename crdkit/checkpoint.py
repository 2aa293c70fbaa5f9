"""Checkpoints of a training under way: one safetensors file, whole or not there, that leads on to the same bits."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from crdkit.config import RunConfig
from crdkit.datasets import HOW_READ
from crdkit.errors import ConfigError, CrdkitError, DetectorFormatError
from crdkit.files import PARTIAL, below, new_file
from crdkit.progress import say

FORMAT = "crdkit-checkpoint"
FORMAT_VERSION = 1
EVERY_SECONDS = 30.0
LEAST_TRAINING_PER_WRITING = 20
"""Writing takes at most a twentieth of the time, however large a checkpoint is."""

State = dict[str, torch.Tensor]


class Checkpoints:
    """Keeps the newest checkpoint of one training in a folder: weights, optimisers, generator and log after an epoch.

    Args:
        folder: made when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.restored = 0
        """Epochs that were not trained by this process but read by `restore`."""
        self._due = time.monotonic() + EVERY_SECONDS

    def restore(
        self, students: nn.Module, optimizers: Sequence[torch.optim.Optimizer], generator: torch.Generator
    ) -> list[dict[str, Any]]:
        """Bring all arguments to the state of the newest checkpoint; return the log of the epochs before it.

        Without a checkpoint nothing is changed, and the log is empty.

        Raises:
            DetectorFormatError: the file is damaged, or of another model or an unknown format version.
        """
        files = self._files()
        if not files:
            return []
        log, state = _read(files[-1])
        try:
            students.load_state_dict(below("students.", state))
            for index, optimizer in enumerate(optimizers):
                _load_optimizer(optimizer, below(f"optimizers.{index}.", state))
            generator.set_state(state["generator"])
        except (RuntimeError, LookupError, ValueError, TypeError) as error:
            raise _damaged(files[-1], error) from error
        self.restored = len(log)
        say(f"resuming after epoch {self.restored}")
        return log

    def keep(
        self,
        students: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        generator: torch.Generator,
        *,
        log: Sequence[dict[str, Any]],
        last: bool,
    ) -> None:
        """Write the state after ``len(log)`` epochs if it is time for that, or if it is the ``last``.

        Raises:
            CrdkitError: the file cannot be written.
        """
        start = time.monotonic()
        if not last and start < self._due:
            return
        state = {f"students.{name}": value for name, value in students.state_dict().items()}
        for index, optimizer in enumerate(optimizers):
            state |= {f"optimizers.{index}.{name}": value for name, value in _optimizer_state(optimizer)}
        state["generator"] = generator.get_state()
        path = self.folder / f"epoch-{len(log):06d}.safetensors"
        _write(path, log, state)
        for older in [*self._files(), *self.folder.glob(f".*{PARTIAL}")]:  # partial: of a killed process
            if older != path:
                older.unlink()
        end = time.monotonic()
        self._due = end + max(EVERY_SECONDS, LEAST_TRAINING_PER_WRITING * (end - start))

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.safetensors"))


def require_same_config(folder: Path, config: RunConfig) -> bool:
    """Return whether a run of ``config`` was begun in ``folder``; how its data are read and cached may differ.

    Raises:
        ConfigError: a run of another configuration was, or its config.yaml cannot be read.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        return False
    begun, wanted = (
        dict(_flat(run.model_dump(mode="json", exclude={"data": HOW_READ})))
        for run in (RunConfig.from_yaml(file), config)
    )
    for key in dict.fromkeys([*wanted, *begun]):
        if key not in begun or key not in wanted or begun[key] != wanted[key]:
            there, here = (repr(values[key]) if key in values else "not set" for values in (begun, wanted))
            raise ConfigError(
                f"{folder}: holds a run with another configuration: {key} is {there} there, but {here} now; "
                "resume with the same one, or choose a new folder"
            )
    return True


def _flat(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, values


def _optimizer_state(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
    # the groups' options are the configuration's
    for parameter, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            yield f"{parameter}.{key}", value


def _load_optimizer(optimizer: torch.optim.Optimizer, state: State) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    values: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in state.items():
        number, _, key = name.partition(".")
        like = parameters[int(number)]
        # strides as the optimiser would make them: other strides may take other kernels
        fitted = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        values.setdefault(int(number), {})[key] = fitted
    optimizer.load_state_dict({**optimizer.state_dict(), "state": values})


def _write(path: Path, log: Sequence[dict[str, Any]], state: State) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    header = {"format": FORMAT, "format_version": FORMAT_VERSION, "log": list(log)}
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise CrdkitError(f"{path.parent}: cannot be written: {error.strerror or error}") from error
    with new_file(path) as partial:
        try:
            save_file(tensors, partial, metadata={"crdkit": json.dumps(header)})
        except SafetensorError as error:  # a full disk, for one
            raise CrdkitError(f"{path}: cannot be written: {error}") from error


def _read(path: Path) -> tuple[list[dict[str, Any]], State]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["crdkit"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        kind, version, log = (header[key] for key in ("format", "format_version", "log"))
    except (OSError, SafetensorError, ValueError, LookupError, TypeError) as error:
        raise _damaged(path, error) from error
    if (kind, version) != (FORMAT, FORMAT_VERSION):
        raise DetectorFormatError(
            f"{path}: is no checkpoint of format version {FORMAT_VERSION} (found {kind!r} {version!r}); "
            "resume with the version of crdkit that wrote it, or delete the file to start over"
        )
    return log, state


def _damaged(path: Path, error: Exception) -> DetectorFormatError:
    reason = " ".join(str(error).split())[:300]
    return DetectorFormatError(f"{path}: is no whole checkpoint: {reason}; delete the file to start over")
