"""A complete run: load, train, calibrate, evaluate, and write everything down."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import crdkit
from crdkit.config import RunConfig
from crdkit.detector import Detector
from crdkit.errors import ConfigError, CrdkitError
from crdkit.evaluation import Maps, Scorer, calibrate, measure, score
from crdkit.model import CRD
from crdkit.report import ReportData, write_report
from crdkit.resident import ResidentSplit, TeacherFeatures, build_dataset, build_views, load_split
from crdkit.training import EpochLog, select_device, train

UNFINISHED = {"config.yaml", "log.jsonl"}
"""What a run that was interrupted leaves behind; the next run into the same folder replaces it."""


def fit(config: RunConfig, out: Path | str | None = None) -> Detector:
    """Train a detector on ``config.data``; with ``out``, write a complete run directory as well.

    Args:
        config: the run.
        out: new or empty folder for config.yaml, metrics.json, scores.csv, log.jsonl, report.html and
            detector/; None to train and calibrate only.

    Raises:
        ConfigError: the configuration lacks something, or this machine does.
        DataError: the data cannot be read.
        CrdkitError: ``out`` holds other files or cannot be written, or training diverged.
    """
    device = select_device(config.training.device)
    dataset, views = build_dataset(config), build_views(config)
    for split in ("train", "validation") if out is None else ("train", "validation", "test"):
        dataset.records(split)  # what is missing shows before anything is written or decoded
    folder = None if out is None else _prepare(Path(out), config)
    clock = _Clock()
    with clock("load"):
        normals = load_split(dataset, "train", views=views, device=device)
        validation = load_split(dataset, "validation", views=views, device=device)
        test = None if folder is None else load_split(dataset, "test", views=views, device=device)
    batch_size = config.training.batch_size
    with clock("teacher"):
        model = CRD.from_config(config).to(device)
        features = TeacherFeatures(
            model, normals.inputs, batch_size=batch_size, budget_gib=config.training.feature_cache_gib
        )
    history: list[EpochLog] = []
    with clock("train"), _log_to(folder) as write_line:

        def on_epoch(log: EpochLog) -> None:
            history.append(log)
            write_line(log)

        train(model, features, config.training, samples=len(normals), on_epoch=on_epoch)
    del features
    with clock("evaluate"):
        scorer = Scorer(config).to(device)
        calibrate(model, scorer, validation, batch_size=batch_size)
        detector = Detector(config=config, model=model, scorer=scorer)
        if folder is None or test is None:
            return detector
        maps = score(model, scorer, test, batch_size=batch_size)
        measured = measure(maps, test)
    metrics = _metrics(
        measured,
        seconds=clock.seconds,
        counts={"train": len(normals), "validation": len(validation), "test": len(test)},
        detector=detector,
    )
    detector.save(folder / "detector")
    write_results(folder, config=config, metrics=metrics, maps=maps, split=test, history=history)
    return detector


def evaluate_run(folder: Path | str, *overrides: str, out: Path | str | None = None) -> dict[str, Any]:
    """Return the metrics of a finished run's detector on the test split of a dataset.

    Args:
        folder: a run or a detector directory.
        overrides: ``data.*`` keys that differ from the run's, e.g. ``data.root=...``.
        out: new or empty folder for metrics.json, scores.csv, config.yaml and report.html.

    Raises:
        ConfigError: an override is not of ``data``.
        DetectorFormatError: ``folder`` holds no finished run.
        DataError: the data cannot be read.
    """
    for override in overrides:
        if not override.startswith("data."):
            raise ConfigError(
                f"override {override!r}: a finished run is evaluated on other data only, with data.* keys"
            )
    nested = Path(folder) / "detector"
    detector = Detector.load(nested if nested.exists() else folder)
    config = detector.config.with_overrides(*overrides)
    dataset = build_dataset(config)
    dataset.records("test")
    target = None if out is None else _prepare(Path(out), config)
    clock = _Clock()
    with clock("load"):
        split = load_split(dataset, "test", views=detector.views, device=detector.device)
    with clock("evaluate"):
        maps = score(detector.model, detector.scorer, split, batch_size=config.training.batch_size)
        measured = measure(maps, split)
    metrics = _metrics(measured, seconds=clock.seconds, counts={"test": len(split)}, detector=detector)
    if target is not None:
        write_results(target, config=config, metrics=metrics, maps=maps, split=split, history=[])
    return metrics


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


def write_results(
    folder: Path,
    *,
    config: RunConfig,
    metrics: Mapping[str, Any],
    maps: Maps,
    split: ResidentSplit,
    history: list[EpochLog],
) -> None:
    """Write scores.csv, report.html with figures/, and last metrics.json, which marks a finished run."""
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
    )
    write_report(data, folder / "report.html", figures=folder / "figures")
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")


def _curve_point(log: EpochLog) -> dict[str, float]:
    """Return one epoch for the loss curve: the total and every modality's sum of terms."""
    branches = {f"loss {name}": sum(terms.values()) for name, terms in log["losses"].items()}
    return {"epoch": log["epoch"], "loss": log["loss"], "seconds": log["seconds"], **branches}


def write_text(path: Path, text: str) -> None:
    """Write ``text`` so that ``path`` holds it whole or not at all.

    Raises:
        CrdkitError: the file cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise CrdkitError(f"{path}: cannot be written: {error.strerror or error}") from error


def _prepare(folder: Path, config: RunConfig) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = {entry.name for entry in folder.iterdir()}
        if found - UNFINISHED:
            raise CrdkitError(
                f"{folder}: is not empty (holds {', '.join(sorted(found)[:4])}); choose a new folder or empty this one"
            )
        (folder / "log.jsonl").unlink(missing_ok=True)
    except OSError as error:
        raise CrdkitError(f"{folder}: cannot be written: {error.strerror or error}") from error
    write_text(folder / "config.yaml", config.to_yaml())
    return folder


@contextmanager
def _log_to(folder: Path | None) -> Iterator[Any]:
    if folder is None:
        yield lambda log: None
        return
    with (folder / "log.jsonl").open("w", encoding="utf-8") as file:

        def write_line(log: EpochLog) -> None:
            file.write(json.dumps(log) + "\n")
            file.flush()

        yield write_line


def _scores_csv(config: RunConfig, maps: Maps, split: ResidentSplit) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    branches = list(maps.branches)
    writer.writerow(
        ["image_path", "defect_type", "gt_label", "pred_score", *(f"pred_score_{name}" for name in branches)]
    )
    scores = maps.pred_score.cpu().tolist()
    columns = [maps.branches[name].flatten(1).amax(dim=1).cpu().tolist() for name in branches]
    root = Path(config.data.root or ".")
    for row, record in enumerate(split.records):
        path = record.image_path
        shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
        label = "" if record.label is None else record.label
        values = [f"{value:.9g}" for value in (scores[row], *(column[row] for column in columns))]
        writer.writerow([shown, record.defect_type, label, *values])
    return text.getvalue()


def _metrics(
    measured: Mapping[str, Any], *, seconds: Mapping[str, float], counts: Mapping[str, int], detector: Detector
) -> dict[str, Any]:
    device = detector.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        **measured,
        "seconds": {
            **{key: round(value, 3) for key, value in seconds.items()},
            "total": round(sum(seconds.values()), 3),
        },
        "counts": dict(counts),
        "environment": {
            "device": f"{device.type} ({name}, {torch.get_num_threads()} threads)",
            "torch": torch.__version__,
            "crdkit": crdkit.__version__,
            "python": platform.python_version(),
        },
        "parameters": detector.model.count_parameters(),
    }


class _Clock:
    """Adds up wall-clock seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start
