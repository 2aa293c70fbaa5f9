"""Predictions of a folder by many processes that share its samples: the files are those of a process alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import crdkit
from crdkit._core.files import sha256_of, write_text
from crdkit._core.shares import Shares, samples_per_share
from crdkit._core.sources import state
from crdkit.config.run_config import RunConfig
from crdkit.data import HOW_READ, Dataset, SampleRecord
from crdkit.data.decode import report_skipped
from crdkit.detector._pictures import BRANCHES, KINDS, Drawn, Pictures, colour, file_name
from crdkit.detector._saved import WEIGHTS, detector_folder
from crdkit.detector._writing import LINES, SCORES, Writer
from crdkit.detector.detector import Detector
from crdkit.detector.files import Inputs, Written, predict_places, writer_for
from crdkit.scoring.regions import Region

_VALUES, _SHARE, _COLOURED = "values.npy", "share.json", "coloured"
_NOT_ASKED = {"root", *HOW_READ}  # each process may see the data elsewhere, and read them in its own way


def share_predictions(
    detector: Detector, inputs: Inputs, out: Path, *, source: Path | str, options: Mapping[str, Any] | None = None
) -> Written:
    """Write what `crdkit.detector.files.write_predictions` does, together with all processes that call this alike.

    Each takes shares of the samples, and returns when all is written; one that is killed loses what it had begun, and
    any later call does only what is missing. Shares whose files have changed since are predicted again.

    Args:
        detector: the same in every process.
        inputs: the same samples, in the same order.
        out: new or empty folder, which all processes see, on a file system with locks.
        source: the folder or file that the detector was loaded from, which is compared.
        options: what else must be the same in every process, as plain values.

    Raises:
        CrdkitError: ``out`` exists and is not empty, or cannot be written; another detector, other samples or other
            options have begun to fill it.
        DataError: a sample cannot be read.
    """
    settings = {
        "unusual": detector.unusual,
        "attribution": detector.attribution,
        "device": detector.device.type,
        **(options or {}),
    }
    order = order_of("predict", detector.config, source=source, dataset=inputs.dataset, records=inputs.records)
    size, total = samples_per_share(len(inputs.records), detector.config.training.batch_size), len(inputs.records)
    work = _Predictions(Shares(out, order=order | settings, total=total, size=size), detector, inputs)
    work.shares.begin()
    work.shares.each(work.predict, work.is_predicted, description="predicting")
    work.shares.each(work.colour, work.is_coloured, description="overlays")
    found = work.shares.finish(work.merge)
    report_skipped(found["skipped"], total=total)
    return Written(found["samples"], found["anomalous"])


def order_of(
    command: str, config: RunConfig, *, source: Path | str, dataset: Dataset, records: Sequence[SampleRecord]
) -> dict[str, Any]:
    """Return what makes a command this one: its detector, options and samples, wherever these lie.

    Args:
        command: its name.
        config: of the detector, with what the command has changed.
        source: the folder or file that the detector was loaded from.
        dataset: that the samples are of.
        records: the samples.
    """
    place = detector_folder(source)
    files = [place] if place.is_file() else [place / "config.json", place / WEIGHTS]
    root = dataset.config.root
    listed = hashlib.sha256()
    for record in records:
        paths = [[name, _below(path, root), str(record.parts.get(name, ""))] for name, path in record.files.items()]
        listed.update(json.dumps([record.sample_id, record.label, record.defect_type, paths]).encode())
    data = dataset.config.model_dump(mode="json", exclude=_NOT_ASKED)
    return {
        "command": command,
        "crdkit": crdkit.__version__,
        "detector": {file.name: sha256_of(file) for file in files},
        "samples": len(records),
        "sha256 of the samples' names": listed.hexdigest(),
        **{f"data.{key}": value for key, value in sorted(data.items())},
        "training.batch_size": config.training.batch_size,
    }


def states(dataset: Dataset, records: Sequence[SampleRecord]) -> list[list[list[int]]]:
    """Return size and time of the last change of each sample's files: if they stay the same, so does its prediction."""
    return [[list(state(path)[:2]) for path in dataset.files(record)] for record in records]


def _below(path: Path, root: Path | None) -> str:
    return (path.relative_to(root) if root is not None and path.is_relative_to(root) else path).as_posix()


class _Predictions:
    """The steps: `predict` a share, `colour` its overlays once all are predicted, `merge` the tables.

    Args:
        shares: of the samples.
        detector: predicts.
        inputs: all samples.
    """

    def __init__(self, shares: Shares, detector: Detector, inputs: Inputs) -> None:
        self.shares, self._detector, self._inputs = shares, detector, inputs
        self._modalities = tuple(detector.views)
        self._known: set[int] = set()

    def is_predicted(self, share: int) -> bool:
        """Return whether a share is predicted, and its files are what they were then."""
        if share in self._known:
            return True
        same = self.shares.is_there(share) and self._read(share)["files"] == self._states(share)
        if same:
            self._known.add(share)
        return same

    def predict(self, share: int) -> None:
        """Write maps and masks of a share among the results, and keep its rows, its pictures and what colours need."""
        before, bad = self._states(share), list[str]()
        moved = self.shares.place(share).with_suffix(".moved")
        if moved.exists():
            self._remove(share)
        with self.shares.part(share) as kept:
            maps = kept / "maps"
            pictures = Pictures(maps, under=kept / "pictures", total=self.shares.total, size=self.shares.size)
            with writer_for(self._detector, kept, pictures) as writer:
                self._write(share, writer, bad)
            np.save(kept / _VALUES, np.concatenate([np.empty(0, np.float32), *pictures.values]))
            found = {
                "files": before,
                "skipped": bad,
                "anomalous": writer.anomalous,
                "drawn": [[name, [region.to_dict() for region in regions]] for name, regions in pictures.drawn],
            }
            (kept / _SHARE).write_text(json.dumps(found), encoding="utf-8")
            moved.touch()
            _move_files(maps, self.shares.results)
        self._known.add(share)

    def _write(self, share: int, writer: Writer, bad: list[str]) -> None:
        places = self.shares.samples(share)
        with closing(predict_places(self._detector, self._inputs, places, bad=bad)) as predicted:
            for place, (record, picture, found) in predicted:
                writer.add(place, record, picture, found, shown=self._inputs.path(record))

    def _remove(self, share: int) -> None:
        """Remove what an earlier process wrote of a share among the results: it was killed, or files have changed."""
        names = {file_name(self._inputs.records[place]) for place in self.shares.samples(share)}
        results = self.shares.results
        for folder in (*(results / kind for kind in KINDS), *(results / BRANCHES).glob("*")):
            for name in names:
                for ending in (".tiff", ".png"):
                    folder.joinpath(f"{name}{ending}").unlink(missing_ok=True)

    @cached_property
    def _colours(self) -> tuple[list[np.ndarray], str]:
        """Values of all shares, and their hash: overlays that others have written are in other colours."""
        folders = [self.shares.place(each) for each in range(len(self.shares))]
        values = [np.load(folder / _VALUES, allow_pickle=False) for folder in folders]
        return values, hashlib.sha256(np.concatenate(values).tobytes()).hexdigest()

    def is_coloured(self, share: int) -> bool:
        """Return whether a share's overlays are written."""
        file = self.shares.place(share) / _COLOURED
        return file.exists() and file.read_text(encoding="utf-8") == self._colours[1]

    def colour(self, share: int) -> None:
        """Write a share's overlays, in the colours of all samples."""
        values, digest = self._colours
        kept = self.shares.place(share)
        drawn = [Drawn(name, [_region(each) for each in regions]) for name, regions in self._read(share)["drawn"]]
        if drawn:
            under = kept / "pictures"
            colour(self.shares.results, drawn, under=under, values=values, modalities=self._modalities)
        write_text(kept / _COLOURED, digest)

    def merge(self, results: Path) -> dict[str, Any]:
        """Write the tables, and return how much there is."""
        found = [self._read(share) for share in range(len(self.shares))]
        skipped = [reason for each in found for reason in each["skipped"]]
        if len(skipped) == self.shares.total:
            report_skipped(skipped, total=self.shares.total)  # raises
        empty = Pictures(results, under=results, total=self.shares.total, size=self.shares.size)
        with writer_for(self._detector, results, empty) as writer:
            writer.head()
        for name in (SCORES, LINES):
            with (results / name).open("ab") as whole:
                for share in range(len(self.shares)):
                    with (self.shares.place(share) / name).open("rb") as part:
                        shutil.copyfileobj(part, whole)
        return {
            "samples": sum(len(each["drawn"]) for each in found),
            "anomalous": sum(each["anomalous"] for each in found),
            "skipped": skipped,
        }

    def _states(self, share: int) -> list[list[list[int]]]:
        places = self.shares.samples(share)
        return states(self._inputs.dataset, self._inputs.records[places.start : places.stop])

    def _read(self, share: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.shares.place(share) / _SHARE).read_text(encoding="utf-8"))
        return found


def _move_files(folder: Path, to: Path) -> None:
    """Move all files below a folder to the same places below another, each at once."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        target = to / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)


def _region(values: Mapping[str, Any]) -> Region:
    return Region(**{**values, "box": tuple(values["box"]), "peak": tuple(values["peak"])})
