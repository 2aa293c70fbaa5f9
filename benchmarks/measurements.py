"""What the CPU and the GPU benchmark both measure: epochs, where training time goes, single predictions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.baseline.data import training_loader, workers
from benchmarks.baseline.predict import Predictor
from benchmarks.baseline.train import Baseline
from benchmarks.memory import held_bytes, peak_bytes
from benchmarks.parts import alternate, clock
from crdkit._core.device import select_device
from crdkit.config import RunConfig
from crdkit.config.build import build_dataset, build_model, build_scorer, build_views
from crdkit.detector import Detector
from crdkit.model import CRD
from crdkit.training import TeacherFeatures, feature_dtype
from crdkit.training import loop as training
from crdkit.views.split import LoadedSplit, load_split


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model beside the resident training split and its teacher features: what an epoch works on."""

    config: RunConfig
    model: CRD
    normals: LoadedSplit
    features: TeacherFeatures

    def train(self, *, epochs: int, on_epoch: Callable[[training.EpochLog], None] = lambda log: None) -> None:
        """Train some epochs more, with new optimisers."""
        options = self.config.training.model_copy(update={"epochs": epochs})
        training.train(self.model, self.features, options, samples=len(self.normals), on_epoch=on_epoch)


def load(config: RunConfig) -> Loaded:
    """Decode the training split and compute its teacher features, as `crdkit.fit` does."""
    device = select_device(config.training.device)
    normals = load_split(build_dataset(config), "train", views=build_views(config)).at("device", device)
    model = build_model(config).to(device)
    return with_features(config, model, normals)


def with_features(config: RunConfig, model: CRD, normals: LoadedSplit) -> Loaded:
    """Compute the teacher features of a resident split."""
    options = config.training
    dtype = feature_dtype(options, model.device)
    features = TeacherFeatures(model, normals.inputs, batch_size=options.batch_size, dtype=dtype)
    return Loaded(config=config, model=model, normals=normals, features=features)


def epochs(config: RunConfig, *, rounds: int) -> dict[str, Any]:
    """Time one epoch of each, in turns; the first of each has equal weights and order."""
    loaded, baseline = load(config), Baseline(config)
    loader = training_loader(config)
    losses: dict[str, list[float]] = {"ours": [], "baseline": []}
    result = alternate(
        ours=lambda: loaded.train(epochs=1, on_epoch=lambda log: losses["ours"].append(log["loss"])),
        baseline=lambda: losses["baseline"].append(baseline.train_epoch(loader, 0)["loss"]),
        rounds=rounds,
        device=baseline.device,
    )
    return {
        **result,
        "samples": len(loaded.normals),
        "workers": workers(),
        "loss_of_first_epoch": {name: values[0] for name, values in losses.items()},
    }


def adding(call: Callable[..., Any], name: str, seconds: dict[str, float]) -> Callable[..., Any]:
    """Return ``call`` as it is, but for adding up what it takes, under that name."""

    def run(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*arguments, **options)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start

    return run


def step_share(config: RunConfig, *, epochs: int) -> dict[str, Any]:
    """Return how much of training is the step: forward, losses, backward and optimiser of all branches.

    The rest is building optimisers, orders, gathering batches, and reading and logging the losses. For a CPU only: on a
    GPU a step returns before it is done.
    """
    loaded = load(config)
    seconds: dict[str, float] = {}
    with mock.patch.object(training, "train_step", adding(training.train_step, "step", seconds)):
        total = clock(lambda: loaded.train(epochs=epochs))
    step = seconds["step"]
    return {"epochs": epochs, "seconds": {"train": total, "step": step, "other": total - step}, "share": step / total}


def untrained(config: RunConfig) -> Detector:
    """Return a detector whose students have their initial weights: what it computes costs the same."""
    device = select_device(config.training.device)
    return Detector(config=config, model=build_model(config), scorer=build_scorer(config)).to(device)


def raw_samples(config: RunConfig, count: int) -> list[Mapping[str, np.ndarray]]:
    """Return the sensors of the first ``count`` test samples, decoded."""
    dataset = build_dataset(config)
    return [dataset.read(record).sensors for record in dataset.records("test")[:count]]


def single_predictions(config: RunConfig, *, samples: int, rounds: int) -> dict[str, Any]:
    """Time one sample at a time, raw sensors in memory to map and score in memory, in turns.

    On a CPU ``compiled`` is the detector after `Detector.compile`, and the parts of both are timed as well.
    """
    detector, predictor = untrained(config), Predictor(Baseline(config))
    detectors = {"ours": detector}
    sensors = raw_samples(config, samples)
    compiling = None
    if detector.device.type == "cpu":
        detectors["compiled"] = untrained(config)
        detectors["compiled"].predict(sensors[0])  # folds BatchNorm, which does not belong to compiling
        before = held_bytes()
        compiling = {"seconds": clock(detectors["compiled"].compile), "before_bytes": before}
        compiling |= {"after_bytes": held_bytes(), "peak_bytes": peak_bytes()}
    programs: dict[str, Callable[[Any], Any]] = {"baseline": predictor.predict}
    programs |= {name: other.predict for name, other in detectors.items()}
    first = {name: predict(sensors[0]) for name, predict in programs.items()}  # also the warm-up
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for sample in sensors:
            for name, predict in programs.items():
                seconds[name].append(clock(lambda predict=predict, sample=sample: predict(sample), detector.device))
    p50 = {name: float(np.median(values)) for name, values in seconds.items()}
    return {
        "predictions": rounds * len(sensors),
        "input": list(next(iter(sensors[0].values())).shape[:2]),
        "compiling": compiling,
        "p50_seconds": p50,
        "p95_seconds": {name: float(np.quantile(values, 0.95)) for name, values in seconds.items()},
        "ratio": {name: p50["baseline"] / value for name, value in p50.items() if name != "baseline"},
        "score_of_first": {name: found[1] if name == "baseline" else found.score for name, found in first.items()},
        "parts": {name: prediction_parts(other, sensors) for name, other in detectors.items()} if compiling else None,
    }


def prediction_parts(detector: Detector, sensors: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Return the median seconds of each part of a prediction on one thread, where nothing runs side by side."""
    engine = detector._predictor.ready()
    spent: dict[str, float] = {}
    prepare, predict = adding(detector.prepare, "views", spent), adding(detector.predict_prepared, "whole", spent)
    networks = {"teachers": engine._run_teacher, "branches": engine._run_branch}
    rows = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ExitStack() as patches:
            for part, calls in networks.items():
                timed = {name: adding(call, part, spent) for name, call in calls.items()}
                patches.enter_context(mock.patch.dict(calls, timed))
            for sample in sensors:
                spent.clear()
                predict([prepare(sample)])
                rows.append({**spent, "maps": spent["whole"] - spent["teachers"] - spent["branches"]})
    finally:
        torch.set_num_threads(threads)
    return {part: float(np.median([row[part] for row in rows])) for part in ("views", *networks, "maps")}
