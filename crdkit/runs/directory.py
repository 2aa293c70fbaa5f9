"""A run directory: what is in it, and how it is written and read; `crdkit.runs.begin` begins one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crdkit._core.documents import parse_json
from crdkit._core.files import write_text
from crdkit.config.run_config import RunConfig
from crdkit.data import HOW_READ
from crdkit.errors import ConfigError, CrdkitError, UntrustedCodeError
from crdkit.report.data import ReportData
from crdkit.report.page import write_report
from crdkit.scoring.scorer import Maps
from crdkit.scoring.table import Judged, scores_csv
from crdkit.training import EpochLog
from crdkit.views.split import LoadedSplit


def require_same_config(folder: Path, config: RunConfig) -> bool:
    """Return whether a run of ``config`` was begun in ``folder``; how its data is read and cached may differ.

    Raises:
        ConfigError: a run of another configuration was begun there, or its config.yaml cannot be read.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        return False
    try:
        found = RunConfig.from_yaml(file)  # code that ``config`` names is trusted
    except UntrustedCodeError as error:
        raise ConfigError(
            f"{folder}: holds a run with another configuration, which names other code; "
            "resume with the same one, or choose a new folder"
        ) from error
    begun, wanted = (dict(flatten(run.model_dump(mode="json", exclude={"data": HOW_READ}))) for run in (found, config))
    for key in dict.fromkeys([*wanted, *begun]):
        if key not in begun or key not in wanted or begun[key] != wanted[key]:
            there, here = (repr(values[key]) if key in values else "not set" for values in (begun, wanted))
            raise ConfigError(
                f"{folder}: holds a run with another configuration: {key} is {there} there, but {here} now; "
                "resume with the same one, give --overwrite (overwrite=True) to replace it, or choose a new folder"
            )
    return True


def flatten(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the options of a configuration with their dotted names."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from flatten(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, values


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


def read_log(folder: Path) -> list[EpochLog]:
    """Return the epochs in a run's log.jsonl; none if it was not trained there.

    Raises:
        CrdkitError: the file cannot be read.
    """
    file = folder / "log.jsonl"
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    except (OSError, ValueError) as error:
        raise CrdkitError(f"{file}: cannot be read: {error}") from error


def write_results(
    folder: Path,
    *,
    config: RunConfig,
    metrics: Mapping[str, Any],
    maps: Maps,
    split: LoadedSplit,
    history: Sequence[EpochLog],
    decided: Sequence[Judged] | None = None,
) -> None:
    """Write scores.csv, and report.html with figures/."""
    table = scores_csv(maps, split.records, root=config.data.root, decided=decided)
    write_text(folder / "scores.csv", table)
    data = report_data(config=config, metrics=metrics, maps=maps, split=split, history=history, decided=decided)
    write_report(data, folder / "report.html", figures=folder / "figures")


def report_data(
    *,
    config: RunConfig,
    metrics: Mapping[str, Any],
    maps: Maps,
    split: LoadedSplit,
    history: Sequence[EpochLog],
    decided: Sequence[Judged] | None,
) -> ReportData:
    """Return what the report of a run shows."""
    return ReportData(
        title=config.data.category or (config.data.root or Path(config.data.name)).name,
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
        decided=decided,
        present=None if split.present is None else {name: has.cpu().numpy() for name, has in split.present.items()},
        notes=_report_notes(metrics),
        normals_only=metrics["counts"]["test"] is None,
    )


def _report_notes(metrics: Mapping[str, Any]) -> list[str]:
    """Return what a reader of the report must know about the data, and about students that were not trained here."""
    counts = metrics["counts"]
    notes = [f"{counts['skipped']} unreadable samples were left out"] if "skipped" in counts else []
    if "overlapping" in counts:
        notes.append(f"{counts['overlapping']} test samples are also in the training data (data.allow_overlap)")
    notes += [f"{count} test samples lack {name}" for name, count in counts.get("missing", {}).items()]
    return notes + ([f"students of {metrics['students']}, not trained here"] if "students" in metrics else [])


def finish(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics.json, whose presence marks the run as finished."""
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")


def _curve_point(log: EpochLog) -> dict[str, float]:
    """Return one epoch for the loss curve: the total and every modality's sum of terms."""
    branches = {f"loss {name}": sum(terms.values()) for name, terms in log["losses"].items()}
    return {"epoch": log["epoch"], "loss": log["loss"], "seconds": log["seconds"], **branches}


def is_finished(folder: Path) -> bool:
    """Return whether a run directory holds results."""
    return (folder / "metrics.json").exists()


def read_metrics(folder: Path | str) -> dict[str, Any]:
    """Return the metrics.json of a finished run.

    Raises:
        CrdkitError: the folder holds none, or it cannot be read.
    """
    file = Path(folder) / "metrics.json"
    try:
        metrics = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CrdkitError(f"{file}: cannot be read: {error}; give the folder of a finished run") from error
    if not isinstance(metrics, dict):
        raise CrdkitError(f"{file}: expected a mapping, found {metrics!r:.60}; give the folder of a finished run")
    return metrics
