"""What a run reads: a hash of the content of every file, kept in the run directory so that other data are noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from crdkit._core.files import sha256_of, write_text
from crdkit._core.parallel import in_order
from crdkit._core.sources import state
from crdkit.data import Dataset, SampleRecord, Split
from crdkit.data.cache import cache_folder
from crdkit.errors import CrdkitError, DataError

FILE = "data.json"
"""In the run directory."""
FORMAT = "crdkit-data"
_MAX_NAMED = 3

Status = tuple[int, int, int]
"""Size and times of the last change of content and of metadata, ns; zeros for a missing file."""
Content = dict[str, Any]
"""``{"label", "defect_type", "files": {name: sha256}}`` of one sample."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """The samples of each split and the content of their files; wherever they lie, the same data have the same one.

    Examples:
        >>> one = Fingerprint(splits={"train": {"good/0": {"files": {"rgb": "ab"}}, "good/1": {"files": {}}}}, files={})
        >>> other = Fingerprint(splits={"train": {"good/0": {"files": {"rgb": "cd"}}}}, files={})
        >>> one.differences(other)
        ['train: 1 sample was removed (good/1), 1 sample was changed (good/0: rgb)']
        >>> one.digests() == one.digests() != other.digests()
        True
    """

    splits: Mapping[str, Mapping[str, Content]]
    """By split and sample id, in order."""
    files: Mapping[str, tuple[Status, str | None]]
    """State and sha256 of each file, by path; None for one that does not exist."""

    def digests(self) -> dict[str, str]:
        """Return one sha256 for each split."""
        return {
            split: hashlib.sha256(json.dumps(list(samples.items()), sort_keys=True).encode()).hexdigest()
            for split, samples in self.splits.items()
        }

    def differences(self, now: Fingerprint) -> list[str]:
        """Return one phrase for each split that is another one ``now``."""
        found = []
        for split in dict.fromkeys([*self.splits, *now.splits]):
            before, after = self.splits.get(split, {}), now.splits.get(split, {})
            changed = [
                f"{name}: {_first_difference(before[name], after[name])}"
                for name in before
                if name in after and before[name] != after[name]
            ]
            phrases = [
                _phrase([name for name in after if name not in before], "added"),
                _phrase([name for name in before if name not in after], "removed"),
                _phrase(changed, "changed"),
            ]
            if not any(phrases) and list(before) != list(after):
                phrases = ["its samples are in another order"]
            if any(phrases):
                found.append(f"{split}: {', '.join(phrase for phrase in phrases if phrase)}")
        return found

    def write(self, folder: Path) -> None:
        """Write it into a run directory.

        Raises:
            CrdkitError: the file cannot be written.
        """
        content = {"format": FORMAT, "format_version": 1, "splits": self.splits, "files": self.files}
        write_text(folder / FILE, json.dumps(content) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Fingerprint | None:
        """Return the one in a run directory; None if there is none, as in those of earlier versions.

        Raises:
            CrdkitError: it is damaged.
        """
        return _read(folder / FILE)


class Reading:
    """The files of some splits before they are read; `fingerprint` notices a change since then.

    Args:
        dataset: of the run.
        records: its samples by split.
    """

    def __init__(self, dataset: Dataset, records: Mapping[Split, Sequence[SampleRecord]]) -> None:
        self._dataset = dataset
        self._records = {split: list(found) for split, found in records.items()}
        self._paths = sorted({path for found in self._records.values() for r in found for path in dataset.files(r)})
        self._before = {path: state(path) for path in self._paths}

    def fingerprint(self, known: Fingerprint | None = None) -> Fingerprint:
        """Return the fingerprint of the splits.

        A file is read, in threads, unless its size and times are those of ``known``, of an earlier call in this
        process, or of a run that used the same `data.cache`.

        Raises:
            DataError: a file has changed since this object was made.
        """
        store = self._store()
        before = {} if store is None else dict(_read_quietly(store))
        before |= {} if known is None else known.files

        def hash_of(path: Path) -> str | None:
            status, sha = before.get(str(path), ((), None))
            return sha if tuple(status) == self._before[path] else _sha256(path, self._before[path])

        hashed = in_order(hash_of, self._paths, workers=self._dataset.config.workers)
        hashes = dict(zip(self._paths, hashed, strict=True))
        for path in self._paths:
            if state(path) != self._before[path]:
                raise DataError(f"{path}: was changed while the run was reading it; start it again")
        files = {str(path): (self._before[path], hashes[path]) for path in self._paths}
        if store is not None and any(before.get(path) != entry for path, entry in files.items()):
            _write_quietly(store, files)
        splits: dict[str, dict[str, Content]] = {
            split: {record.sample_id: self._content(record, hashes) for record in found}
            for split, found in self._records.items()
        }
        return Fingerprint(splits=splits, files=files)

    def _content(self, record: SampleRecord, hashes: Mapping[Path, str | None]) -> Content:
        named = {path: name for name, path in record.files.items()}
        if record.mask_file is not None:
            named[record.mask_file] = "mask"
        files = {named.get(path, path.name): hashes[path] for path in self._dataset.files(record)}
        parts = {
            name: f"{hashes[record.files[name]]}{part}" for name, part in record.parts.items() if name in record.files
        }
        return {"label": record.label, "defect_type": record.defect_type, "files": files | parts}

    def _store(self) -> Path | None:
        """Return the file beside the cached splits that keeps the hashes, so that no file is read only for them."""
        folder, options = cache_folder(self._dataset.config), self._dataset.config
        if folder is None:
            return None
        name = hashlib.sha256(f"{options.name}\n{options.root}\n{options.category}".encode()).hexdigest()
        return folder / f"hashes-{name[:32]}.json"


def require_same_data(folder: Path, reading: Reading) -> None:
    """Refuse data that differ from what the run in ``folder`` has read; without a record of that, say so and go on.

    Raises:
        DataError: a split differs; the message says which samples.
        CrdkitError: the record is damaged.
    """
    begun = Fingerprint.read(folder)
    if begun is None:
        return
    found = begun.differences(reading.fingerprint(begun))
    if found:
        raise DataError(
            f"{folder}: the data have changed since this run was begun: {'; '.join(found)}; put them back, give "
            "--overwrite (overwrite=True) to train anew on what is there now, or choose a new folder"
        )


def _phrase(names: Sequence[str], what: str) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _MAX_NAMED else ""
    samples = "sample was" if len(names) == 1 else "samples were"
    return f"{len(names)} {samples} {what} ({', '.join(names[:_MAX_NAMED])}{more})"


def _first_difference(before: Content, after: Content) -> str:
    names = dict.fromkeys([*before["files"], *after["files"]])
    differ = [name for name in names if before["files"].get(name) != after["files"].get(name)]
    return differ[0] if differ else "label"


@lru_cache(maxsize=65536)  # runs of a sweep share their files
def _sha256(path: Path, status: Status) -> str | None:
    del status  # part of the key
    try:
        return sha256_of(path)
    except OSError:  # missing; that it is unreadable shows when it is decoded
        return None


def _read(file: Path) -> Fingerprint | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"'format' is not {FORMAT!r}")
        files = {path: ((int(size), int(m), int(c)), sha) for path, ((size, m, c), sha) in content["files"].items()}
        return Fingerprint(splits=content["splits"], files=files)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CrdkitError(f"{file}: is damaged ({error}); delete it to go on without comparing the data") from error


def _read_quietly(store: Path) -> Mapping[str, tuple[Status, str | None]]:
    try:
        found = _read(store)
    except CrdkitError:
        return {}
    return {} if found is None else found.files


def _write_quietly(store: Path, files: Mapping[str, tuple[Status, str | None]]) -> None:
    content = {"format": FORMAT, "format_version": 1, "splits": {}, "files": files}
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        write_text(store, json.dumps(content) + "\n")
    except (OSError, CrdkitError):  # a cache that this user may only read: the files are hashed again next time
        return
