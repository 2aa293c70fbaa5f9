"""scores.csv: one line per sample, under anomalib's names where one exists."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from crdkit.data import SampleRecord
from crdkit.scoring.regions import Region
from crdkit.scoring.scorer import Maps

DECISION = ("pred_label", "threshold", "p_value", "regions", "region_box", "region_modality")
"""Columns of a decision; ``regions`` is their number, the box (top left bottom right) is that of the highest one."""


class Judged(Protocol):
    """What is known of a sample besides its scores; a prediction is one."""

    @property
    def label(self) -> bool | None:
        """Whether it is anomalous."""

    @property
    def threshold(self) -> float | None:
        """Of its score."""

    @property
    def p_value(self) -> float | None:
        """Of its score."""

    @property
    def mask(self) -> np.ndarray | None:
        """None without a pixel threshold."""

    @property
    def pixel_threshold(self) -> float | None:
        """Of the fused map."""

    @property
    def regions(self) -> Sequence[Region]:
        """Of the mask, the highest first."""

    @property
    def attribution(self) -> Mapping[str, float] | None:
        """By modality."""

    @property
    def attribution_paths(self) -> Mapping[str, Mapping[str, float]] | None:
        """By modality and branch."""

    @property
    def attribution_sensors(self) -> Mapping[str, float] | None:
        """By sensor."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was decided of a sample: plain values."""

    label: bool | None
    threshold: float | None
    p_value: float | None
    mask: np.ndarray | None
    pixel_threshold: float | None
    regions: Sequence[Region]
    attribution: Mapping[str, float] | None
    attribution_paths: Mapping[str, Mapping[str, float]] | None
    attribution_sensors: Mapping[str, float] | None


def decision_columns(branches: Sequence[str]) -> list[str]:
    """Return the names of the columns that `decision_cells` fills."""
    return [*DECISION, *(f"attribution_{name}" for name in branches)]


def decision_cells(found: Judged, branches: Sequence[str]) -> list[str | int]:
    """Return a sample's decision; empty where there are no thresholds, no region, or no attribution."""
    judged = ["" if value is None else f"{value:.9g}" for value in (found.label, found.threshold, found.p_value)]
    top = found.regions[0] if found.regions else None
    shares = found.attribution or {}
    return [
        *judged,
        "" if found.mask is None else len(found.regions),
        "" if top is None else " ".join(map(str, top.box)),
        "" if top is None else top.modality,
        *(f"{shares[name]:.6g}" if name in shares else "" for name in branches),
    ]


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


def scores_csv(
    maps: Maps, records: Sequence[SampleRecord], *, root: Path | None, decided: Sequence[Judged] | None = None
) -> str:
    """Return the table of a scored split; paths are relative to ``root``, and decisions make the last columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    flagged = maps.present is not None
    names = list(maps.branches)
    header = score_columns(names, flagged=flagged)
    writer.writerow(header if decided is None else [*header, *decision_columns(names)])
    scores = maps.pred_score.cpu().tolist()
    columns = {name: values.flatten(1).amax(dim=1).cpu().tolist() for name, values in maps.branches.items()}
    present = {name: has.tolist() for name, has in (maps.present or {}).items()}
    for row, record in enumerate(records):
        missing = [name for name in columns if flagged and not present[name][row]]
        branches = {name: None if name in missing else column[row] for name, column in columns.items()}
        cells = score_row(record, path=shown_path(record, root or Path()), score=scores[row], branches=branches)
        cells = [*cells, " ".join(missing)] if flagged else cells
        writer.writerow(cells if decided is None else [*cells, *decision_cells(decided[row], names)])
    return text.getvalue()
