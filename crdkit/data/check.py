"""Reads every file of a dataset before training does, and reports what is wrong or unusual."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crdkit._core.parallel import map_in_order
from crdkit.data import GOOD, SPLITS, UNLABELLED, Dataset, RawSample, SampleRecord, Split
from crdkit.data._new_samples import find_new_samples
from crdkit.data.findings import Finding, Look, Severity
from crdkit.data.images import read_image, resize_mask, resize_nearest
from crdkit.data.inside import refuse_links_outside
from crdkit.errors import CrdkitError, DataError, MissingSplitError

_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class DatasetCheck:
    """What a dataset holds and what is wrong with it.

    Examples:
        >>> finding = Finding(severity="note", path=Path("scans/gear"), message="4 test samples have no label")
        >>> counts = {"train": {"good": 3}, "test": {"unlabelled": 4}}
        >>> found = DatasetCheck(layout="folder", folder=Path("scans/gear"), counts=counts, findings=[finding])
        >>> found.count("error"), found.count("note")
        (0, 1)
    """

    layout: str
    """Name of the dataset adapter."""
    folder: Path
    counts: Mapping[Split, Mapping[str, int]]
    """Samples by split and defect type, unreadable ones included; a split that cannot be listed is left out."""
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
    constant: frozenset[Path] = frozenset()
    """Files of one value."""
    size: tuple[int, ...] | None = None
    class_ids: frozenset[int] = frozenset()
    kept: Any = None

    def content(self) -> object:
        """Return what equal samples have in common; None if a file cannot be read."""
        files = self.record.files
        if not self.digests.keys() >= set(files.values()):
            return None
        return tuple((sensor, self.digests[files[sensor]]) for sensor in sorted(files))


def check_dataset(dataset: Dataset, *, look: Look | None = None) -> DatasetCheck:
    """Read every sample of ``dataset`` once, in parallel, and list everything that is wrong with it.

    It finds files that are missing, unreadable or of different sizes, scans with empty corners, images of one value,
    NaN, masks that are empty, vanish at ``data.image_size`` or hold class ids, samples without masks or labels, and
    files with the same content.

    Args:
        dataset: what to check.
        look: looks at each sample as well.

    Examples:
        >>> import tempfile
        >>> from crdkit.data.adapters.mvtec3d import MVTec3D
        >>> from crdkit.data.synthetic import write_mvtec3d
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     root = write_mvtec3d(Path(scratch, "scans"), categories=["gear"], train=3, test_per_defect=1, size=32)
        ...     (root / "gear/train/good/xyz/001.tiff").unlink()
        ...     found = check_dataset(MVTec3D(MVTec3D.Config(root=root, category="gear")))
        >>> found.counts["train"], found.count("error"), found.findings[0].path.name
        ({'good': 3}, 1, '001.tiff')
    """
    lenient = dataset.lenient()
    config = lenient.config
    folder = (config.root or Path()) / (config.category or "")
    counts: dict[Split, dict[str, int]] = {}
    findings = find_new_samples(lenient, folder)
    splits = SPLITS[-1:] if findings else SPLITS
    inspections: list[_Inspection] = []
    for split in splits:
        try:
            records = lenient.records(split)
            refuse_links_outside(lenient, records)
        except CrdkitError as error:
            if split == "test" and isinstance(error, MissingSplitError):
                untested = f"{error}; a training works, and measures nothing"
                findings.append(Finding(severity="note", path=folder, message=untested))
                continue
            findings.append(Finding(severity="error", path=folder, message=str(error)))
            continue
        counts[split] = dict(Counter(record.defect_type for record in records))
        inspected = list(
            map_in_order(
                lambda record: _inspect(lenient, record, look),
                records,
                workers=config.workers,
                description=f"checking {split}",
            )
        )
        findings += [finding for inspection in inspected for finding in inspection.findings]
        inspections += inspected
    overlap = list(_overlap(inspections, "warning" if config.allow_overlap else "error"))
    shown = {finding.path for finding in overlap}
    repeated = _duplicates([i for i in inspections if i.record.image_path not in shown])
    findings += [*overlap, *repeated, *_check_whole_dataset(inspections, counts, folder)]
    if look is not None:
        findings += look.findings(dataset, [(i.record, i.kept) for i in inspections if i.kept is not None])
    return DatasetCheck(
        layout=config.name,
        folder=folder,
        counts=counts,
        findings=sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity)),
    )


def _inspect(dataset: Dataset, record: SampleRecord, look: Look | None) -> _Inspection:
    findings: list[Finding] = []
    digests: dict[Path, bytes] = {}
    try:
        sample = dataset.read(record)
        for path in dict.fromkeys(record.files.values()):
            digests[path] = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
        varied = {record.files[name] for name, array in sample.sensors.items() if array.min() != array.max()}
        constant = frozenset(record.files.values()) - varied
        findings += [*_check_sensors(sample, dataset.config.image_size), *_check_mask(sample, dataset)]
        class_ids = _class_ids(record)
        kept = None if look is None else look.sample(sample)
    except (DataError, OSError) as error:
        path = _path_named_in(str(error), record)
        return _Inspection(
            record=record, findings=[Finding(severity="error", path=path, message=str(error))], digests=digests
        )
    size = next(iter(sample.sensors.values())).shape[:2]
    return _Inspection(
        record=record,
        findings=findings,
        digests=digests,
        constant=constant,
        size=size,
        class_ids=class_ids,
        kept=kept,
    )


def _check_sensors(sample: RawSample, image_size: int) -> Iterator[Finding]:
    for name, array in sample.sensors.items():
        path = sample.record.files[name]
        floats = np.issubdtype(array.dtype, np.floating)
        if floats and np.isinf(array).any():
            yield Finding(severity="error", path=path, message=f"sensor {name!r} holds infinite values")
        elif floats and np.isnan(array).all():
            yield Finding(
                severity="error", path=path, message=f"sensor {name!r} is NaN everywhere: nothing was measured"
            )
        elif array.min() == array.max():
            value = array.flat[0].item()
            yield Finding(severity="warning", path=path, message=f"sensor {name!r} is {value:g} everywhere")
        elif floats and array.ndim == 3 and (corners := _empty_corners(array, image_size)):
            yield Finding(
                severity="warning",
                path=path,
                message=f"sensor {name!r} holds no measurement in the corner {' and '.join(corners)}, which "
                "the plane fit 'published' needs; use 'robust'",
            )


def _empty_corners(xyz: np.ndarray, image_size: int) -> list[str]:
    z = resize_nearest(xyz[..., 2], image_size)
    corners = {"top left": z[:3, :3], "top right": z[:3, -3:], "bottom left": z[-3:, :3]}
    return [name for name, corner in corners.items() if not corner.any()]


def _check_mask(sample: RawSample, dataset: Dataset) -> Iterator[Finding]:
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
            message=f"the {np.count_nonzero(mask)} pixels of the mask vanish at data.image_size={size}; increase it",
        )


def _class_ids(record: SampleRecord) -> frozenset[int]:
    if record.mask_file is None:
        return frozenset()
    values = read_image(record.mask_file)
    return frozenset(np.unique(values).tolist()) - {0, 255} if values.ndim == 2 else frozenset()


def _path_named_in(message: str, record: SampleRecord) -> Path:
    paths = [*record.files.values(), *([record.mask_file] if record.mask_file else [])]
    return next((path for path in paths if str(path) in message), record.image_path)


def _overlap(inspections: Sequence[_Inspection], severity: Severity) -> Iterator[Finding]:
    """Find test samples whose files all equal those of one training or validation sample, as a training does."""
    known: dict[object, SampleRecord] = {}
    for inspection in inspections:
        record, key = inspection.record, inspection.content()
        if record.split != "test" and key is not None:
            known.setdefault(key, record)
        elif key in known:
            yield Finding(
                severity=severity,
                path=record.image_path,
                message=f"every file of this test sample has the content of {known[key].image_path} in the split "
                f"{known[key].split!r}; a test on it proves nothing, and a training refuses it without "
                "data.allow_overlap=true",
            )


def _duplicates(inspections: Sequence[_Inspection]) -> Iterator[Finding]:
    """Find files with equal content; a picture of one value, such as a dark image, may well repeat."""
    first: dict[bytes, tuple[Path, Split]] = {}
    for inspection in inspections:
        found = {path: digest for path, digest in inspection.digests.items() if path not in inspection.constant}
        same = [(path, first[digest]) for path, digest in found.items() if digest in first]
        if same:
            path, (other, its_split) = same[0]
            message = f"has the same content as {other} in the split {its_split!r}"
            yield Finding(severity="warning", path=path, message=message)
        for path, digest in found.items():
            first.setdefault(digest, (path, inspection.record.split))


def _check_whole_dataset(
    inspections: Sequence[_Inspection], counts: Mapping[Split, Mapping[str, int]], folder: Path
) -> Iterator[Finding]:
    test = counts.get("test", {})
    unlabelled = test.get(UNLABELLED, 0)
    if unlabelled:
        if len(counts) > 1:
            yield Finding(severity="note", path=folder, message=f"{unlabelled} test samples have no label: scores only")
    elif test and (GOOD not in test or len(test) == 1):
        missing = "defective" if GOOD in test else "normal"
        yield Finding(
            severity="warning",
            path=folder,
            message=f"the test split holds no {missing} samples: no image AUROC",
        )
    bare = [i.record for i in inspections if i.record.label == 1 and i.record.mask_file is None]
    if bare:
        yield Finding(
            severity="warning",
            path=bare[0].image_path,
            message=f"{len(bare)} defective samples have no mask (this is the first): no pixel metrics",
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
            message=f"masks hold the values {named} besides 0 and 255: all but 0 are anomalous; this is the first",
        )
