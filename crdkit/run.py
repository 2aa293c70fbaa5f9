"""A complete run: load, train, calibrate, evaluate, and write everything down."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import crdkit
from crdkit.checkpoint import Checkpoints, require_same_config
from crdkit.config import RunConfig
from crdkit.datasets import Split
from crdkit.detector import Detector
from crdkit.errors import ConfigError
from crdkit.evaluation import Scorer, calibrate, measure, score
from crdkit.files import write_text
from crdkit.model import CRD
from crdkit.placement import Placement, place
from crdkit.progress import say
from crdkit.reference import load_into, read_checkpoint
from crdkit.resident import (
    ResidentSplit,
    TeacherFeatures,
    Views,
    build_dataset,
    build_views,
    bytes_per_sample,
    list_records,
    load_split,
)
from crdkit.run_directory import finish, log_to, prepare_folder, write_results
from crdkit.training import EpochLog, select_device, train, uses_bf16

RESUMED = {"config.yaml", "checkpoints"}
"""What is left of them when an unfinished run goes on."""

PHASES = ("load", "teacher", "train", "evaluate")
HOST = torch.device("cpu")
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
    folder = None if out is None else prepare_folder(Path(out), keep=RESUMED if resume else ())
    if folder is not None:
        write_text(folder / "config.yaml", config.to_yaml())
    clock = _Clock()
    with clock("load"):
        splits: dict[str, ResidentSplit] = {
            split: load_split(dataset, split, views=views, device=HOST, incomplete=incomplete and split == "test")
            for split in (SPLITS[:2] if folder is None else SPLITS)
        }
    with clock("teacher"):
        model = CRD.from_config(config).to(device)
    with clock("load"):
        splits, placement = _place(splits, config, model=model, device=device)
    history = _train_students(
        model, splits["train"], config=config, placement=placement, views=views, folder=folder, clock=clock
    )
    with clock("evaluate"):
        calibrate(model, scorer, splits["validation"], batch_size=config.training.batch_size)
    detector = Detector(config=config, model=model, scorer=scorer)
    if folder is not None:
        _score_and_write(detector, folder, splits=splits, placement=placement, clock=clock, history=history)
    return detector


def _score_and_write(
    detector: Detector,
    folder: Path | None,
    *,
    splits: Mapping[str, ResidentSplit],
    placement: Placement,
    clock: _Clock,
    history: list[EpochLog],
    students: str | None = None,
) -> dict[str, Any]:
    """Score the test split; write results and detector below ``folder``, if there is one, and return the metrics."""
    config, test = detector.config, splits["test"]
    with clock("evaluate"):
        maps = score(detector.model, detector.scorer, test, batch_size=config.training.batch_size)
        measured = measure(maps, test, sampled_thresholds=config.scoring.sampled_thresholds)
    metrics = _metrics(measured, seconds=clock.seconds, splits=splits, placement=placement, detector=detector)
    if students is not None:
        metrics["students"] = students
    if folder is not None:
        write_results(folder, config=config, metrics=metrics, maps=maps, split=test, history=history)
        detector.save(folder / "detector")
        finish(folder, metrics)
    return metrics


def _place(
    splits: Mapping[str, ResidentSplit], config: RunConfig, *, model: CRD, device: torch.device
) -> tuple[dict[str, ResidentSplit], Placement]:
    """Choose what is kept where, say so, and bring the splits' views from host memory to their places."""
    options = config.training
    sizes = {name: sum(tensor.nbytes for tensor in split.inputs.values()) for name, split in splits.items()}
    per_sample = bytes_per_sample(model, _feature_dtype(config, device))
    placement = place(
        sizes,
        features=len(splits["train"]) * per_sample if "train" in splits else None,
        device=device,
        budget=int(options.resident_gib * 2**30),
        pinned=int(options.pinned_gib * 2**30),
    )
    for line in placement.describe(device):
        say(line)
    return {name: split.at(placement.views_at[name], device) for name, split in splits.items()}, placement


def _feature_dtype(config: RunConfig, device: torch.device) -> torch.dtype:
    return torch.bfloat16 if uses_bf16(config.training, device) else torch.float32


def _train_students(
    model: CRD,
    normals: ResidentSplit,
    *,
    config: RunConfig,
    placement: Placement,
    views: Views,
    folder: Path | None,
    clock: _Clock,
) -> list[EpochLog]:
    """Train on teacher features, and return the log of all epochs; log and checkpoints go below ``folder``.

    Epochs that an interrupted run has trained count with the seconds that they took there.
    """
    options = config.training
    with clock("teacher"):
        features = TeacherFeatures(
            model,
            normals.inputs,
            batch_size=options.batch_size,
            level=placement.features_at or "recomputed",
            dtype=_feature_dtype(config, next(model.branches.parameters()).device),
        )
    checkpoints = None if folder is None else Checkpoints(folder / "checkpoints")
    history: list[EpochLog] = []
    with clock("train"), log_to(folder) as write_line:

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
    # the detector's own options stay, whatever the recipe chooses for another category
    config = detector.config.with_overrides("by_category={}", *overrides)
    detector.to(config.training.device)
    dataset = build_dataset(config)
    incomplete = config.training.modality_dropout > 0
    list_records(dataset, "test", views=detector.views, incomplete=incomplete)
    target = None if out is None else prepare_folder(Path(out))
    clock = _Clock()
    with clock("load"):
        loaded = load_split(dataset, "test", views=detector.views, device=HOST, incomplete=incomplete)
        splits, placement = _place({"test": loaded}, config, model=detector.model, device=detector.device)
    split = splits["test"]
    with clock("evaluate"):
        maps = score(detector.model, detector.scorer, split, batch_size=config.training.batch_size)
        measured = measure(maps, split, sampled_thresholds=config.scoring.sampled_thresholds)
    metrics = _metrics(measured, seconds=clock.seconds, splits=splits, placement=placement, detector=detector)
    if target is not None:
        write_results(target, config=config, metrics=metrics, maps=maps, split=split, history=[])
        finish(target, metrics)
    return metrics


def evaluate_published(config: RunConfig, checkpoint: Path | str, out: Path | str | None = None) -> dict[str, Any]:
    """Return the metrics of a checkpoint of the published CRD code: calibrated on validation normals, then scored.

    Args:
        config: the run that the students were trained for; its teachers are built, nothing is trained.
        checkpoint: what `crdkit.reference.read_checkpoint` reads.
        out: new or empty folder for a run directory without log.jsonl and checkpoints/.

    Raises:
        DetectorFormatError: the checkpoint cannot be read, or its students are not those of ``config``.
        ConfigError: the configuration lacks something, or this machine does.
        DataError: the data cannot be read.
        CrdkitError: ``out`` holds other files or cannot be written.
    """
    students = read_checkpoint(checkpoint)
    model = CRD.from_config(config)
    load_into(model, students)
    return _score_students(config, model, out, students=str(checkpoint))


def rescore(config: RunConfig, run: Path | str, out: Path | str) -> dict[str, Any]:
    """Write to ``out`` what `fit` would give for ``config``, with the students of a finished run of `same_students`.

    The run directory has no log.jsonl and no checkpoints/, and its seconds are of reading and scoring alone.

    Raises:
        DetectorFormatError: ``run`` holds no detector.
        DataError: the data cannot be read.
        CrdkitError: ``out`` holds other files or cannot be written.
    """
    detector = Detector.load(Path(run) / "detector", device=config.training.device)
    return _score_students(config, detector.model, out, students=str(run))


def same_students(one: RunConfig, other: RunConfig) -> bool:
    """Return whether two runs train the same students: all that differs is how maps are fused and scored.

    Examples:
        >>> quick = RunConfig.preset("quick")
        >>> same_students(quick, quick.with_overrides("aggregation.name=max", "scoring.sigma=2"))
        True
        >>> same_students(quick, quick.with_overrides("training.epochs=3"))
        False
    """
    return one.model_copy(update={"aggregation": other.aggregation, "scoring": other.scoring}) == other


def _score_students(config: RunConfig, model: CRD, out: Path | str | None, *, students: str) -> dict[str, Any]:
    """Calibrate a trained model and score it; metrics and report say where its students are from."""
    device = select_device(config.training.device)
    dataset, views = build_dataset(config), build_views(config)
    scorer = Scorer(config).to(device)
    incomplete = config.training.modality_dropout > 0
    for split in SPLITS[1:]:
        list_records(dataset, split, views=views, incomplete=incomplete and split == "test")
    folder = None if out is None else prepare_folder(Path(out))
    if folder is not None:
        write_text(folder / "config.yaml", config.to_yaml())
    clock = _Clock()
    with clock("load"):
        splits: dict[str, ResidentSplit] = {
            split: load_split(dataset, split, views=views, device=HOST, incomplete=incomplete and split == "test")
            for split in SPLITS[1:]
        }
        splits, placement = _place(splits, config, model=model.to(device), device=device)
    with clock("evaluate"):
        calibrate(model, scorer, splits["validation"], batch_size=config.training.batch_size)
    detector = Detector(config=config, model=model, scorer=scorer)
    return _score_and_write(
        detector, folder, splits=splits, placement=placement, clock=clock, history=[], students=students
    )


def _metrics(
    measured: Mapping[str, Any],
    *,
    seconds: Mapping[str, float],
    splits: Mapping[str, ResidentSplit],
    placement: Placement,
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
        "resident": placement.to_dict(cached=[name for name, split in splits.items() if split.cached]),
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
