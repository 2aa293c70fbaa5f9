"""scores.csv: one line per sample, under anomalib's names where one exists."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from crdkit.data import SampleRecord
from crdkit.scoring.scorer import Maps


def score_columns(branches: Sequence[str], *, flagged: bool) -> list[str]:
    """Return the header of scores.csv; with ``flagged``, its last column names the modalities that a sample lacks."""
    columns = ["image_path", "defect_type", "gt_label", "pred_score", *(f"pred_score_{name}" for name in branches)]
    return [*columns, "missing"] if flagged else columns


def shown_path(record: SampleRecord, root: Path | None) -> str:
    """Return the name of a sample in tables: its first file, relative to ``root`` if it lies there."""
    path = record.image_path
    return (path.relative_to(root) if root is not None and path.is_relative_to(root) else path).as_posix()


def score_row(
    record: SampleRecord, *, path: str, score: float, branches: Mapping[str, float | None]
) -> list[str | int]:
    """Return a sample's row of scores.csv, without the column ``missing``; None stands for a missing branch."""
    label = "" if record.label is None else record.label
    cells = ["" if value is None else f"{value:.9g}" for value in (score, *branches.values())]
    return [path, record.defect_type, label, *cells]


def scores_csv(maps: Maps, records: Sequence[SampleRecord], *, root: Path | None) -> str:
    """Return the table of a scored split; paths are relative to ``root``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    flagged = maps.present is not None
    writer.writerow(score_columns(list(maps.branches), flagged=flagged))
    scores = maps.pred_score.cpu().tolist()
    columns = {name: values.flatten(1).amax(dim=1).cpu().tolist() for name, values in maps.branches.items()}
    present = {name: has.tolist() for name, has in (maps.present or {}).items()}
    for row, record in enumerate(records):
        missing = [name for name in columns if flagged and not present[name][row]]
        branches = {name: None if name in missing else column[row] for name, column in columns.items()}
        cells = score_row(record, path=shown_path(record, root or Path()), score=scores[row], branches=branches)
        writer.writerow([*cells, " ".join(missing)] if flagged else cells)
    return text.getvalue()
