"""A complete run: load, train, calibrate, evaluate, and write the results."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path

import torch

from crdkit._core.device import select_device
from crdkit._core.distributed import Ranks
from crdkit.config.build import build_model
from crdkit.config.sources import Source, load_config
from crdkit.data import SPLITS
from crdkit.detector import Detector
from crdkit.errors import ConfigError
from crdkit.model.crd import CRD
from crdkit.runs._memory import explained_memory
from crdkit.runs._pipeline import Pipeline, require_unchanged
from crdkit.runs.curves import Log, events_to, require_log
from crdkit.runs.directory import is_finished, log_to, read_log, read_metrics, require_same_config
from crdkit.runs.provenance import training_hash
from crdkit.training import Checkpoints, EpochLog, TeacherFeatures, feature_dtype, require_trainable, train

_logger = logging.getLogger(__name__)


def fit(
    config: Source,
    out: Path | str | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    allow_plugins: bool = False,
    ranks: Ranks | None = None,
    log: Log | None = None,
) -> Detector:
    """Train a detector on ``config.data``; with ``out``, write a complete run directory as well.

    Without a test split nothing is measured, and scores.csv and the report are of the validation samples. The log of
    all epochs is the detector's `history`; with ``out``, the content of metrics.json is its `metrics`.

    Args:
        config: the run, its values as a dict, the path of a YAML file, or the name of a preset.
        out: new or empty folder for config.yaml, data.json, metrics.json, scores.csv, log.jsonl, report.html and
            detector/; None to only train and calibrate. No other process may write there at the same time.
        resume: continue from the newest checkpoint of an unfinished run in ``out``, to the same result as without the
            interruption; a finished run is left unchanged. Both must have read the data that are there now.
        overwrite: replace the run in ``out``, finished or not.
        allow_plugins: import and run the code that a YAML file names, because you trust it.
        ranks: processes that train this one detector together, each with its share of every batch; ``out`` is then a
            folder that all can read, and only rank 0 writes there. None: this process trains alone.
        log: "tensorboard" also writes losses, learning rate and pace into the folder ``tensorboard`` of ``out``.

    Raises:
        UntrustedCodeError: a YAML file names code to import, and ``allow_plugins`` is false.
        ConfigError: the configuration lacks something, or this machine does; or the run to resume has other settings.
        DetectorFormatError: the checkpoint to resume from is damaged.
        DataError: the data cannot be read, or are not those of the run to resume.
        CrdkitError: ``out`` holds a run and neither ``resume`` nor ``overwrite`` is set, or other files; it is being
            written by another process, or cannot be written; or training diverged.

    Examples:
        >>> import tempfile
        >>> from crdkit.config import RunConfig
        >>> from crdkit.data.synthetic import write_mvtec3d
        >>> teacher = {"name": "timm", "model": "test_resnet", "pretrained": False}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_mvtec3d(Path(folder, "scans"), categories=["gear"], train=3, test_per_defect=0, size=32)
        ...     run = RunConfig.from_dict({
        ...         "data": {"name": "mvtec3d", "root": root, "category": "gear", "image_size": 32},
        ...         "modalities": {"rgb": {"encoder": teacher}, "depth": {"encoder": teacher}},
        ...         "graph": {"filter": {"name": "bottleneck", "size": 2}},
        ...         "student": {"depths": 1},
        ...         "training": {"epochs": 1, "device": "cpu"},
        ...     })
        ...     detector = fit(run)
        >>> detector.sensors, list(detector.views)
        (('rgb', 'xyz'), ['rgb', 'depth'])
    """
    config, target = load_config(config, allow_plugins=allow_plugins), None if out is None else Path(out)
    require_log(log, target)
    if resume and overwrite:
        raise ConfigError("resume and overwrite exclude each other: give --resume to go on, or --overwrite to replace")
    if resume and target is not None and require_same_config(target, config) and is_finished(target):
        _logger.info("%s: this run is already finished", target)
        require_unchanged(target, config)
        detector = Detector.load(target / "detector", device=config.training.device).with_config(config)
        detector.history, detector.metrics = read_log(target), read_metrics(target)
        return detector
    ranks = ranks or Ranks()
    ranks.use_local_device()
    run, device = Pipeline(config), select_device(config.training.device)
    require_trainable(config.training, device, ranks, views=run.views)
    dtype = feature_dtype(config.training, device)
    run.list(SPLITS[:2] if target is None else SPLITS, optional="test")
    folder = target if ranks.is_main else None
    with ExitStack() as held, explained_memory(run, device):
        with ranks.group(cuda=device.type == "cuda"):
            ranks.follow_main(lambda: run.begin(folder, held, resume=resume, overwrite=overwrite))
            run.load(SPLITS[:2] if folder is None else SPLITS)  # rank 0 alone scores the test split
            with run.clock("teacher"):
                model = build_model(config).to(device)
            run.place(model, device, features=dtype)
            checkpoints = None if target is None else Checkpoints(target / "checkpoints", run=training_hash(config))
            history = _train_students(run, model, dtype, checkpoints=checkpoints, ranks=ranks, folder=folder, log=log)
        detector = run.calibrate(model, device)
        detector.history = history
        if folder is not None:
            detector.metrics = run.finish(detector, folder, history=history, save=True, world_size=ranks.world_size)
    return detector


def _train_students(
    run: Pipeline,
    model: CRD,
    dtype: torch.dtype,
    *,
    checkpoints: Checkpoints | None,
    ranks: Ranks,
    folder: Path | None,
    log: Log | None,
) -> list[EpochLog]:
    """Train on teacher features, which are freed on return, and return the log of every epoch."""
    training, history, samples = run.config.training, list[EpochLog](), len(run.splits["train"].records)
    with run.clock("teacher"):
        features = TeacherFeatures(
            model,
            run.splits["train"].inputs,
            batch_size=training.batch_size,
            level=run.plan.features_at or "recomputed",
            dtype=dtype,
        )

    events = folder if log == "tensorboard" else None
    with run.clock("train"), log_to(folder) as write_line, events_to(events, samples=samples) as write_events:

        def on_epoch(found: EpochLog) -> None:
            history.append(found)
            write_line(found)
            write_events(found)

        train(
            model,
            features,
            training,
            samples=samples,
            on_epoch=on_epoch,
            sensors={name: view.sensors for name, view in run.views.items()},
            known=run.splits["train"].present,
            checkpoints=checkpoints,
            ranks=ranks,
        )
    if checkpoints is not None:  # epochs of an interrupted run count with the seconds that they took then
        run.clock.seconds["train"] += checkpoints.seconds
    return history
