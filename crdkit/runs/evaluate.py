"""Scores trained students again: a finished run on other data, or with another aggregation."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from crdkit._core.device import select_device
from crdkit.config.build import build_dataset
from crdkit.config.run_config import RunConfig
from crdkit.data import SPLITS, SampleRecord, Split
from crdkit.detector import Detector, Unusual
from crdkit.detector.files import load_detector
from crdkit.errors import ConfigError, CrdkitError, MissingSplitError
from crdkit.model.crd import CRD
from crdkit.runs._pipeline import Pipeline
from crdkit.runs.begin import prepare_folder


def evaluate_run(
    folder: Path | str,
    *overrides: str,
    out: Path | str | None = None,
    allow_plugins: bool = False,
    unusual: Unusual = "error",
    intervals: bool = False,
) -> dict[str, Any]:
    """Return the metrics of a finished run's detector on the test split of a dataset.

    Args:
        folder: a run or a detector directory.
        overrides: ``data.*`` keys that differ from the run's, e.g. ``data.root=...``; also ``training.device``.
        out: new or empty folder for metrics.json, scores.csv and report.html.
        allow_plugins: import and run the code that the detector names, because you trust who made it.
        unusual: what to do about sensors that are not what the detector was trained on: "error", "warn" or "ignore".
        intervals: add ``intervals``, a 95 % bootstrap interval of each metric (see `crdkit.metrics.intervals`), and
            ``decisions``: false alarms and misses at the detector's thresholds, recall at few false alarms.

    Raises:
        UntrustedCodeError: the detector names code to import, and ``allow_plugins`` is false.
        ConfigError: an override sets anything else, or the image size, which belongs to the detector.
        DetectorFormatError: ``folder`` holds no finished run.
        DataError: the data cannot be read, or ``unusual`` refuses them.
    """
    detector, run = open_run(folder, *overrides, allow_plugins=allow_plugins, unusual=unusual)
    target = None if out is None else Path(out)
    with ExitStack() as held:
        if target is not None:
            held.enter_context(prepare_folder(target))
        load_test_split(detector, run)
        return run.finish(detector, target, intervals=intervals)


def open_run(
    folder: Path | str,
    *overrides: str,
    allow_plugins: bool = False,
    unusual: Unusual = "error",
    or_validation: bool = False,
) -> tuple[Detector, Pipeline]:
    """Return the detector of a finished run, and the pipeline that lists the test split it is to be scored on.

    With ``or_validation``, the validation split stands for a test split that there is not. Other args and errors are
    those of `evaluate_run`. Nothing is decoded yet.
    """
    for override in overrides:
        key = override.partition("=")[0]
        if key == "data.image_size":
            raise ConfigError(f"override {override!r}: the image size belongs to the detector; train one at that size")
        if not key.startswith("data.") and key != "training.device":
            raise ConfigError(
                f"override {override!r}: a finished run can only be evaluated on other data, with data.* keys"
            )
    detector = load_detector(folder, allow_plugins=allow_plugins)
    detector.unusual = unusual
    config = detector.config.with_overrides(*overrides)
    detector.to(config.training.device)
    run = Pipeline(config, views=detector.views)
    try:
        run.list(["test"])
    except MissingSplitError as error:
        if or_validation:
            run.list(["validation"])
            return detector, run
        raise MissingSplitError(
            f"{error}; to measure, give labelled data with data.root=...; to score samples, use `crdkit predict`"
        ) from error
    run.require_apart(_training_records(detector.config, config))
    return detector, run


def load_test_split(detector: Detector, run: Pipeline) -> None:
    """Decode what `open_run` has listed, and bring it to the detector.

    Raises:
        DataError: a file cannot be read, or the sensors are not what the detector was trained on.
    """
    run.load()
    detector.require_usual(run.scored)
    run.place(detector.model, detector.device)


def _training_records(*configs: RunConfig) -> dict[Split, list[SampleRecord]]:
    """Return the samples of the training and validation splits of ``configs``, as far as they can be listed here."""
    found: dict[Split, list[SampleRecord]] = {"train": [], "validation": []}
    for config in configs:
        for split, records in found.items():
            with suppress(CrdkitError):
                records.extend(build_dataset(config).lenient().records(split))
    return found


def rescore(config: RunConfig, run: Path | str, out: Path | str, *, overwrite: bool = False) -> dict[str, Any]:
    """Write to ``out`` what `fit` would for ``config``, with the students of a finished run; see `same_students`.

    The run directory has no log.jsonl and no checkpoints/, and its seconds are only those of reading and scoring.

    Raises:
        DetectorFormatError: ``run`` holds no detector.
        DataError: the data cannot be read.
        CrdkitError: ``out`` holds other files or cannot be written.
    """
    detector = Detector.load(Path(run) / "detector", device=config.training.device)
    return score_students(
        config,
        detector.model,
        out,
        students=str(run),
        overwrite=overwrite,
        sensor_statistics=detector.sensor_statistics,
    )


def same_students(one: RunConfig, other: RunConfig) -> bool:
    """Return whether two runs train the same students: they differ only in how maps are fused and scored.

    Examples:
        >>> quick = RunConfig.preset("quick")
        >>> same_students(quick, quick.with_overrides("aggregation.name=max", "scoring.sigma=2"))
        True
        >>> same_students(quick, quick.with_overrides("training.epochs=3"))
        False
    """
    return one.model_copy(update={"aggregation": other.aggregation, "scoring": other.scoring}) == other


def score_students(
    config: RunConfig,
    model: CRD,
    out: Path | str | None,
    *,
    students: str,
    sensor_statistics: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Calibrate a trained model, score it, and return its metrics.

    Args:
        config: the run that the students are for.
        model: the teachers and students.
        out: new or empty folder for a run directory without log.jsonl and checkpoints/; None writes nothing.
        students: where they come from, for metrics and report.
        overwrite: replace the run in ``out``, finished or not.
        sensor_statistics: of the samples that they were trained on, for the detector; None: of the validation split.

    Raises:
        DataError: the data cannot be read.
        CrdkitError: ``out`` holds other files or cannot be written.
    """
    run, device = Pipeline(config), select_device(config.training.device)
    run.list(SPLITS[1:], optional="test")
    folder = None if out is None else Path(out)
    with ExitStack() as held:
        run.begin(folder, held, overwrite=overwrite)
        run.load()
        run.place(model.to(device), device)
        detector = run.calibrate(model, device, sensor_statistics=sensor_statistics)
        return run.finish(detector, folder, save=True, students=students)
