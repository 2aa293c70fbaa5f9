"""Test samples that are also in the training data, whatever their files are called."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from pathlib import Path

from crdkit._core.files import sha256_of
from crdkit.data import SampleRecord, Split
from crdkit.errors import DataError

BLOCK = 4096
"""Bytes that are compared first, at the start, in the middle and at the end of a file."""

Records = Mapping[Split, Sequence[SampleRecord]]


def find_overlap(records: Records) -> list[tuple[SampleRecord, SampleRecord]]:
    """Return each test sample whose files all equal those of a training or validation sample, and that sample.

    All files of sensors count, so that one black image in two samples does not make them equal; masks do not. Sizes are
    compared first, then three blocks of the files of equal size; only what is still equal is read completely. That
    costs a look at every file, and at most three small reads of each; samples without a file are left out.

    Examples:
        >>> import tempfile
        >>> from crdkit.data.adapters.mvtec3d import MVTec3D
        >>> from crdkit.data.synthetic import write_mvtec3d
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_mvtec3d(Path(folder, "scans"), categories=["gear"], train=2, test_per_defect=1, size=32)
        ...     for sensor, name in (("rgb", "001.png"), ("xyz", "001.tiff")):
        ...         used = root / "gear/train/good" / sensor / name
        ...         copied = (root / "gear/test/good" / sensor / name).write_bytes(used.read_bytes())
        ...     dataset = MVTec3D(MVTec3D.Config(root=root, category="gear"))
        ...     found = find_overlap({split: dataset.records(split) for split in ("train", "validation", "test")})
        >>> [(test.sample_id, known.split, known.sample_id) for test, known in found]
        [('good/001', 'train', 'good/001')]
    """
    known = [record for split in ("train", "validation") for record in records.get(split, ())]
    tested = list(records.get("test", ()))
    content = cache(sha256_of)
    for property_of in (_size, cache(_blocks), content):
        common = _keys(known, property_of) & _keys(tested, property_of)
        known = [record for record in known if _key(record, property_of) in common]
        tested = [record for record in tested if _key(record, property_of) in common]
    first = {_key(record, content): record for record in reversed(known)}
    return [(record, first[_key(record, content)]) for record in tested]


def refuse_overlap(records: Records, *, allow: bool) -> int:
    """Return how many test samples are also in the training data.

    Args:
        records: of every split that is used.
        allow: ``data.allow_overlap``.

    Raises:
        DataError: there are some, and ``allow`` is false.
    """
    found = find_overlap(records)
    if found and not allow:
        tested, known = found[0]
        raise DataError(
            f"{tested.image_path}: every file of this test sample has the content of {known.image_path} in the split "
            f"{known.split!r}; so it is with {len(found)} of {len(records['test'])} test samples, and a test on them "
            "proves nothing; remove them, or set data.allow_overlap=true"
        )
    return len(found)


def _keys(records: Sequence[SampleRecord], property_of: Callable[[Path], Hashable]) -> set[Hashable]:
    return {_key(record, property_of) for record in records} - {None}


def _key(record: SampleRecord, property_of: Callable[[Path], Hashable]) -> Hashable:
    """Return a property of all sensor files of a sample, None if one of them cannot be read."""
    try:
        return tuple((sensor, property_of(record.files[sensor])) for sensor in sorted(record.files)) or None
    except OSError:
        return None


def _size(path: Path) -> int:
    return os.stat(path).st_size


def _blocks(path: Path) -> bytes:
    size = _size(path)
    with path.open("rb") as file:
        parts = []
        for place in (0, size // 2, max(0, size - BLOCK)):
            file.seek(place)
            parts.append(file.read(BLOCK))
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()
