"""Score again what is trained already: a finished run on other data, published students, another aggregation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crdkit.config import RunConfig
from crdkit.detector import Detector
from crdkit.detector_header import detector_folder
from crdkit.errors import ConfigError
from crdkit.evaluation import Scorer, calibrate
from crdkit.files import write_text
from crdkit.model import CRD
from crdkit.phases import SPLITS, Clock, list_splits, load_splits, measure_run, place_splits
from crdkit.reference import load_into, read_checkpoint
from crdkit.resident import build_dataset, build_views
from crdkit.run_directory import finish, prepare_folder, write_results
from crdkit.training import select_device


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
    detector = Detector.load(detector_folder(folder), device="cpu")
    # the detector's own options stay, whatever the recipe chooses for another category
    config = detector.config.with_overrides("by_category={}", *overrides)
    detector.to(config.training.device)
    dataset = build_dataset(config)
    incomplete = config.training.modality_dropout > 0
    list_splits(dataset, ["test"], views=detector.views, incomplete=incomplete)
    target = None if out is None else prepare_folder(Path(out))
    clock = Clock()
    with clock("load"):
        loaded = load_splits(dataset, ["test"], views=detector.views, incomplete=incomplete)
        splits, placement = place_splits(loaded, config, model=detector.model, device=detector.device)
    metrics, maps = measure_run(detector, splits, placement=placement, clock=clock)
    if target is not None:
        write_results(target, config=config, metrics=metrics, maps=maps, split=splits["test"], history=[])
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
    list_splits(dataset, SPLITS[1:], views=views, incomplete=incomplete)
    folder = None if out is None else prepare_folder(Path(out))
    if folder is not None:
        write_text(folder / "config.yaml", config.to_yaml())
    clock = Clock()
    with clock("load"):
        loaded = load_splits(dataset, SPLITS[1:], views=views, incomplete=incomplete)
        splits, placement = place_splits(loaded, config, model=model.to(device), device=device)
    with clock("evaluate"):
        calibrate(model, scorer, splits["validation"], batch_size=config.training.batch_size)
    detector = Detector(config=config, model=model, scorer=scorer)
    metrics, maps = measure_run(detector, splits, placement=placement, clock=clock)
    metrics["students"] = students
    if folder is not None:
        write_results(folder, config=config, metrics=metrics, maps=maps, split=splits["test"], history=[])
        detector.save(folder / "detector")
        finish(folder, metrics)
    return metrics
