"""Manifests: where the samples of a folder lie, read from its manifest.yaml or derived from its folders."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from crdkit._core.documents import parse_yaml
from crdkit._core.registry import StrictConfig
from crdkit.data._names import (
    GOOD,
    MASK,
    SPLITS,
    UNLABELLED,
    Split,
    defect_folders,
    found_folders,
    is_litter,
    refuse_like_good,
    refuse_like_split,
    subfolders,
)
from crdkit.data.images import SUFFIXES
from crdkit.data.parts import FilePart, split_part
from crdkit.errors import DataError, explain, shorten

MANIFEST = "manifest.yaml"
MANIFESTS = (MANIFEST, "manifest.csv")
_MASK_FOLDERS = (MASK, "gt")
_LONGEST_NAME = 255


def _require_one_star(pattern: str) -> str:
    if pattern.count("*") != 1:
        found = shorten(repr(pattern))
        raise ValueError(f"{found} must contain exactly one *, which stands for the sample's name, e.g. rgb/*.png")
    return pattern


def _require_short_names(path: str) -> str:
    if any(len(part.encode()) > _LONGEST_NAME for part in path.split("/")):
        raise ValueError(f"{shorten(repr(path))} is longer than a name of a file can be ({_LONGEST_NAME} bytes)")
    return path


def _require_part(pattern: str) -> str:
    split_part(pattern)
    return pattern


def _refuse_part(pattern: str) -> str:
    if split_part(pattern)[1] is not None:
        raise ValueError(f"{shorten(repr(pattern))}: a mask is a whole file; leave out what follows the #")
    return pattern


def _refuse_mask_name(sensor: str) -> str:
    if sensor == MASK:
        raise ValueError(f"{sensor!r} is not a sensor; give the pattern of the ground truth under the key 'masks'")
    return sensor


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_defect_folders(value: Any) -> Any:
    return value if isinstance(value, dict) else {UNLABELLED: value}


SensorName = Annotated[str, AfterValidator(_refuse_mask_name)]
Pattern = Annotated[
    str, AfterValidator(_require_one_star), AfterValidator(_require_short_names), AfterValidator(_require_part)
]
Folders = Annotated[tuple[Annotated[str, AfterValidator(_require_short_names)], ...], BeforeValidator(_as_list)]


class Manifest(StrictConfig):
    """Where samples lie; all paths are relative to the data folder."""

    sensors: dict[SensorName, Pattern] = Field(
        min_length=1, description="pattern of each sensor's files in a folder below"
    )
    masks: Annotated[Pattern, AfterValidator(_refuse_part)] | None = Field(
        None, description="pattern of the masks; every defective sample has one"
    )
    train: Folders = Field((), description="folders of normal samples")
    validation: Folders = Field((), description="folders of normal samples; without them a share of train is held out")
    test: Annotated[dict[str, Folders], BeforeValidator(_as_defect_folders)] = Field(
        {}, description='folders by defect type ("good" if normal), or folders of unlabelled samples'
    )

    def parts(self, split: Split) -> Mapping[str, Sequence[str]]:
        """Return the folders of ``split`` by defect type."""
        if split == "test":
            return self.test
        folders = self.train if split == "train" else self.validation
        return {GOOD: folders} if folders else {}

    def of_sensors(self) -> dict[str, tuple[str, FilePart | None]]:
        """Return the pattern of each sensor's files, and the part of them that it is."""
        return {name: split_part(pattern) for name, pattern in self.sensors.items()}

    def parts_of_files(self) -> dict[str, FilePart]:
        """Return what sensors take of files that hold several."""
        return {name: part for name, (_, part) in self.of_sensors().items() if part is not None}

    def patterns(self) -> list[str]:
        """Return the pattern of every sensor's files and of the masks."""
        return [*(pattern for pattern, _ in self.of_sensors().values()), *([self.masks] if self.masks else [])]

    def folders(self) -> list[str]:
        """Return every folder that is listed."""
        return [folder for split in SPLITS for folders in self.parts(split).values() for folder in folders]


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.yaml.

    Raises:
        DataError: the file is missing or is not a YAML mapping, a key is unknown, or a folder is listed twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the manifest cannot be read: {error}; check data.manifest") from error
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise DataError(f"{path}: is {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected the keys {', '.join(Manifest.model_fields)}, found {content!r:.60}")
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{path}: {explain(error)}") from error
    listed = [PurePosixPath(folder) for folder in manifest.folders()]
    for folder in listed:
        if listed.count(folder) > 1:
            raise DataError(f"{path}: the folder '{folder}' is listed twice; list it under one split and defect type")
    refuse_like_good(manifest.test, where=path)
    for below in (posixpath.join(folder, pattern) for folder in manifest.folders() for pattern in manifest.patterns()):
        if below.startswith("/") or posixpath.normpath(below).startswith("../"):
            raise DataError(f"{path}: {below!r} leads out of the data folder; give paths that are relative to it")
    return manifest


def find_manifest(folder: Path) -> Path | None:
    """Return the manifest in a data folder, if there is one.

    Raises:
        DataError: there are two.
    """
    found = [folder / name for name in MANIFESTS if (folder / name).is_file()]
    if len(found) > 1:
        raise DataError(f"{found[0]}: {found[1].name} lies beside it; keep one of them, or name one with data.manifest")
    return found[0] if found else None


def manifest_of(folder: Path) -> Manifest:
    """Return the manifest of ``folder/{train,validation,test}/{good,<defect>}/<sensor>/<name>.<ending>``.

    Folders of sensors may also lie directly in ``train`` and ``validation``; those directly in ``test``, or in
    ``folder`` itself if it holds no split, are of unlabelled samples.

    Raises:
        DataError: there is no folder of a sensor, images lie in "good" itself, or a split other than the test split
            holds more than "good".
    """
    parts: dict[Split, dict[str, tuple[str, ...]]] = {split: {} for split in SPLITS}
    for split in SPLITS:
        if not (folder / split).is_dir():
            refuse_like_split(split, folder)
        elif _holds_samples(folder / split):
            parts[split] = {UNLABELLED if split == "test" else GOOD: (split,)}
        else:
            parts[split] = {name: (f"{split}/{name}",) for name in defect_folders(folder / split, split)}
    if not any(parts.values()) and _holds_samples(folder):
        parts["test"] = {UNLABELLED: (".",)}
    listed = [folder / part for kinds in parts.values() for folders in kinds.values() for part in folders]
    found = {name for part in listed for name in subfolders(part)}
    sensors = sorted(found.difference(_MASK_FOLDERS), key=lambda name: (name != "rgb", name))
    for name in sensors:
        if name.casefold() == GOOD:
            place = next(part / name for part in listed if name in subfolders(part))
            raise DataError(
                f"{place}: holds images itself, and no folder for a sensor; move them to {place / 'rgb'}, and those "
                f"beside it likewise, or let crdkit data import {folder} write a manifest"
            )
    if not sensors:
        raise DataError(
            f"{folder}: holds no samples: expected train/good/<sensor>/<name>.png, or a {MANIFEST}; "
            f"{found_folders(folder)}"
        )
    return Manifest(
        sensors={name: f"{name}/*" for name in sensors},
        masks=next((f"{name}/*" for name in _MASK_FOLDERS if name in found), None),
        train=parts["train"].get(GOOD, ()),
        validation=parts["validation"].get(GOOD, ()),
        test=parts["test"],
    )


def holds_data(folder: Path) -> bool:
    """Whether ``folder`` has a manifest.yaml, a split, or folders of sensors."""
    return (
        find_manifest(folder) is not None
        or any((folder / split).is_dir() for split in SPLITS)
        or _holds_samples(folder)
    )


def holds_only_samples(folder: Path) -> bool:
    """Whether ``folder`` has folders of sensors, and neither a manifest nor a split."""
    return (
        _holds_samples(folder)
        and find_manifest(folder) is None
        and not any((folder / split).is_dir() for split in SPLITS)
    )


def matching_files(folder: Path, pattern: str, *, suffixes: Sequence[str]) -> dict[str, Path]:
    """Return the files in ``folder`` that match ``pattern``, by what its * stands for.

    If the pattern ends with the *, any of ``suffixes`` may follow and is not part of the name.

    Raises:
        DataError: the folder above the * is missing, a file has another suffix, or two have the same name.
    """
    before, _, after = pattern.partition("*")
    above, _, prefix = before.rpartition("/")
    suffix, *rest = after.split("/")
    if not (folder / above).is_dir():
        raise DataError(f"{folder / above}: the folder does not exist; {found_folders((folder / above).parent)}")
    files: dict[str, Path] = {}
    for entry in sorted((folder / above).iterdir()):
        name, path = entry.name, entry.joinpath(*rest)
        fits = name.startswith(prefix) and name.endswith(suffix) and len(name) > len(prefix) + len(suffix)
        if is_litter(name) or not fits or not path.exists():
            continue
        if path.suffix.lower() not in suffixes or not path.is_file():
            raise DataError(f"{path}: expected files that end in {', '.join(suffixes)} only; move or convert it")
        stem = name[len(prefix) : len(name) - len(suffix)] if after else Path(name[len(prefix) :]).stem
        if stem in files:
            raise DataError(f"{path}: is the same sample as {files[stem].name}; remove one of the two")
        files[stem] = path
    return files


def _holds_samples(folder: Path) -> bool:
    # whether its folders are those of sensors
    return any(path.suffix.lower() in SUFFIXES for name in subfolders(folder) for path in (folder / name).iterdir())
