"""A complete run: load, train, calibrate, evaluate, and write everything down."""

from __future__ import annotations

from pathlib import Path

from crdkit.checkpoint import Checkpoints, require_same_config
from crdkit.config import RunConfig
from crdkit.cuda_graph import uses_graph
from crdkit.data_parallel import require_own_gpu
from crdkit.detector import Detector
from crdkit.evaluation import Scorer, calibrate
from crdkit.files import write_text
from crdkit.model import CRD
from crdkit.phases import SPLITS, Clock, feature_dtype, list_splits, load_splits, measure_run, place_splits
from crdkit.placement import Placement
from crdkit.progress import say
from crdkit.ranks import Ranks
from crdkit.resident import ResidentSplit, TeacherFeatures, Views, build_dataset, build_views
from crdkit.run_directory import finish, log_to, prepare_folder, write_results
from crdkit.training import EpochLog, select_device, train

RESUMED = {"config.yaml", "checkpoints"}
"""What is left of them when an unfinished run goes on."""


def fit(
    config: RunConfig, out: Path | str | None = None, *, resume: bool = False, ranks: Ranks | None = None
) -> Detector:
    """Train a detector on ``config.data``; with ``out``, write a complete run directory as well.

    Args:
        config: the run.
        out: new or empty folder for config.yaml, metrics.json, scores.csv, log.jsonl, report.html and
            detector/; None to train and calibrate only. What an unfinished run left there is replaced.
        resume: go on from the newest checkpoint of an unfinished run in ``out``, to the same result as without the
            interruption; leave a finished run as it is.
        ranks: processes that train this one detector together, each with its share of every batch; ``out`` is then a
            folder that all see, and rank 0 alone writes there. None: this process trains alone, whoever started it.

    Raises:
        ConfigError: the configuration lacks something, or this machine does; or the run to resume has another one.
        DetectorFormatError: the checkpoint to resume from is damaged.
        DataError: the data cannot be read.
        CrdkitError: ``out`` holds other files or cannot be written, or training diverged.
    """
    if resume and out is not None and require_same_config(Path(out), config) and (Path(out) / "metrics.json").exists():
        say(f"{out}: this run is finished already")
        return Detector.load(Path(out) / "detector", device=config.training.device)
    ranks = ranks or Ranks()
    ranks.use_local_device()
    device = select_device(config.training.device)
    require_own_gpu(device, ranks)  # this and the next: refused before anything is read
    uses_graph(config.training, device, ranks=ranks.count)
    dataset, views = build_dataset(config), build_views(config)
    scorer = Scorer(config).to(device)
    incomplete = config.training.modality_dropout > 0
    list_splits(dataset, SPLITS[:2] if out is None else SPLITS, views=views, incomplete=incomplete)
    folder = Path(out) if out is not None and ranks.leader else None
    clock = Clock()
    with ranks.group(cuda=device.type == "cuda"):
        ranks.follow_leader(lambda: _begin(config, folder, resume=resume))
        with clock("load"):
            wanted = SPLITS[:2] if folder is None else SPLITS
            splits = load_splits(dataset, wanted, views=views, incomplete=incomplete)
        with clock("teacher"):
            model = CRD.from_config(config).to(device)
        with clock("load"):
            splits, placement = place_splits(splits, config, model=model, device=device)
        history = _train_students(
            model,
            splits["train"],
            config=config,
            placement=placement,
            views=views,
            folder=folder,
            checkpoints=None if out is None else Checkpoints(Path(out) / "checkpoints"),
            clock=clock,
            ranks=ranks,
        )
    with clock("evaluate"):
        calibrate(model, scorer, splits["validation"], batch_size=config.training.batch_size)
    detector = Detector(config=config, model=model, scorer=scorer)
    if folder is not None:
        metrics, maps = measure_run(detector, splits, placement=placement, clock=clock, ranks=ranks.count)
        write_results(folder, config=config, metrics=metrics, maps=maps, split=splits["test"], history=history)
        detector.save(folder / "detector")
        finish(folder, metrics)
    return detector


def _begin(config: RunConfig, folder: Path | None, *, resume: bool) -> None:
    """Make the run directory, or empty that of an unfinished run, and write config.yaml."""
    if folder is not None:
        prepare_folder(folder, keep=RESUMED if resume else ())
        write_text(folder / "config.yaml", config.to_yaml())


def _train_students(
    model: CRD,
    normals: ResidentSplit,
    *,
    config: RunConfig,
    placement: Placement,
    views: Views,
    folder: Path | None,
    checkpoints: Checkpoints | None,
    clock: Clock,
    ranks: Ranks,
) -> list[EpochLog]:
    """Train on teacher features, and return the log of all epochs, which is written below ``folder`` too.

    Epochs that an interrupted run has trained count with the seconds that they took there.
    """
    options = config.training
    with clock("teacher"):
        features = TeacherFeatures(
            model,
            normals.inputs,
            batch_size=options.batch_size,
            level=placement.features_at or "recomputed",
            dtype=feature_dtype(config, model.device),
        )
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
            ranks=ranks,
        )
    if checkpoints is not None:
        clock.seconds["train"] += sum(log["seconds"] for log in history[: checkpoints.restored])
    return history
