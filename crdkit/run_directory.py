"""A run directory: what is in it, and how it is begun, written and read."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crdkit.config import RunConfig
from crdkit.datasets import SampleRecord
from crdkit.errors import CrdkitError
from crdkit.evaluation import Maps
from crdkit.files import PARTIAL, write_text
from crdkit.report import ReportData, write_report
from crdkit.resident import ResidentSplit
from crdkit.training import EpochLog

OURS = {"config.yaml", "log.jsonl", "scores.csv", "report.html", "figures", "detector", "checkpoints"}
"""What a run writes before metrics.json; without that file it is unfinished, and the next run replaces it."""


def prepare_folder(folder: Path, *, keep: Collection[str] = ()) -> Path:
    """Make ``folder``, or empty it of what an unfinished run of ours left there, but for the names in ``keep``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = {entry.name for entry in folder.iterdir()}
        if found and not _unfinished(found):
            raise CrdkitError(
                f"{folder}: is not empty (holds {', '.join(sorted(found)[:4])}); choose a new folder or empty this one"
            )
        # config.yaml last: without it nothing here is known to be ours
        for name in sorted(found.difference(keep), key=lambda name: name == "config.yaml"):
            entry = folder / name
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    except OSError as error:
        raise CrdkitError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return folder


def _unfinished(names: set[str]) -> bool:
    # a detector alone may be somebody's copy; beside the other files of a run it is ours
    partial = {name for name in names if name.startswith(".") and name.endswith(PARTIAL)}
    return names - partial <= OURS and bool(names & {"config.yaml", "scores.csv"})


@contextmanager
def log_to(folder: Path | None) -> Iterator[Callable[[EpochLog], None]]:
    """Yield a function that appends one epoch to a new log.jsonl in ``folder``; without a folder it does nothing."""
    if folder is None:
        yield lambda log: None
        return
    with (folder / "log.jsonl").open("w", encoding="utf-8") as file:

        def write_line(log: EpochLog) -> None:
            file.write(json.dumps(log) + "\n")
            file.flush()

        yield write_line


def write_results(
    folder: Path,
    *,
    config: RunConfig,
    metrics: Mapping[str, Any],
    maps: Maps,
    split: ResidentSplit,
    history: list[EpochLog],
) -> None:
    """Write scores.csv, and report.html with figures/."""
    write_text(folder / "scores.csv", _scores_csv(config, maps, split))
    data = ReportData(
        title=config.data.category or config.data.name,
        subtitle=" + ".join(config.modalities),
        metrics=metrics,
        config_yaml=config.to_yaml(),
        sample_ids=[record.sample_id for record in split.records],
        defect_types=[record.defect_type for record in split.records],
        labels=split.labels,
        scores=maps.pred_score.cpu().numpy(),
        maps=maps.anomaly_map.cpu().numpy(),
        branch_maps={name: values.cpu().numpy() for name, values in maps.branches.items()},
        masks=None if split.masks is None else split.masks.numpy(),
        inputs={name: values.cpu().numpy() for name, values in split.inputs.items()},
        history=[_curve_point(log) for log in history],
        notes=_notes(metrics),
    )
    write_report(data, folder / "report.html", figures=folder / "figures")


def _notes(metrics: Mapping[str, Any]) -> list[str]:
    """Return what a reader of the report must know of the data, and of students that were not trained here."""
    counts = metrics["counts"]
    notes = [f"{counts['skipped']} unreadable samples were left out"] if "skipped" in counts else []
    notes += [f"{count} test samples lack {name}" for name, count in counts.get("missing", {}).items()]
    return notes + ([f"students of {metrics['students']}, not trained here"] if "students" in metrics else [])


def finish(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics.json, whose presence says that the run is finished."""
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")


def _curve_point(log: EpochLog) -> dict[str, float]:
    """Return one epoch for the loss curve: the total and every modality's sum of terms."""
    branches = {f"loss {name}": sum(terms.values()) for name, terms in log["losses"].items()}
    return {"epoch": log["epoch"], "loss": log["loss"], "seconds": log["seconds"], **branches}


def read_metrics(folder: Path | str) -> dict[str, Any]:
    """Return the metrics.json of a finished run.

    Raises:
        CrdkitError: the folder holds none, or it cannot be read.
    """
    file = Path(folder) / "metrics.json"
    try:
        metrics: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CrdkitError(f"{file}: cannot be read: {error}; give the folder of a finished run") from error
    return metrics


def score_columns(branches: Sequence[str], *, flagged: bool) -> list[str]:
    """Return the header of scores.csv; with ``flagged``, its last column names the modalities that a sample lacks."""
    columns = ["image_path", "defect_type", "gt_label", "pred_score", *(f"pred_score_{name}" for name in branches)]
    return [*columns, "missing"] if flagged else columns


def shown_path(record: SampleRecord, root: Path | None) -> str:
    """Return how a sample is called in tables: its first file, relative to ``root`` if it lies there."""
    path = record.image_path
    return (path.relative_to(root) if root is not None and path.is_relative_to(root) else path).as_posix()


def score_row(
    record: SampleRecord, *, path: str, score: float, branches: Mapping[str, float | None]
) -> list[str | int]:
    """Return a sample's row of scores.csv, but for the column ``missing``; None stands for a missing branch."""
    label = "" if record.label is None else record.label
    cells = ["" if value is None else f"{value:.9g}" for value in (score, *branches.values())]
    return [path, record.defect_type, label, *cells]


def _scores_csv(config: RunConfig, maps: Maps, split: ResidentSplit) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    flagged = maps.present is not None
    writer.writerow(score_columns(list(maps.branches), flagged=flagged))
    scores = maps.pred_score.cpu().tolist()
    columns = {name: values.flatten(1).amax(dim=1).cpu().tolist() for name, values in maps.branches.items()}
    present = {name: has.tolist() for name, has in (maps.present or {}).items()}
    root = Path(config.data.root or ".")
    for row, record in enumerate(split.records):
        missing = [name for name in columns if flagged and not present[name][row]]
        branches = {name: None if name in missing else column[row] for name, column in columns.items()}
        cells = score_row(record, path=shown_path(record, root), score=scores[row], branches=branches)
        writer.writerow([*cells, " ".join(missing)] if flagged else cells)
    return text.getvalue()
