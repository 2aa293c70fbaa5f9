"""Predictions on their way to the disk, one after the other: lines of both tables, and their pictures."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from crdkit.data import SampleRecord
from crdkit.detector._pictures import Pictures
from crdkit.detector.prediction import Prediction
from crdkit.scoring.table import decision_cells, decision_columns, score_columns, score_row

SCORES, LINES = "scores.csv", "predictions.jsonl"


class Writer:
    """Writes predictions; `Writer.into` opens and closes the files.

    Args:
        table: of scores.csv.
        lines: predictions.jsonl.
        pictures: takes the maps.
        branches: modalities of the detector, in order.
        flagged: whether samples may lack some of them.
    """

    def __init__(self, table: Any, lines: Any, pictures: Pictures, *, branches: Sequence[str], flagged: bool) -> None:
        self._table, self._lines, self.pictures = table, lines, pictures
        self._branches, self._flagged = branches, flagged
        self.anomalous = 0
        """Those that score above the detector's threshold."""

    @classmethod
    @contextmanager
    def into(cls, folder: Path, pictures: Pictures, *, branches: Sequence[str], flagged: bool) -> Iterator[Writer]:
        """Yield a writer whose tables lie in ``folder``."""
        with (
            (folder / SCORES).open("w", encoding="utf-8", newline="") as scores,
            (folder / LINES).open("w", encoding="utf-8") as lines,
        ):
            table = csv.writer(scores, lineterminator="\n")
            yield cls(table, lines, pictures, branches=branches, flagged=flagged)

    def head(self) -> None:
        """Write the header of scores.csv."""
        columns = [*score_columns(self._branches, flagged=False), *decision_columns(self._branches)]
        self._table.writerow([*columns, *(["missing"] if self._flagged else [])])

    def add(self, place: int, record: SampleRecord, picture: np.ndarray, found: Prediction, *, shown: str) -> None:
        """Write one prediction.

        Args:
            place: of the sample among all.
            record: the sample.
            picture: (H, W, 3) uint8.
            found: its prediction.
            shown: its name in tables.
        """
        by_branch = {name: found.scores.get(name) for name in self._branches}
        row = score_row(record, path=shown, score=found.score, branches=by_branch)
        row += decision_cells(found, self._branches)
        self._table.writerow([*row, " ".join(found.missing)] if self._flagged else row)
        self._lines.write(json.dumps({**found.to_dict(maps=False), "image_path": shown}) + "\n")
        self.pictures.add(place, record, picture, found)
        self.anomalous += found.label is True
