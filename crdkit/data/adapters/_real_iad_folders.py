"""Samples of Real-IAD D3 in folders of splits and defect types, whose files have the sample's id in their names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from crdkit.data import GOOD, PairedFiles, SampleRecord, Split
from crdkit.data._folders import files_by_stem, pair_files
from crdkit.data._names import MASK, found_folders, is_like_good, subfolders
from crdkit.errors import DataError, MissingSplitError

_GOOD_FOLDER = "GOOD"
_PHOTOGRAPH = re.compile(r"RGB.*\.jpe?g$", re.IGNORECASE)
_SUFFIXES = {"ps": (".jpg", ".jpeg", ".png"), "xyz": (".tiff", ".tif")}


def has_folders(folder: Path) -> bool:
    """Whether a category has training samples in folders."""
    return (folder / "train" / _GOOD_FOLDER / "rgb").is_dir()


def folder_sensors(folder: Path) -> tuple[str, ...]:
    """Return the sensors of the training samples."""
    return tuple(name for name in ("rgb", *_SUFFIXES) if (folder / "train" / _GOOD_FOLDER / name).is_dir())


def folder_records(folder: Path, split: Split, *, light: str, keep_incomplete: bool) -> list[SampleRecord]:
    """List the samples of ``split``, the good ones first, then by defect type and id.

    Args:
        folder: of the category.
        split: its name; ``train`` and ``validation`` may only hold ``GOOD``.
        light: in the name of the photograph, where an id has several.
        keep_incomplete: whether samples that lack a file are listed all the same.

    Raises:
        MissingSplitError: there is no such split.
        DataError: a folder or file is missing, unpaired or out of place.
    """
    home = folder / split
    if not home.is_dir():
        raise MissingSplitError(f"{home}: the folder of the split {split!r} does not exist; {found_folders(folder)}")
    parts = sorted(subfolders(home), key=lambda name: (name != _GOOD_FOLDER, name))
    if split != "test" and parts != [_GOOD_FOLDER]:
        raise DataError(f"{home}: the split {split!r} may only hold {_GOOD_FOLDER!r}, but {found_folders(home)}")
    for part in parts:
        if part != _GOOD_FOLDER and is_like_good(part):
            raise DataError(
                f"{home / part}: would be a type of defect; if its samples are good, name it {_GOOD_FOLDER!r}"
            )
    sensors = folder_sensors(folder)
    records = [
        SampleRecord(
            sample_id=f"{part}/{pair.stem}",
            split=split,
            label=int(part != _GOOD_FOLDER),
            defect_type=GOOD if part == _GOOD_FOLDER else part,
            files=pair.files,
            mask_file=pair.mask,
        )
        for part in parts
        for pair in _pairs(home / part, sensors, light=light, keep_incomplete=keep_incomplete)
    ]
    if not records:
        raise DataError(f"{home}: the split {split!r} holds no samples; expected folders like {_GOOD_FOLDER}/rgb/S0001")
    return records


def _pairs(part: Path, sensors: Collection[str], *, light: str, keep_incomplete: bool) -> list[PairedFiles]:
    photographs = _photographs(part / "rgb", light)
    found = {name: _by_id(part / name, _SUFFIXES[name], photographs) for name in sensors if name != "rgb"}
    masks = part / "gt" / "rgb"
    masked = part.name != _GOOD_FOLDER and masks.is_dir()

    def place(name: str, stem: str) -> Path:
        ending = {MASK: ".png", "rgb": "", **{key: endings[0] for key, endings in _SUFFIXES.items()}}[name]
        return (masks if name == MASK else part / name) / f"{stem}{ending}"

    return pair_files(
        {"rgb": photographs, **found},
        _by_id(masks, (".png",), photographs) if masked else {},
        need_masks=masked,
        place=place,
        keep_incomplete=keep_incomplete,
    )


def _photographs(folder: Path, light: str) -> dict[str, Path]:
    """Return the photograph of each id, which is the name of a folder; of several the one of ``light``."""
    if not folder.is_dir():
        raise DataError(f"{folder}: the folder does not exist; {found_folders(folder.parent)}")
    found: dict[str, Path] = {}
    for name in subfolders(folder):
        files = sorted(path for path in (folder / name).iterdir() if _PHOTOGRAPH.search(path.name))
        chosen = files if len(files) == 1 else [path for path in files if light in path.name]
        if len(chosen) > 1 or (files and not chosen):
            raise DataError(
                f"{folder / name}: {len(chosen)} of its {len(files)} photographs are of the light {light!r}, expected "
                f"one; set data.light to a part of the name, such as {files[0].name}"
            )
        found[name] = chosen[0] if chosen else folder / name / "RGB.jpg"
    return found


def _by_id(folder: Path, suffixes: Collection[str], ids: Iterable[str]) -> dict[str, Path]:
    """Return the files of a folder by the id in their names, or by their own names if they have none."""
    found: dict[str, Path] = {}
    for stem, path in files_by_stem(folder, suffixes).items():
        named = [one for one in ids if re.search(rf"(?<![A-Za-z0-9]){re.escape(one)}(?![A-Za-z0-9])", stem)]
        key = max(named, key=len) if named else stem
        if key in found:
            raise DataError(f"{path}: is of the same sample as {found[key].name}; remove one of the two")
        found[key] = path
    return found
