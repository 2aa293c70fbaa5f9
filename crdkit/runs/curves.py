"""Losses, learning rate and pace of a training as TensorBoard shows them, written by PyTorch's own writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from crdkit.errors import ConfigError
from crdkit.training import EpochLog

Log = Literal["tensorboard"]
"""Where a training can be followed, besides log.jsonl."""
FOLDER = "tensorboard"
"""In the run directory."""


def require_log(log: Log | None, folder: Path | None) -> None:
    """Refuse a log that cannot be written, before anything is read.

    Raises:
        ConfigError: there is no such log, no folder for it, or its package is missing.

    Examples:
        >>> require_log("tensorboard", None)
        Traceback (most recent call last):
            ...
        crdkit.errors.ConfigError: log='tensorboard' needs a run directory: give out
    """
    if log is None:
        return
    if log not in get_args(Log):
        raise ConfigError(f"log (={log!r}) must be one of {', '.join(get_args(Log))}")
    if folder is None:
        raise ConfigError(f"log={log!r} needs a run directory: give out")
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"log={log!r} needs the package tensorboard, which is missing: pip install 'crdkit[tensorboard]'"
        ) from error


@contextmanager
def events_to(folder: Path | None, *, samples: int) -> Iterator[Callable[[EpochLog], None]]:
    """Yield a function that adds one epoch to the event file of a run; without a folder it does nothing.

    Args:
        folder: of the run.
        samples: that an epoch sees, for the pace.

    Examples:
        >>> with events_to(None, samples=80) as write:
        ...     write({"epoch": 1})
    """
    if folder is None:
        yield lambda log: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / FOLDER)) as writer:

        def write(log: EpochLog) -> None:
            values = {"loss/total": log["loss"], "learning_rate": log["learning_rate"]}
            for modality, terms in log["losses"].items():
                values |= {f"loss/{modality}/{term}": value for term, value in terms.items()}
            if log["seconds"]:
                values["samples_per_second"] = samples / log["seconds"]
            for name, value in values.items():
                writer.add_scalar(name, value, log["epoch"])
            writer.flush()

        yield write
