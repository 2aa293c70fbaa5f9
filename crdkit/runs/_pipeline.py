"""The steps of every run, trained or only scored: parts, data, calibration, scores, results."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

import crdkit
from crdkit._core.memory import MemoryPlan, plan_memory, resident_budget
from crdkit.config.build import build_dataset, build_scorer, build_views
from crdkit.config.run_config import RunConfig
from crdkit.data import SPLITS, SampleRecord, Split
from crdkit.data.overlap import refuse_overlap
from crdkit.data.statistics import merge, to_json
from crdkit.detector import Detector
from crdkit.errors import DataError, MissingSplitError
from crdkit.model.crd import CRD
from crdkit.model.shapes import feature_bytes, pinned_bytes
from crdkit.runs._counts import count_samples, describe_held_out
from crdkit.runs.begin import begin
from crdkit.runs.directory import finish, write_results
from crdkit.runs.fingerprint import Fingerprint, Reading, require_same_data
from crdkit.runs.provenance import run_hashes
from crdkit.scoring.certainty import measure_certainty
from crdkit.scoring.measure import measure
from crdkit.scoring.scorer import Maps
from crdkit.training import EpochLog
from crdkit.training.step import uses_bf16
from crdkit.views.loading import load_splits
from crdkit.views.split import LoadedSplit, Views, list_split

PHASES = ("load", "teacher", "train", "evaluate")

_logger = logging.getLogger(__name__)


def require_unchanged(folder: Path, config: RunConfig) -> None:
    """Refuse data that differ from what the finished run of ``config`` in ``folder`` has read.

    Raises:
        DataError: a split differs; the message says which samples.
        CrdkitError: the record of what was read is damaged.
    """
    run, begun = Pipeline(config), Fingerprint.read(folder)
    if begun is None:  # a run of an earlier version
        return
    try:
        records = {split: run.records_of(split) for split in SPLITS if split in begun.splits}
    except DataError as error:
        _logger.info("%s: its data cannot be compared with what it has read: %s", folder, error)
        return
    require_same_data(folder, Reading(run.dataset, records))


class Clock:
    """Adds up wall-clock seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Add the seconds of the ``with`` block to ``phase``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


class Pipeline:
    """One run from its configuration to its results; everything is built here, and nothing is read yet.

    Args:
        config: the run.
        views: of a detector; built from ``config`` if None.

    Raises:
        ConfigError: a part cannot be built.
    """

    plan: MemoryPlan
    parameters: Mapping[str, int]

    def __init__(self, config: RunConfig, *, views: Views | None = None) -> None:
        self.config = config
        self.clock = Clock()
        self.dataset = build_dataset(config)
        self.views = build_views(config) if views is None else views
        self.scorer = build_scorer(config)
        self.records: dict[Split, Sequence[SampleRecord]] = {}
        self.splits: dict[Split, LoadedSplit] = {}
        self.sensor_statistics: Mapping[str, Any] = {}
        self.overlapping = 0
        self.fingerprint: Fingerprint | None = None
        """Of the data, once they are loaded, if the run has a directory."""
        self._folder: Path | None = None
        self._reading: Reading | None = None
        self._device = torch.device("cpu")

    def list(self, splits: Sequence[Split], *, optional: Split | None = None) -> None:
        """List the samples of ``splits``, so that missing files show before anything is written or decoded.

        Args:
            splits: their names.
            optional: one that a dataset may lack.

        Raises:
            DataError: see `Dataset.records`, and `require_apart`.
        """
        for name in splits:
            try:
                self.records[name] = self.records_of(name)
            except MissingSplitError as error:
                if name != optional:
                    raise
                _logger.info("no metrics will be measured: %s", error)
        self.require_apart({})

    def records_of(self, split: Split) -> Sequence[SampleRecord]:
        """List the samples of one split.

        Raises:
            DataError: see `Dataset.records`.
        """
        incomplete = split == "test" and self.config.training.modality_dropout > 0
        return list_split(self.dataset, split, views=self.views, incomplete=incomplete)

    def require_apart(self, trained_on: Mapping[Split, Sequence[SampleRecord]]) -> None:
        """Refuse test samples that are also in the training data, which are listed here or ``trained_on`` elsewhere.

        Raises:
            DataError: there are some, and ``data.allow_overlap`` is not set.
        """
        self.overlapping = refuse_overlap({**trained_on, **self.records}, allow=self.config.data.allow_overlap)

    def begin(self, folder: Path | None, held: ExitStack, *, resume: bool = False, overwrite: bool = False) -> None:
        """Begin the run directory, until ``held`` is closed; see `crdkit.runs.begin.begin`. None: do nothing.

        Raises:
            CrdkitError: what `crdkit.runs.begin.begin` raises.
        """
        if folder is None:
            return
        self._folder, self._reading = folder, Reading(self.dataset, self.records)
        held.enter_context(begin(folder, self.config, reading=self._reading, resume=resume, overwrite=overwrite))

    def load(self, splits: Sequence[Split] = SPLITS) -> None:
        """Load those of ``splits`` that were listed into host memory, and keep the fingerprint of a run's data.

        Raises:
            DataError: a file is missing or unreadable, or was changed meanwhile, or a modality shows nothing.
        """
        with self.clock("load"):
            listed = {name: self.records[name] for name in splits if name in self.records}
            self.splits = load_splits(self.dataset, listed, views=self.views)
            trained = [self.splits[name].summaries for name in ("train", "validation") if name in self.splits]
            self.sensor_statistics = to_json(merge([summary.sensors for part in trained for summary in part]))
            if self._folder is not None and self._reading is not None:
                # after decoding, when the files are in the system's memory
                self.fingerprint = self._reading.fingerprint(Fingerprint.read(self._folder))
                self.fingerprint.write(self._folder)

    def place(self, model: CRD, device: torch.device, *, features: torch.dtype | None = None) -> None:
        """Choose what is kept where, log it, and move the splits' views from host memory to their places.

        Args:
            model: whose teachers see the views.
            device: where the model is.
            features: dtype of the kept teacher features of the training split; None if nothing is trained.
        """
        options, self.parameters = self.config.training, model.count_parameters()
        with self.clock("load"):
            samples = 0 if features is None else len(self.splits["train"].records)
            self.plan = plan_memory(
                {name: sum(tensor.nbytes for tensor in split.inputs.values()) for name, split in self.splits.items()},
                features=None if features is None else samples * feature_bytes(model.specs, features),
                device=device,
                budget=resident_budget(options.resident_gib, device),
                pinned=int(options.pinned_gib * 2**30),
                features_pinned=None if features is None else pinned_bytes(model.specs, features, samples=samples),
                recompute=options.shift > 0,
                automatic=options.resident_gib == "auto",
            )
            for line in self.plan.describe(device):
                _logger.info(line)
            self.splits = {name: split.at(self.plan.views_at[name], device) for name, split in self.splits.items()}

    @property
    def scored(self) -> LoadedSplit:
        """The split that is scored: the test split, or without one the normal samples of the validation split."""
        return self.splits["test" if "test" in self.splits else "validation"]

    def calibrate(
        self, model: CRD, device: torch.device, *, sensor_statistics: Mapping[str, Any] | None = None
    ) -> Detector:
        """Return the detector of a trained model, calibrated on the samples of the validation split that lack nothing.

        Args:
            model: the trained model.
            device: where it is.
            sensor_statistics: of the samples that it was trained on; None: of those that were loaded.
        """
        self._device = device
        scorer, known = self.scorer.to(device), sensor_statistics or self.sensor_statistics
        detector = Detector(config=self.config, model=model, scorer=scorer, sensor_statistics=known)
        with self.clock("evaluate"):
            detector.calibrate(self.splits["validation"])
        return detector

    def finish(
        self,
        detector: Detector,
        folder: Path | None,
        *,
        history: Sequence[EpochLog] = (),
        save: bool = False,
        world_size: int = 1,
        students: str | None = None,
        intervals: bool = False,
        maps: Maps | None = None,
    ) -> dict[str, Any]:
        """Score the test split, write all results, and return the content of metrics.json.

        Without a test split the validation samples are scored: they are normal, so nothing can be measured.

        Args:
            detector: calibrated.
            folder: run directory; None writes nothing.
            history: of the epochs.
            save: whether the detector is written too.
            world_size: number of ranks that trained it.
            students: where they come from, if they were not trained here.
            intervals: whether bootstrap intervals of the metrics, and errors of the decisions, are computed, too.
            maps: of the scored split, if it has been scored before.
        """
        scored, environment = self.scored, self._environment(self._device, world_size=world_size)
        with self.clock("evaluate"):
            maps = detector.score(scored) if maps is None else maps
            measured = measure(maps, scored, sampled_thresholds=self.config.scoring.sampled_thresholds)
            if intervals:
                measured |= measure_certainty(maps, scored, detector.thresholds)
        metrics = self._metrics(measured, present=scored.present or {}, environment=environment)
        metrics |= {} if students is None else {"students": students}
        if folder is not None:
            if (saved := folder / "detector" if save else None) is not None:
                detector.metrics = metrics  # for its card
                detector.save(saved)
            metrics["hashes"] = run_hashes(self.config, data=self.fingerprint, detector=saved)
            write_results(
                folder,
                config=self.config,
                metrics=metrics,
                maps=maps,
                split=scored,
                history=history,
                decided=detector.decide_split(scored, maps),
            )
            finish(folder, metrics)
        return metrics

    def _environment(self, device: torch.device, *, world_size: int) -> dict[str, str]:
        precision = "bf16" if uses_bf16(self.config.training, device) else "fp32"
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
        together = "" if world_size == 1 else f", {world_size} ranks"
        return {
            "device": f"{device.type} ({name}, {torch.get_num_threads()} threads, {precision}{together})",
            "torch": torch.__version__,
            "crdkit": crdkit.__version__,
            "python": platform.python_version(),
        }

    def _metrics(
        self, measured: Mapping[str, Any], *, present: Mapping[str, torch.Tensor], environment: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return the content of metrics.json; a phase or split that the run did not have is None."""
        seconds, splits = self.clock.seconds, self.splits
        return {
            **measured,
            "seconds": {
                **{phase: round(seconds[phase], 3) if phase in seconds else None for phase in PHASES},
                "total": round(sum(seconds.values()), 3),
            },
            "counts": count_samples(splits, present=present, overlapping=self.overlapping),
            **describe_held_out(self.dataset, splits),
            "environment": environment,
            "parameters": self.parameters,
            "resident": self.plan.to_dict(cached=[name for name, split in splits.items() if split.cached]),
        }
