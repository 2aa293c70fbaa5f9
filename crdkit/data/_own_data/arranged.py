"""Samples in folders, as a manifest.yaml or the folders' own names arrange them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from crdkit.data import SampleRecord, Split
from crdkit.data._folders import pair_files
from crdkit.data._names import GOOD, MASK, UNLABELLED, found_folders
from crdkit.data._own_data.manifest import MANIFEST, Manifest, matching_files
from crdkit.data.images import SUFFIXES
from crdkit.errors import DataError, MissingSplitError

MASK_SUFFIXES = (".png", ".bmp")  # JPEG would smear marks over their surroundings


class Arranged:
    """The samples below a data folder.

    Args:
        folder: the data folder.
        manifest: what lies where in it.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest

    @property
    def sensors(self) -> tuple[str, ...]:
        """The names of the sensors."""
        return tuple(self._manifest.sensors)

    def has(self, split: Split) -> bool:
        """Whether folders are listed for ``split``."""
        return bool(self._manifest.parts(split))

    def records(self, split: Split, *, keep_incomplete: bool) -> list[SampleRecord]:
        """List the samples of ``split``; those that lack a file only if ``keep_incomplete``.

        Raises:
            MissingSplitError: there is no such split.
            DataError: a folder or file is missing, unpaired or out of place.
        """
        parts = self._manifest.parts(split)
        if not parts:
            raise MissingSplitError(
                f"{self._folder}: there is no split {split!r}; add the folder {split}/good/<sensor>, "
                f"or {self._named(split)}; {found_folders(self._folder)}"
            )
        records = [
            record
            for defect, names in parts.items()
            for name in names
            for record in self._samples(name, split=split, defect=defect, keep_incomplete=keep_incomplete)
        ]
        if not records:
            listed = ", ".join(name for names in parts.values() for name in names)
            patterns = ", ".join(self._manifest.sensors.values())
            raise DataError(f"{self._folder}: no file in {listed} matches {patterns}; check the names")
        return records

    def _named(self, split: Split) -> str:
        if (self._folder / MANIFEST).is_file():
            return f"the key {split!r} to the {MANIFEST}"
        return f"a {MANIFEST} that says where its samples lie"

    def _samples(self, part: str, *, split: Split, defect: str, keep_incomplete: bool) -> list[SampleRecord]:
        folder, manifest, defective = self._folder / part, self._manifest, defect not in (GOOD, UNLABELLED)
        patterns = {name: pattern for name, (pattern, _) in manifest.of_sensors().items()}
        if manifest.masks is not None and defective:
            patterns[MASK] = manifest.masks
        found = {
            name: matching_files(folder, pattern, suffixes=MASK_SUFFIXES if name == MASK else SUFFIXES)
            for name, pattern in patterns.items()
        }

        def place(name: str, stem: str) -> Path:
            ending = next((path.suffix for path in found[name].values()), ".png")
            return folder / patterns[name].replace("*", stem + ending * patterns[name].endswith("*"))

        pairs = pair_files(
            {name: found[name] for name in manifest.sensors},
            found.get(MASK, {}),
            need_masks=MASK in patterns,
            place=place,
            keep_incomplete=keep_incomplete,
        )
        return [
            SampleRecord(
                sample_id=PurePosixPath(part, pair.stem).as_posix(),
                split=split,
                label=None if defect == UNLABELLED else int(defective),
                defect_type=defect,
                files=pair.files,
                mask_file=pair.mask,
                parts=manifest.parts_of_files(),
            )
            for pair in pairs
        ]
