"""What every run is made of, trained or only scored: the clock, what is kept where, and the metrics."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

import crdkit
from crdkit.config import RunConfig
from crdkit.datasets import Dataset, Split
from crdkit.detector import Detector
from crdkit.evaluation import Maps, measure, score
from crdkit.model import CRD
from crdkit.placement import Placement, place
from crdkit.progress import say
from crdkit.resident import ResidentSplit, Views, bytes_per_sample, list_records, load_split
from crdkit.step import uses_bf16

PHASES = ("load", "teacher", "train", "evaluate")
HOST = torch.device("cpu")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


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


def list_splits(dataset: Dataset, names: Sequence[Split], *, views: Views, incomplete: bool) -> None:
    """List the samples of splits: what is missing shows before anything is written or decoded.

    Args:
        dataset: of the splits.
        names: of the splits.
        views: that the samples' sensors are for.
        incomplete: whether test samples may lack some sensors.

    Raises:
        DataError: see `Dataset.records`.
    """
    for name in names:
        list_records(dataset, name, views=views, incomplete=incomplete and name == "test")


def load_splits(
    dataset: Dataset, names: Sequence[Split], *, views: Views, incomplete: bool
) -> dict[str, ResidentSplit]:
    """Load splits into host memory; arguments and errors as of `list_splits`."""
    return {
        name: load_split(dataset, name, views=views, device=HOST, incomplete=incomplete and name == "test")
        for name in names
    }


def place_splits(
    splits: Mapping[str, ResidentSplit], config: RunConfig, *, model: CRD, device: torch.device
) -> tuple[dict[str, ResidentSplit], Placement]:
    """Choose what is kept where, say so, and bring the splits' views from host memory to their places."""
    options = config.training
    sizes = {name: sum(tensor.nbytes for tensor in split.inputs.values()) for name, split in splits.items()}
    per_sample = bytes_per_sample(model, feature_dtype(config, device))
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


def feature_dtype(config: RunConfig, device: torch.device) -> torch.dtype:
    """Return what teacher features are kept in: the precision that the students compute in."""
    return torch.bfloat16 if uses_bf16(config.training, device) else torch.float32


def measure_run(
    detector: Detector, splits: Mapping[str, ResidentSplit], *, placement: Placement, clock: Clock, ranks: int = 1
) -> tuple[dict[str, Any], Maps]:
    """Score the test split, and return the content of metrics.json and the maps; ``ranks`` have trained it."""
    config, test = detector.config, splits["test"]
    with clock("evaluate"):
        maps = score(detector.model, detector.scorer, test, batch_size=config.training.batch_size)
        measured = measure(maps, test, sampled_thresholds=config.scoring.sampled_thresholds)
    metrics = _metrics(
        measured, seconds=clock.seconds, splits=splits, placement=placement, detector=detector, ranks=ranks
    )
    return metrics, maps


def _metrics(
    measured: Mapping[str, Any],
    *,
    seconds: Mapping[str, float],
    splits: Mapping[str, ResidentSplit],
    placement: Placement,
    detector: Detector,
    ranks: int,
) -> dict[str, Any]:
    """Return the content of metrics.json; a phase or split that a run did not have is None."""
    device = detector.device
    precision = "bf16" if uses_bf16(detector.config.training, device) else "fp32"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    together = "" if ranks == 1 else f", {ranks} ranks"
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
            "device": f"{device.type} ({name}, {torch.get_num_threads()} threads, {precision}{together})",
            "torch": torch.__version__,
            "crdkit": crdkit.__version__,
            "python": platform.python_version(),
        },
        "parameters": detector.model.count_parameters(),
        "resident": placement.to_dict(cached=[name for name, split in splits.items() if split.cached]),
    }
