"""Folders on disk, as layouts need them: the category's folder, files by stem, the files of one sample paired."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from crdkit.data._names import MASK, found_folders, is_litter, subfolders
from crdkit.errors import DataError, unknown_name

Files = Mapping[str, Path]
"""Files by the name of their sample."""


@dataclass(frozen=True, kw_only=True)
class PairedFiles:
    """The files of one sample; one that is missing has the path at which it was expected."""

    stem: str
    files: dict[str, Path]
    """By sensor."""
    mask: Path | None


def category_folder(root: Path | None, category: str | None, *, is_category: Callable[[Path], bool]) -> Path:
    """Return ``root/category``.

    Args:
        root: ``data.root``, which holds the category folders.
        category: ``data.category``.
        is_category: whether a folder holds a category, judged by its content; for the messages.

    Raises:
        DataError: either is not set or does not exist; the message lists what was found.
    """
    existing = require_root(root)
    found = [name for name in subfolders(existing) if is_category(existing / name)]
    if category is not None and category in subfolders(existing):
        return existing / category
    if not found and is_category(existing):
        raise DataError(
            f"{existing}: data.root is itself a category folder; set data.root={existing.parent} and "
            f"data.category={existing.name}"
        )
    if not found:
        raise DataError(f"{existing}: data.root holds no category folder; {found_folders(existing)}")
    if category is None:
        raise DataError(f"data.category is not set: {existing} holds {', '.join(found)}")
    raise DataError(f"{existing}: {unknown_name('category', category, found)}")


def require_root(root: Path | None) -> Path:
    """Return ``data.root`` if it is a folder.

    Raises:
        DataError: it is not set, does not exist, or is a file.
    """
    if root is None:
        raise DataError("data.root is not set: give the folder that holds the category folders")
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"{root}: data.root {what}; give the folder that holds the category folders")
    return root


def files_by_stem(folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    """Return the files of ``folder``, which may only hold files that end in one of ``suffixes``.

    Raises:
        DataError: the folder is missing, or a file has another suffix or the stem of another file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: the folder does not exist; {found_folders(folder.parent)}")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if is_litter(path.name):
            continue
        if path.suffix.lower() not in suffixes or not path.is_file():
            raise DataError(f"{path}: expected {' or '.join(suffixes)} files only; move it elsewhere")
        if path.stem in files:
            raise DataError(f"{path}: is the same sample as {files[path.stem].name}; remove one of the two")
        files[path.stem] = path
    return files


def pair_files(
    sensors: Mapping[str, Files],
    masks: Files,
    *,
    need_masks: bool,
    place: Callable[[str, str], Path],
    keep_incomplete: bool,
) -> list[PairedFiles]:
    """Pair the files of each sample by its name, sorted.

    Args:
        sensors: the files of each sensor.
        masks: the ground truth.
        need_masks: whether a sample without a mask is incomplete.
        place: where the file of a sensor (or of `MASK`) and a stem is expected.
        keep_incomplete: whether incomplete samples are listed all the same.

    Raises:
        DataError: a sample lacks a file, or a mask its sample, and ``keep_incomplete`` is false.
    """
    stems = {stem for files in sensors.values() for stem in files}
    orphans = sorted(set(masks) - stems)
    if orphans and not keep_incomplete:
        image = place(next(iter(sensors)), orphans[0])
        raise DataError(f"{masks[orphans[0]]}: the mask has no image {image}; add the image or remove the mask")
    pairs = []
    for stem in sorted(stems.union(orphans)):
        mask = masks.get(stem, place(MASK, stem) if need_masks else None)
        files = {sensor: found.get(stem) or place(sensor, stem) for sensor, found in sensors.items()}
        pairs.append(PairedFiles(stem=stem, files=files, mask=mask))
    if not keep_incomplete:
        for sensor in sensors:
            require_files([pair.files[sensor] for pair in pairs])
        require_files([pair.mask for pair in pairs if pair.mask])
    return pairs


def pair_subfolders(
    folder: Path, suffixes: Mapping[str, Collection[str]], *, need_masks: bool, keep_incomplete: bool, marks: str = "gt"
) -> list[PairedFiles]:
    """Pair the files ``<folder>/<sensor>/<stem><suffix>``, with PNG masks in a folder beside them; see `pair_files`.

    Args:
        folder: holds one folder per sensor.
        suffixes: those of each sensor's files, the usual one first.
        need_masks: whether a sample without a mask is incomplete; masks that exist are paired anyway.
        keep_incomplete: whether incomplete samples are listed all the same.
        marks: name of the folder of masks.

    Raises:
        DataError: a folder is missing, or what `pair_files` refuses.
    """
    masks = folder / marks

    def place(kind: str, stem: str) -> Path:
        return masks / f"{stem}.png" if kind == MASK else folder / kind / f"{stem}{next(iter(suffixes[kind]))}"

    return pair_files(
        {sensor: files_by_stem(folder / sensor, allowed) for sensor, allowed in suffixes.items()},
        files_by_stem(masks, (".png",)) if need_masks or masks.exists() else {},
        need_masks=need_masks,
        place=place,
        keep_incomplete=keep_incomplete,
    )


def require_files(paths: Iterable[Path]) -> None:
    """Refuse paths that do not exist.

    Raises:
        DataError: one does not exist; the message names the first, and how many more there are.
    """
    absent = [path for path in paths if not os.path.exists(path)]  # False for names that are too long, too
    if absent:
        others = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
        raise DataError(
            f"{absent[0]}: the file does not exist{others}, but other files of this sample do; "
            "add it, or remove the sample's other files"
        )
