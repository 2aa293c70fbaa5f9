"""Names in a data folder: its splits, "good" and what is easily taken for it, and what systems leave lying about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

from crdkit.errors import DataError, MissingSplitError, shorten

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
GOOD = "good"
UNLABELLED = "unlabelled"
MASK = "mask"
"""Stands for the ground truth among the names of sensors."""

_LIKE_GOOD = {"good", "ok", "okay", "io", "normal", "nominal", "nodefect", "defectfree", "anomalyfree"}
_LIKE_SPLITS: dict[str, set[str]] = {
    split: {split + ending for ending in ("", "s", "ing", "set", "data", "split")} for split in SPLITS
}
_LIKE_SPLITS["validation"] |= {"val", "valid"}
_SHOWN = 20  # folders that a message names
_LITTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "__macosx"}


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden, or of the kind that Windows, macOS and network drives leave everywhere.

    Examples:
        >>> [name for name in (".DS_Store", "Thumbs.db", "000.png") if not is_litter(name)]
        ['000.png']
    """
    return name.startswith(".") or name.casefold() in _LITTER


def is_like_good(name: str) -> bool:
    """Whether a folder's name says, in any spelling, that its samples have no defect.

    Examples:
        >>> [name for name in ("good", "OK", "Defect-free", "scratch") if is_like_good(name)]
        ['good', 'OK', 'Defect-free']
    """
    return _letters(name) in _LIKE_GOOD


def refuse_like_good(names: Iterable[str], *, where: object) -> None:
    """Refuse a defect type whose name says that its samples have no defect: they would count as anomalous.

    Raises:
        DataError: a name is, in any spelling, one for normal parts, but not "good".

    Examples:
        >>> refuse_like_good(["good", "scratch"], where="scans/test")
        >>> refuse_like_good(["good", "OK"], where="scans/test")
        Traceback (most recent call last):
            ...
        crdkit.errors.DataError: scans/test: 'OK' would be a defect type; if its samples are normal, name it 'good'
    """
    for name in names:
        if name != GOOD and is_like_good(name):
            raise DataError(f"{where}: {name!r} would be a defect type; if its samples are normal, name it {GOOD!r}")


def refuse_like_split(split: Split, folder: Path) -> None:
    """Refuse a folder in ``folder`` whose name is nearly that of a split which is missing there.

    Raises:
        DataError: there is one; without this it would silently not be read.
    """
    for name in subfolders(folder) if folder.is_dir() else ():
        if _letters(name) in _LIKE_SPLITS[split]:
            raise DataError(f"{folder / name}: is not read; rename it to {split!r} if it holds that split")


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in ``folder``, sorted, without hidden ones."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_litter(path.name))


def defect_folders(folder: Path, split: Split) -> Sequence[str]:
    """Return the folders of a split: "good" and, in the test split only, those of defects.

    Raises:
        DataError: the folder is missing, or outside the test split holds anything but "good"; or one whose name
            only means "good".
    """
    if not folder.is_dir():
        refuse_like_split(split, folder.parent)
        missing = f"{folder}: the folder of the split {split!r} does not exist; {found_folders(folder.parent)}"
        hint = "; data.name=folder holds out a share of the training samples" if split == "validation" else ""
        raise MissingSplitError(missing + hint)
    defects = subfolders(folder)
    refuse_like_good(defects, where=folder)
    if split != "test":
        if GOOD not in defects:
            raise DataError(f"{folder / GOOD}: the folder does not exist; {found_folders(folder)}")
        if len(defects) > 1:
            raise DataError(
                f"{folder}: the split {split!r} may only hold 'good', but {found_folders(folder)}; "
                "move anomalous samples to the split 'test'"
            )
    return defects


def found_folders(folder: Path) -> str:
    """Return which folders ``folder`` holds, for the end of a message."""
    if not folder.is_dir():
        return f"{folder} does not exist either"
    names = subfolders(folder)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{folder} holds the folders: {', '.join(map(shorten, names[:_SHOWN])) or 'none'}{more}"


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
