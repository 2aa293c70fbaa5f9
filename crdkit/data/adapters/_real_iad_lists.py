"""Samples of Real-IAD D3 as the JSON file of a category lists them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from crdkit._core.documents import parse_json
from crdkit.data import GOOD, SampleRecord, Split
from crdkit.data._folders import require_files
from crdkit.data._names import is_like_good
from crdkit.data.inside import path_inside
from crdkit.errors import DataError, MissingSplitError

JSONS = "realiad_d3_jsons"
SENSORS = ("rgb", "ps", "xyz")
_KEYS = {"rgb": "image_path", "ps": "ps_path", "xyz": "xyz_path"}
_NORMAL = "OK"


def listed_records(path: Path, folder: Path, split: Split, *, keep_incomplete: bool) -> list[SampleRecord]:
    """List the samples of ``split`` in the order of the file; of the splits other than test, the good ones.

    Args:
        path: the JSON file.
        folder: of the category.
        split: its name.
        keep_incomplete: whether samples that lack a file are listed all the same, and masks without a sample.

    Raises:
        MissingSplitError: the file has no sample of that split.
        DataError: the file is wrong, a file that it names is missing, or a mask is named by no sample.
    """
    content = _read(path)
    meta = content.get("meta") if isinstance(content.get("meta"), dict) else {}
    prefix = (meta or {}).get("prefix")
    home = folder.parent / prefix if isinstance(prefix, str) and os.path.isdir(folder.parent / prefix) else folder
    records, numbers = list[SampleRecord](), dict[str, int]()
    for number, entry in enumerate(_entries(content, split, path)):
        record = _record(entry, home, folder.parent, split, where=f"{path}: {split}[{number}]")
        if (first := numbers.setdefault(record.sample_id, number)) != number:
            raise DataError(f"{path}: {split}[{number}] is the same sample as {split}[{first}] ({record.sample_id})")
        if split == "test" or record.label == 0:
            records.append(record)
        elif split == "train":
            raise DataError(f"{path}: train[{number}] is {record.defect_type!r}; only good samples can be trained on")
    if not records:
        raise MissingSplitError(f"{path}: lists no {'sample' if split == 'test' else 'good sample'} in {split!r}")
    if split == "test":
        records += _orphans(content, records, path, keep_incomplete=keep_incomplete)
    if not keep_incomplete:
        for record in records:
            require_files([*record.files.values(), *([record.mask_file] if record.mask_file else [])])
    return records


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}; copy it from the archive") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected the keys meta, train, validation and test")
    return content


def _entries(content: Mapping[str, Any], split: Split, path: Path) -> Sequence[Mapping[str, Any]]:
    entries = content.get(split, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path}: {split!r} must be a list of samples")
    return entries


def _record(entry: Mapping[str, Any], home: Path, root: Path, split: Split, *, where: str) -> SampleRecord:
    def file(key: str) -> Path:
        text = entry.get(key)
        if not isinstance(text, str) or PurePosixPath(text).name in ("", ".."):
            raise DataError(f"{where}: has no {key}; it must be the path of a file")
        found = path_inside(home, text, folder=root)
        if found is None:
            raise DataError(f"{where}: {key} {text!r} leads out of the data folder {root}")
        return found

    kind = entry.get("anomaly_class")
    if not isinstance(kind, str) or not kind:
        raise DataError(f'{where}: has no anomaly_class; it must be "{_NORMAL}" or the type of the defect')
    if kind != _NORMAL and is_like_good(kind):
        raise DataError(
            f'{where}: anomaly_class {kind!r} would be a type of defect; if the sample is good, say "{_NORMAL}"'
        )
    mask = file("mask_path") if entry.get("mask_path") else None
    if mask is not None and kind == _NORMAL:
        raise DataError(f'{where}: has the anomaly_class "{_NORMAL}" and the mask {mask}; one of them is wrong')
    files = {sensor: file(key) for sensor, key in _KEYS.items()}
    return SampleRecord(
        sample_id=PurePosixPath(str(entry["image_path"])).with_suffix("").as_posix(),
        split=split,
        label=int(kind != _NORMAL),
        defect_type=GOOD if kind == _NORMAL else kind,
        files=files,
        mask_file=mask,
    )


def _orphans(
    content: Mapping[str, Any], records: Sequence[SampleRecord], path: Path, *, keep_incomplete: bool
) -> Iterator[SampleRecord]:
    """Yield a sample for each PNG beside a mask that no sample names, or refuse the first."""
    masks = {record.mask_file for record in records if record.mask_file}
    named = masks | {file for record in records for file in record.files.values()}
    # defects of the validation split are not used, and so are their masks
    names = {Path(str(entry.get("mask_path"))).name for entry in _entries(content, "validation", path)}
    for folder in sorted({mask.parent for mask in masks}):
        for file in sorted(folder.glob("*.png")):
            if file in named or file.name in names:
                continue
            if not keep_incomplete:
                raise DataError(f"{file}: no sample of {path} has this mask; add the sample, or remove the mask")
            yield SampleRecord(
                sample_id=f"{file.parent.name}/{file.name}",
                split="test",
                label=1,
                defect_type="unpaired mask",
                files={"rgb": Path(f"{file} (no sample has this mask)")},
                mask_file=file,
            )
