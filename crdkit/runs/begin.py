"""Begins a run directory: keeps other writers out, and removes only what may be lost."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from crdkit._core.files import LOCK, PARTIAL, write_text
from crdkit._core.locks import hold
from crdkit.config.run_config import RunConfig
from crdkit.errors import CrdkitError
from crdkit.runs.curves import FOLDER as CURVES
from crdkit.runs.fingerprint import FILE, Reading, require_same_data

FINISHED = "metrics.json"
"""What comes last; without it a run is unfinished."""
OURS = {
    "config.yaml",
    FILE,
    "log.jsonl",
    "scores.csv",
    "report.html",
    "figures",
    "detector",
    "checkpoints",
    FINISHED,
    CURVES,
}
"""What a run writes."""
RESUMED = {"config.yaml", FILE, "checkpoints"}
"""What is kept of an unfinished run that is resumed."""


@contextmanager
def begin(
    folder: Path, config: RunConfig, *, reading: Reading | None = None, resume: bool = False, overwrite: bool = False
) -> Iterator[None]:
    """Create a run directory, keep other processes out of it until the block ends, and write config.yaml.

    What an unfinished run left without a checkpoint is removed.

    Args:
        folder: new or empty, or that of a run.
        config: of the run; one that is resumed was begun with the same, see `require_same_config`.
        reading: the files that the run will read, which must be those of the run that is resumed.
        resume: keep the checkpoint of an unfinished run.
        overwrite: remove a run, finished or not.

    Raises:
        CrdkitError: another process writes there, the folder holds what would be lost, or cannot be written.
        DataError: the data have changed since the run that is resumed was begun.
    """
    with hold(folder):
        if resume and reading is not None and has_checkpoint(folder):
            require_same_data(folder, reading)
        _empty(folder, keep=RESUMED if resume else (), overwrite=overwrite)
        write_text(folder / "config.yaml", config.to_yaml())
        yield


@contextmanager
def prepare_folder(folder: Path) -> Iterator[None]:
    """Create a folder for results, or remove what an unfinished run left there; keep others out until the block ends.

    Raises:
        CrdkitError: see `begin`.
    """
    with hold(folder):
        _empty(folder, flags=False)
        yield


def discard(folder: Path) -> None:
    """Remove a run, finished or not, from its directory.

    Raises:
        CrdkitError: another process writes there, or it holds anything else.
    """
    if folder.exists():
        with hold(folder):
            _empty(folder, overwrite=True)


def has_checkpoint(folder: Path) -> bool:
    """Return whether a run directory holds what an unfinished run can be resumed from."""
    return any((folder / "checkpoints").glob("*.safetensors"))


def _empty(folder: Path, *, keep: Collection[str] = (), overwrite: bool = False, flags: bool = True) -> None:
    try:
        found = {entry.name for entry in folder.iterdir()} - {LOCK}
        if found and (lost := _what_is_lost(folder, found, resumed=bool(keep), overwrite=overwrite)):
            what, remedy = lost
            raise CrdkitError(f"{folder}: is not empty: it holds {what}; {remedy if flags else ''}choose a new folder")
        # metrics.json first: without it the run is unfinished; config.yaml last: without it nothing here is ours
        for name in sorted(found.difference(keep), key=lambda name: (name != FINISHED, name == "config.yaml")):
            entry = folder / name
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    except OSError as error:
        raise CrdkitError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _what_is_lost(folder: Path, found: set[str], *, resumed: bool, overwrite: bool) -> tuple[str, str] | None:
    """Return what may not be removed, and what to do about it; None if nothing would be missed."""
    partial = {name for name in found if name.startswith(".") and name.endswith(PARTIAL)}
    if found == partial:  # a process was killed while it wrote its first file
        return None
    # a detector alone may be somebody's copy; next to the other files of a run it is ours
    if found - partial - OURS or not found & {"config.yaml", "scores.csv"}:
        return f"{', '.join(sorted(found)[:4])}", "empty it, or "
    if FINISHED in found and "config.yaml" not in found:
        return "the results of an evaluation", ""
    if FINISHED in found and not overwrite:
        return "a finished run", "give --overwrite (overwrite=True) to replace it, or "
    if has_checkpoint(folder) and not (resumed or overwrite):
        return (
            "an unfinished run with a checkpoint",
            "give --resume (resume=True) to go on with it, --overwrite (overwrite=True) to replace it, or ",
        )
    return None
