"""Looks at every file of a dataset before a training does, and says what is wrong or odd."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from crdkit.datasets import GOOD, SPLITS, UNLABELLED, Dataset, DatasetConfig, RawSample, SampleRecord, Split, datasets
from crdkit.decoding import map_in_order
from crdkit.errors import CrdkitError, DataError
from crdkit.folders import require_root, subfolders
from crdkit.images import read_image, resize_mask, resize_nearest

Severity = Literal["error", "warning", "note"]
_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_FALLBACK = "folder"  # reads nearly anything, so other layouts come first


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something about a file or folder that its owner should know."""

    severity: Severity
    """``error``: it stops a training or makes its results wrong; ``warning``: look at it; ``note``: good to know."""
    path: Path
    message: str


@dataclass(frozen=True, kw_only=True)
class DatasetCheck:
    """What a dataset holds and what is wrong with it."""

    layout: str
    """Name of the dataset adapter."""
    folder: Path
    counts: Mapping[Split, Mapping[str, int]]
    """Samples by split and defect type, those that cannot be read too; a split that cannot be listed is left out."""
    findings: Sequence[Finding]
    """Errors first, then warnings and notes, each in the order of the splits."""

    def count(self, severity: Severity) -> int:
        """Return how many findings are of ``severity``."""
        return sum(finding.severity == severity for finding in self.findings)


@dataclass(frozen=True, kw_only=True)
class _Inspection:
    record: SampleRecord
    findings: list[Finding]
    digests: dict[Path, bytes]
    size: tuple[int, ...] | None = None
    class_ids: frozenset[int] = frozenset()


def open_datasets(folder: Path, *, layout: str | None = None) -> list[Dataset]:
    """Return a dataset for the category in ``folder``, or for each of those in its folders.

    Args:
        folder: a category folder, or a folder that holds such.
        layout: name of a dataset adapter; None to take the one that can list most splits.

    Raises:
        DataError: there is no category; the message says what each layout lacks.
        UnknownNameError: there is no such layout.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder; give a category folder, or one that holds category folders")
    names = [layout] if layout else sorted(datasets, key=lambda name: name == _FALLBACK)
    folder = folder.expanduser().resolve()
    reasons: dict[str, str] = {}
    for candidates in ([folder], [folder / name for name in subfolders(folder)]):
        found = [dataset for path in candidates if (dataset := _recognise(path, names, reasons)) is not None]
        if found:
            return found
    why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise DataError(f"{folder}: holds no category in a known layout; {why}")


def list_categories(config: DatasetConfig) -> list[str]:
    """Return the folders of ``config.root`` in which its dataset lists at least one split, sorted.

    Raises:
        DataError: the root is not set or does not exist, or holds no category; the message says why.
    """
    root = require_root(config.root)
    reasons: dict[str, str] = {}
    found = [name for name in subfolders(root) if _listed(config, root / name, reasons)]
    if not found:
        why = reasons.get(config.name, "there is no folder in it")
        raise DataError(f"{root}: data.root holds no category in the layout {config.name!r}: {why}")
    return found


def check_dataset(dataset: Dataset) -> DatasetCheck:
    """Read every sample of ``dataset`` once, in parallel, and list all that is wrong with it.

    Found are files that are missing, unreadable or of different sizes, scans with empty corners, images of one value,
    NaN, masks that are empty, vanish at ``data.image_size`` or hold class ids, samples without masks or labels, and
    files with the same content.
    """
    config = dataset.config.model_copy(update={"on_bad_sample": "skip"})
    lenient = type(dataset)(config)
    folder = (config.root or Path()) / (config.category or "")
    counts: dict[Split, dict[str, int]] = {}
    findings: list[Finding] = []
    inspections: list[_Inspection] = []
    for split in SPLITS:
        try:
            records = lenient.records(split)
        except CrdkitError as error:
            findings.append(Finding(severity="error", path=folder, message=str(error)))
            continue
        counts[split] = dict(Counter(record.defect_type for record in records))
        inspected = list(
            map_in_order(
                lambda record: _inspect(lenient, record),
                records,
                workers=config.workers,
                description=f"checking {split}",
            )
        )
        findings += [finding for inspection in inspected for finding in inspection.findings]
        inspections += inspected
    findings += [*_duplicates(inspections), *_of_the_whole(inspections, counts, folder)]
    return DatasetCheck(
        layout=config.name,
        folder=folder,
        counts=counts,
        findings=sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity)),
    )


def _recognise(path: Path, names: Sequence[str], reasons: dict[str, str]) -> Dataset | None:
    """Return the first dataset that can list every split of ``path``, else the first that can list one."""
    partly: Dataset | None = None
    for name in names:
        config = datasets.build_config({"name": name, "root": path.parent, "category": path.name})
        listed = _listed(config, path, reasons)
        if listed == len(SPLITS):
            return datasets.get(name)(config)
        if listed and partly is None:
            partly = datasets.get(name)(config)
    return partly


def _listed(config: DatasetConfig, path: Path, reasons: dict[str, str]) -> int:
    """Return how many splits the dataset of ``config`` can list in the category folder ``path``."""
    update = {"root": path.parent, "category": path.name, "on_bad_sample": "skip"}
    dataset = datasets.get(config.name)(config.model_copy(update=update))
    listed = 0
    for split in SPLITS:
        try:
            dataset.records(split)
            listed += 1
        except CrdkitError as error:
            reasons.setdefault(config.name, str(error))
    return listed


def _inspect(dataset: Dataset, record: SampleRecord) -> _Inspection:
    findings: list[Finding] = []
    digests: dict[Path, bytes] = {}
    try:
        sample = dataset.read(record)
        for path in dict.fromkeys(record.files.values()):
            digests[path] = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
        findings += [*_look_at_sensors(sample, dataset.config.image_size), *_look_at_mask(sample, dataset)]
        class_ids = _class_ids(record)
    except (DataError, OSError) as error:
        path = _named_in(str(error), record)
        return _Inspection(
            record=record, findings=[Finding(severity="error", path=path, message=str(error))], digests=digests
        )
    size = next(iter(sample.sensors.values())).shape[:2]
    return _Inspection(record=record, findings=findings, digests=digests, size=size, class_ids=class_ids)


def _look_at_sensors(sample: RawSample, image_size: int) -> Iterator[Finding]:
    for name, array in sample.sensors.items():
        path = sample.record.files[name]
        floats = np.issubdtype(array.dtype, np.floating)
        if floats and not np.isfinite(array).all():
            yield Finding(severity="error", path=path, message=f"sensor {name!r} holds NaN or infinite values")
        elif array.min() == array.max():
            value = array.flat[0].item()
            yield Finding(severity="warning", path=path, message=f"sensor {name!r} is {value:g} everywhere")
        elif floats and array.ndim == 3 and (corners := _empty_corners(array, image_size)):
            yield Finding(
                severity="warning",
                path=path,
                message=f"sensor {name!r} holds no measurement in the corner {' and '.join(corners)}, through which "
                "the plane fit 'published' runs; use 'robust'",
            )


def _empty_corners(xyz: np.ndarray, image_size: int) -> list[str]:
    z = resize_nearest(xyz[..., 2], image_size)
    corners = {"top left": z[:3, :3], "top right": z[:3, -3:], "bottom left": z[-3:, :3]}
    return [name for name, corner in corners.items() if not corner.any()]


def _look_at_mask(sample: RawSample, dataset: Dataset) -> Iterator[Finding]:
    record, mask, size = sample.record, sample.mask, dataset.config.image_size
    if record.label != 1 or mask is None:
        return
    path = record.mask_file or record.image_path
    if not mask.any():
        yield Finding(
            severity="error",
            path=path,
            message=f"the mask of a sample with the defect type {record.defect_type!r} is empty; mark the defect",
        )
    elif not resize_mask(mask, size).any():
        yield Finding(
            severity="warning",
            path=path,
            message=f"the {np.count_nonzero(mask)} pixels of the mask vanish at data.image_size={size}; raise it",
        )


def _class_ids(record: SampleRecord) -> frozenset[int]:
    if record.mask_file is None:
        return frozenset()
    values = read_image(record.mask_file)
    return frozenset(np.unique(values).tolist()) - {0, 255} if values.ndim == 2 else frozenset()


def _named_in(message: str, record: SampleRecord) -> Path:
    paths = [*record.files.values(), *([record.mask_file] if record.mask_file else [])]
    return next((path for path in paths if str(path) in message), record.image_path)


def _duplicates(inspections: Sequence[_Inspection]) -> Iterator[Finding]:
    first: dict[bytes, tuple[Path, Split]] = {}
    for inspection in inspections:
        split = inspection.record.split
        same = [(path, first[digest]) for path, digest in inspection.digests.items() if digest in first]
        if same:
            path, (other, its_split) = same[0]
            leak = split == "test" != its_split
            yield Finding(
                severity="error" if leak else "warning",
                path=path,
                message=f"the same content as {other} in the split {its_split!r}"
                + ("; a test on it says nothing" if leak else ""),
            )
        for path, digest in inspection.digests.items():
            first.setdefault(digest, (path, split))


def _of_the_whole(
    inspections: Sequence[_Inspection], counts: Mapping[Split, Mapping[str, int]], folder: Path
) -> Iterator[Finding]:
    test = counts.get("test", {})
    unlabelled = test.get(UNLABELLED, 0)
    if unlabelled:
        yield Finding(severity="note", path=folder, message=f"{unlabelled} test samples have no label: scores only")
    elif test and (GOOD not in test or len(test) == 1):
        missing = "defective" if GOOD in test else "normal"
        yield Finding(
            severity="warning",
            path=folder,
            message=f"the test split holds no {missing} sample: no AUROC of images",
        )
    bare = [i.record for i in inspections if i.record.label == 1 and i.record.mask_file is None]
    if bare:
        yield Finding(
            severity="warning",
            path=bare[0].image_path,
            message=f"{len(bare)} defective samples have no mask (this is the first): no metrics of pixels",
        )
    sizes = Counter(inspection.size for inspection in inspections if inspection.size)
    if len(sizes) > 1:
        found = ", ".join(f"{n} of {height} x {width}" for (height, width), n in sizes.most_common(5))
        yield Finding(
            severity="warning",
            path=folder,
            message=f"samples differ in height and width ({found}); each is squashed to a square",
        )
    ids = sorted(set().union(*(inspection.class_ids for inspection in inspections)))
    if ids:
        named = ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
        path = next(i.record.mask_file or folder for i in inspections if i.class_ids)
        yield Finding(
            severity="note",
            path=path,
            message=f"masks hold the values {named} beside 0 and 255: all but 0 count as anomalous; this is the first",
        )
