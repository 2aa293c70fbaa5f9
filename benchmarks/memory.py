"""How much memory a process took, and how much of it a run keeps on purpose."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from crdkit._core.memory import resident_budget
from crdkit.config.build import build_dataset
from crdkit.detector import Detector
from crdkit.model.shapes import feature_bytes
from crdkit.training import feature_dtype
from crdkit.views.split import view_sample


def peak_bytes() -> int:
    """Return the most memory that this process has held."""
    # ru_maxrss of a new process starts at its parent's peak
    return _status("VmHWM") or _maximum(resource.RUSAGE_SELF)


def held_bytes() -> int | None:
    """Return the memory that this process holds now; None where the system does not say."""
    return _status("VmRSS")


def _status(field: str) -> int | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    found = [line.split() for line in status.read_text(encoding="utf-8").splitlines() if line.startswith(field)]
    return int(found[0][1]) * 1024 if found else None


def largest_child_bytes() -> int:
    """Return the most memory that any finished child has held, pages shared with this process included."""
    return _maximum(resource.RUSAGE_CHILDREN)


def _maximum(who: int) -> int:
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resident_bytes(detector: Detector, counts: Mapping[str, int]) -> dict[str, int]:
    """Return what a run keeps in memory by design: every split's views, and the training split's teacher features."""
    config = detector.config
    dataset = build_dataset(config)
    views = view_sample(
        detector.views, dataset.read(dataset.records("train")[0]).sensors, image_size=config.data.image_size
    )
    inputs = sum(view.numel() * view.element_size() for view in views.values())
    features = feature_bytes(detector.model.specs, feature_dtype(config.training, detector.device))
    all_inputs = inputs * sum(counts[split] for split in ("train", "validation", "test"))
    kept = features * counts["train"] + all_inputs <= resident_budget(config.training.resident_gib, detector.device)
    return {
        "inputs": all_inputs,
        "teacher_features": features * counts["train"] if kept else 0,
    }


def peak_device_bytes() -> int | None:
    """Return the most memory that tensors took on the GPU; None without one."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
