"""What an import proposes, and the manifest that it becomes."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crdkit._core.files import write_text
from crdkit.data._names import GOOD, MASK, SPLITS
from crdkit.data._own_data.table import DEFECT_TYPE, SPLIT
from crdkit.data.importing._known import require_free
from crdkit.data.importing._samples import Sample
from crdkit.data.importing.questions import Question
from crdkit.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ProposedSensor:
    """One sensor, as some of its files show it."""

    name: str
    files: int
    part: str
    """Of its files, as in a manifest; "" for whole ones."""
    dtype: str
    channels: int
    size: tuple[int, int]
    """Height and width of the first."""
    values: tuple[float, float]
    """Between which most of them lie, in the files' own unit."""
    unit: str
    """With a ? if it is a guess; "" if it is not known."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """What a folder seems to hold.

    Examples:
        >>> sample = Sample(files={"stack": "ok/07.tiff"}, label="good", split="train")
        >>> columns = {"rgb": ("stack", "#page=1")}
        >>> nothing = {"questions": [], "unused": {}, "options": (), "plain": ()}
        >>> proposal = Proposal(folder=Path("parts"), sensors=[], samples=[sample], columns=columns, **nothing)
        >>> print(proposal.manifest(), end="")
        split,defect_type,rgb
        train,good,ok/07.tiff#page=1
    """

    folder: Path
    sensors: Sequence[ProposedSensor]
    samples: Sequence[Sample]
    columns: Mapping[str, tuple[str, str]]
    """By sensor: under which name a sample lists its file, and the part of it."""
    questions: Sequence[Question]
    unused: Mapping[str, str]
    """Why a file is left out, by its path."""
    options: tuple[str, ...]
    """``data.*`` keys that a training needs."""
    plain: tuple[str, ...]
    """Sensors that measure no distances, whatever they are called."""

    @property
    def stops(self) -> list[Question]:
        """What has to be settled before anything is written."""
        return [question for question in self.questions if question.stops]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of samples by split and defect type."""
        found = {split: Counter(s.kind for s in self.samples if s.split == split) for split in SPLITS}
        return {split: dict(kinds) for split, kinds in found.items() if kinds}

    def manifest(self) -> str:
        """Return the manifest.csv."""
        masks = any(sample.mask for sample in self.samples)
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow([SPLIT, DEFECT_TYPE, *self.columns, *([MASK] if masks else [])])
        for sample in sorted(self.samples, key=lambda s: (SPLITS.index(s.split), s.label != GOOD, s.defect, s.name)):
            files = [
                f"{sample.files[source]}{part}" if source in sample.files else ""
                for source, part in self.columns.values()
            ]
            kind = sample.kind if sample.label else ""
            table.writerow([sample.split, kind, *files, *([sample.mask or ""] if masks else [])])
        return text.getvalue()


def write_manifest(proposal: Proposal, path: Path | None = None, *, overwrite: bool = False) -> Path:
    """Write the manifest of a proposal whole or not at all, and return its path.

    Args:
        proposal: which has nothing left that stops it.
        path: of the file; None for manifest.csv in the folder.
        overwrite: replace a file that is there.

    Raises:
        DataError: something must be settled first.
        CrdkitError: the file exists, is called otherwise, or cannot be written.
    """
    if proposal.stops:
        raise DataError(f"{proposal.folder}: settle this first: {proposal.stops[0].line}")
    target = require_free(proposal.folder, path, overwrite=overwrite)
    write_text(target, proposal.manifest())
    return target
