"""A complete run: load, train, calibrate, evaluate, and write everything down."""

from __future__ import annotations

import csv
import io
import json
import platform
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import crdkit
from crdkit.checkpoint import Checkpoints, require_same_config
from crdkit.config import RunConfig
from crdkit.datasets import Split
from crdkit.detector import Detector
from crdkit.errors import ConfigError, CrdkitError
from crdkit.evaluation import Maps, Scorer, calibrate, measure, score
from crdkit.files import PARTIAL, write_text
from crdkit.model import CRD
from crdkit.progress import say
from crdkit.report import ReportData, write_report
from crdkit.resident import (
    ResidentSplit,
    TeacherFeatures,
    Views,
    build_dataset,
    build_views,
    list_records,
    load_split,
)
from crdkit.training import EpochLog, select_device, train, uses_bf16

OURS = {"config.yaml", "log.jsonl", "scores.csv", "report.html", "figures", "detector", "checkpoints"}
"""What a run writes before metrics.json; without that file it is unfinished, and the next run replaces it."""

RESUMED = {"config.yaml", "checkpoints"}
"""What is left of them when an unfinished run goes on."""

PHASES = ("load", "teacher", "train", "evaluate")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def fit(config: RunConfig, out: Path | str | None = None, *, resume: bool = False) -> Detector:
    """Train a detector on ``config.data``; with ``out``, write a complete run directory as well.

    Args:
        config: the run.
        out: new or empty folder for config.yaml, metrics.json, scores.csv, log.jsonl, report.html and
            detector/; None to train and calibrate only. What an unfinished run left there is replaced.
        resume: go on from the newest checkpoint of an unfinished run in ``out``, to the same result as without the
            interruption; leave a finished run as it is.

    Raises:
        ConfigError: the configuration lacks something, or this machine does; or the run to resume has another one.
        DetectorFormatError: the checkpoint to resume from is damaged.
        DataError: the data cannot be read.
        CrdkitError: ``out`` holds other files or cannot be written, or training diverged.
    """
    if resume and out is not None and require_same_config(Path(out), config) and (Path(out) / "metrics.json").exists():
        say(f"{out}: this run is finished already")
        return Detector.load(Path(out) / "detector", device=config.training.device)
    device = select_device(config.training.device)
    dataset, views = build_dataset(config), build_views(config)
    scorer = Scorer(config).to(device)
    incomplete = config.training.modality_dropout > 0
    for split in SPLITS[:2] if out is None else SPLITS:  # what is missing shows before anything is written or decoded
        list_records(dataset, split, views=views, incomplete=incomplete and split == "test")
    folder = None if out is None else _prepare(Path(out), keep=RESUMED if resume else ())
    if folder is not None:
        write_text(folder / "config.yaml", config.to_yaml())
    clock = _Clock()
    with clock("load"):
        normals = load_split(dataset, "train", views=views, device=device)
        validation = load_split(dataset, "validation", views=views, device=device)
        test = (
            None if folder is None else load_split(dataset, "test", views=views, device=device, incomplete=incomplete)
        )
    with clock("teacher"):
        model = CRD.from_config(config).to(device)
    history = _train_students(model, normals, config=config, views=views, folder=folder, clock=clock)
    batch_size = config.training.batch_size
    with clock("evaluate"):
        calibrate(model, scorer, validation, batch_size=batch_size)
        detector = Detector(config=config, model=model, scorer=scorer)
        if folder is None or test is None:
            return detector
        maps = score(model, scorer, test, batch_size=batch_size)
        measured = measure(maps, test, sampled_thresholds=config.scoring.sampled_thresholds)
    splits = {"train": normals, "validation": validation, "test": test}
    metrics = _metrics(measured, seconds=clock.seconds, splits=splits, detector=detector)
    write_results(folder, config=config, metrics=metrics, maps=maps, split=test, history=history)
    detector.save(folder / "detector")
    _finish(folder, metrics)
    return detector


def _train_students(
    model: CRD, normals: ResidentSplit, *, config: RunConfig, views: Views, folder: Path | None, clock: _Clock
) -> list[EpochLog]:
    """Train on kept teacher features, and return the log of all epochs; log and checkpoints go below ``folder``.

    Epochs that an interrupted run has trained count with the seconds that they took there.
    """
    options = config.training
    with clock("teacher"):
        features = TeacherFeatures(
            model, normals.inputs, batch_size=options.batch_size, budget_gib=options.feature_cache_gib
        )
    checkpoints = None if folder is None else Checkpoints(folder / "checkpoints")
    history: list[EpochLog] = []
    with clock("train"), _log_to(folder) as write_line:

        def on_epoch(log: EpochLog) -> None:
            history.append(log)
            write_line(log)

        train(
            model,
            features,
            options,
            samples=len(normals),
            on_epoch=on_epoch,
            sensors={name: view.sensors for name, view in views.items()},
            checkpoints=checkpoints,
        )
    if checkpoints is not None:
        clock.seconds["train"] += sum(log["seconds"] for log in history[: checkpoints.restored])
    return history


def evaluate_run(folder: Path | str, *overrides: str, out: Path | str | None = None) -> dict[str, Any]:
    """Return the metrics of a finished run's detector on the test split of a dataset.

    Args:
        folder: a run or a detector directory.
        overrides: ``data.*`` keys that differ from the run's, e.g. ``data.root=...``; ``training.device`` as well.
        out: new or empty folder for metrics.json, scores.csv and report.html.

    Raises:
        ConfigError: an override is of anything else, or of the image size, which belongs to the detector.
        DetectorFormatError: ``folder`` holds no finished run.
        DataError: the data cannot be read.
    """
    for override in overrides:
        key = override.partition("=")[0]
        if key == "data.image_size":
            raise ConfigError(f"override {override!r}: the image size belongs to the detector; train one at that size")
        if not key.startswith("data.") and key != "training.device":
            raise ConfigError(
                f"override {override!r}: a finished run is evaluated on other data only, with data.* keys"
            )
    nested = Path(folder) / "detector"
    detector = Detector.load(nested if nested.exists() else folder, device="cpu")
    config = detector.config.with_overrides(*overrides)
    detector.to(config.training.device)
    dataset = build_dataset(config)
    incomplete = config.training.modality_dropout > 0
    list_records(dataset, "test", views=detector.views, incomplete=incomplete)
    target = None if out is None else _prepare(Path(out))
    clock = _Clock()
    with clock("load"):
        split = load_split(dataset, "test", views=detector.views, device=detector.device, incomplete=incomplete)
    with clock("evaluate"):
        maps = score(detector.model, detector.scorer, split, batch_size=config.training.batch_size)
        measured = measure(maps, split, sampled_thresholds=config.scoring.sampled_thresholds)
    metrics = _metrics(measured, seconds=clock.seconds, splits={"test": split}, detector=detector)
    if target is not None:
        write_results(target, config=config, metrics=metrics, maps=maps, split=split, history=[])
        _finish(target, metrics)
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
        notes=_notes(metrics["counts"]),
    )
    write_report(data, folder / "report.html", figures=folder / "figures")


def _notes(counts: Mapping[str, Any]) -> list[str]:
    """Return what a reader of the report must know of the data."""
    notes = [f"{counts['skipped']} unreadable samples were left out"] if "skipped" in counts else []
    missing = counts.get("missing", {})
    return notes + [f"{count} test samples lack {name}" for name, count in missing.items()]


def _finish(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics.json, whose presence says that the run is finished."""
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")


def _curve_point(log: EpochLog) -> dict[str, float]:
    """Return one epoch for the loss curve: the total and every modality's sum of terms."""
    branches = {f"loss {name}": sum(terms.values()) for name, terms in log["losses"].items()}
    return {"epoch": log["epoch"], "loss": log["loss"], "seconds": log["seconds"], **branches}


def _prepare(folder: Path, *, keep: Collection[str] = ()) -> Path:
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
    header = ["image_path", "defect_type", "gt_label", "pred_score", *(f"pred_score_{name}" for name in branches)]
    writer.writerow(header if maps.present is None else [*header, "missing"])
    scores = maps.pred_score.cpu().tolist()
    columns = [maps.branches[name].flatten(1).amax(dim=1).cpu().tolist() for name in branches]
    present = {name: has.tolist() for name, has in (maps.present or {}).items()}
    root = Path(config.data.root or ".")
    for row, record in enumerate(split.records):
        path = record.image_path
        shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
        label = "" if record.label is None else record.label
        values = [f"{value:.9g}" for value in (scores[row], *(column[row] for column in columns))]
        missing = [name for name in branches if present and not present[name][row]]
        values[1:] = ["" if name in missing else value for name, value in zip(branches, values[1:], strict=True)]
        writer.writerow([shown, record.defect_type, label, *values, *([" ".join(missing)] if present else [])])
    return text.getvalue()


def _metrics(
    measured: Mapping[str, Any],
    *,
    seconds: Mapping[str, float],
    splits: Mapping[str, ResidentSplit],
    detector: Detector,
) -> dict[str, Any]:
    """Return the content of metrics.json; a phase or split that a run did not have is None."""
    device = detector.device
    precision = "bf16" if uses_bf16(detector.config.training, device) else "fp32"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    skipped = sum(split.skipped for split in splits.values())
    present = splits["test"].present or {}
    missing = {name: int((~has).sum()) for name, has in present.items() if not has.all()}
    return {
        **measured,
        "seconds": {
            **{phase: round(seconds[phase], 3) if phase in seconds else None for phase in PHASES},
            "total": round(sum(seconds.values()), 3),
        },
        "counts": {
            **{split: len(splits[split]) if split in splits else None for split in SPLITS},
            **({"skipped": skipped} if skipped else {}),
            **({"missing": missing} if missing else {}),
        },
        "environment": {
            "device": f"{device.type} ({name}, {torch.get_num_threads()} threads, {precision})",
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
