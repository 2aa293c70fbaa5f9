"""Compares two finished runs on the samples of one test split."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crdkit.detector import Unusual
from crdkit.errors import CrdkitError, DataError
from crdkit.runs.evaluate import load_test_split, open_run
from crdkit.scoring.intervals import RESAMPLES, Difference, compare
from crdkit.scoring.table import shown_path


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same samples."""

    first: str
    second: str
    samples: Mapping[str, int]
    """How many are ``normal`` and ``anomalous``."""
    metrics: Mapping[str, Difference | None]
    """Of the fused map, by the names of metrics.json; None where a metric cannot be computed."""

    def to_dict(self) -> dict[str, Any]:
        """Return the document of ``crdkit compare --json``."""
        metrics = {name: None if found is None else found.to_dict() for name, found in self.metrics.items()}
        return {"first": self.first, "second": self.second, "samples": dict(self.samples), "metrics": metrics}


@dataclass(frozen=True)
class Scored:
    """What one run says of its N samples, in their order."""

    name: str
    paths: Sequence[str]
    """Of the samples; unique."""
    labels: NDArray[np.int64]
    """(N,) 0 or 1."""
    scores: NDArray[np.float64]
    """(N,) image scores."""
    maps: torch.Tensor | None = None
    """(N, S, S) fused maps; None: of images alone."""
    masks: torch.Tensor | None = None
    """(N, S, S) bool."""

    def rows_of(self, other: Scored) -> NDArray[np.int64]:
        """Return for each sample of ``other`` where it is here.

        Raises:
            DataError: the samples are not the same.
        """
        place = {path: row for row, path in enumerate(self.paths)}
        unlike = [path for path in other.paths if path not in place] or [p for p in self.paths if p not in other.paths]
        if unlike:
            owner = other if unlike[0] in other.paths else self
            raise DataError(
                f"{other.name} and {self.name} were scored on different test samples ({len(other.paths)} and "
                f"{len(self.paths)}): only {owner.name} has {unlike[0]}; compare runs on one test split"
            )
        return np.array([place[path] for path in other.paths])

    def in_order_of(self, other: Scored) -> Scored:
        """Return the same in the order of ``other``.

        Raises:
            DataError: the samples, their labels or their masks are not the same.
        """
        rows = self.rows_of(other)
        labels = self.labels[rows]
        if (labels != other.labels).any():
            path = other.paths[int(np.flatnonzero(labels != other.labels)[0])]
            raise DataError(f"{other.name} and {self.name} have different labels for {path}; compare on one test split")
        maps, masks = (None if held is None else held[torch.from_numpy(rows)] for held in (self.maps, self.masks))
        if maps is not None and other.maps is not None and maps.shape != other.maps.shape:
            raise DataError(
                f"the maps of {other.name} and {self.name} have {other.maps.shape[-1]} and {maps.shape[-1]} pixels a "
                "side; only image-level metrics can be compared (--image-level)"
            )
        if (masks is None) != (other.masks is None) or not (
            masks is None or other.masks is None or torch.equal(masks, other.masks)
        ):
            raise DataError(f"{other.name} and {self.name} have different masks; compare on one test split")
        return Scored(self.name, other.paths, labels, self.scores[rows], maps, masks)


def compare_runs(
    first: Path | str,
    second: Path | str,
    *overrides: str,
    image_level: bool = False,
    allow_plugins: bool = False,
    unusual: Unusual = "error",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Return how far the metrics of two runs differ on one test split; see `crdkit.metrics.compare`.

    Args:
        first: a run or a detector directory.
        second: another.
        overrides: as in `evaluate_run`, for both; e.g. ``data.root=...``.
        image_level: read the image scores from the scores.csv of both, and score nothing: the data are not needed.
        allow_plugins: as in `evaluate_run`.
        unusual: as in `evaluate_run`.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        DataError: the two were scored on different samples, or the data cannot be read.
        CrdkitError: a folder holds no finished run, or what `evaluate_run` raises.
    """
    if image_level and overrides:
        raise CrdkitError(
            f"override {overrides[0]!r}: nothing is scored at image level, the scores.csv of both runs is read"
        )
    names = [str(folder) for folder in (first, second)]
    if image_level:
        one, two = (_read(Path(folder)) for folder in names)
    else:
        one, two = (_score(name, *overrides, allow_plugins=allow_plugins, unusual=unusual) for name in names)
    return compare_scored(one, two, resamples=resamples, seed=seed)


def compare_scored(first: Scored, second: Scored, *, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Compare what two runs say of the same samples; see `compare_runs`.

    Raises:
        DataError: the samples, their labels or their masks are not the same.
    """
    second = second.in_order_of(first)
    found = compare(
        first.maps,
        second.maps,
        first.masks,
        (first.scores, second.scores),
        labels=first.labels,
        resamples=resamples,
        seed=seed,
    )
    anomalous = int(first.labels.sum())
    samples = {"normal": len(first.labels) - anomalous, "anomalous": anomalous}
    return Comparison(first=first.name, second=second.name, samples=samples, metrics=found)


def _score(folder: str, *overrides: str, allow_plugins: bool, unusual: Unusual) -> Scored:
    """Score the test split with a run's detector."""
    detector, run = open_run(folder, *overrides, allow_plugins=allow_plugins, unusual=unusual)
    load_test_split(detector, run)
    split = run.splits["test"]
    if split.labels is None:
        raise DataError(f"{run.config.data.root}: the test samples have no labels, so nothing can be measured")
    maps = detector.score(split)
    return Scored(
        name=folder,
        paths=[shown_path(record, run.config.data.root) for record in split.records],
        labels=np.asarray(split.labels, dtype=np.int64),
        scores=maps.pred_score.cpu().numpy().astype(float),
        maps=maps.anomaly_map.cpu(),
        masks=split.masks,
    )


def _read(folder: Path) -> Scored:
    """Read the image scores of a run."""
    file = folder / "scores.csv"
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        return Scored(
            name=str(folder),
            paths=[row["image_path"] for row in rows],
            labels=np.array([int(row["gt_label"]) for row in rows], dtype=np.int64),
            scores=np.array([float(row["pred_score"]) for row in rows]),
        )
    except FileNotFoundError as error:
        raise CrdkitError(f"{folder} holds no scores.csv; give the directory of a finished run") from error
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as the scores of labelled samples: {error}") from error
