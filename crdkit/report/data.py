"""The data that a report shows, checked before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crdkit.errors import CrdkitError
from crdkit.scoring.table import Judged


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """The data that a report shows of N evaluated samples, in the same order throughout.

    Raises:
        CrdkitError: there is no sample, or an array or list does not have N entries.
    """

    title: str
    """What was inspected, e.g. the category."""
    subtitle: str
    """Preset, date and the like; the only place for a date."""
    metrics: Mapping[str, Any]
    """The content of metrics.json; a value that cannot be computed is None."""
    config_yaml: str
    sample_ids: Sequence[str]
    """Unique, e.g. ``"hole/003"``."""
    defect_types: Sequence[str]
    """``"good"`` for normal samples."""
    labels: np.ndarray | None
    """(N,) 0 normal, 1 anomalous; None for unlabelled data."""
    scores: np.ndarray
    """(N,) anomaly scores."""
    maps: np.ndarray
    """(N, H, W) fused, smoothed anomaly maps."""
    branch_maps: Mapping[str, np.ndarray]
    """(N, H, W) anomaly maps by modality."""
    masks: np.ndarray | None
    """(N, H, W) bool."""
    inputs: Mapping[str, np.ndarray]
    """(N, C, H, W) by modality, C 1 or 3; floats in [0, 1] or uint8."""
    history: Sequence[Mapping[str, float]]
    """One entry per epoch: ``{"epoch": 1, "loss": ..., "seconds": ...}``."""
    decided: Sequence[Judged] | None = None
    """What was decided of each sample; None if nothing was, as in runs without thresholds."""
    present: Mapping[str, np.ndarray] | None = None
    """(N,) bool by modality: which samples have it; None: all. What is shown of a missing one is never looked at."""
    notes: Sequence[str] = ()
    """Plain warnings for the top of the report."""
    normals_only: bool = False
    """Whether there was no test split: the samples are those of the validation split, and nothing was measured."""

    def __post_init__(self) -> None:
        if len(self.sample_ids) == 0:
            raise CrdkitError("sample_ids is empty; a report needs at least one sample")
        sized: dict[str, Any] = {
            "defect_types": self.defect_types,
            "labels": self.labels,
            "scores": self.scores,
            "maps": self.maps,
            "masks": self.masks,
            "decided": self.decided,
        }
        sized |= {f"branch_maps[{name!r}]": maps for name, maps in self.branch_maps.items()}
        sized |= {f"inputs[{name!r}]": images for name, images in self.inputs.items()}
        sized |= {f"present[{name!r}]": has for name, has in (self.present or {}).items()}
        for name, value in sized.items():
            if value is not None and len(value) != len(self.sample_ids):
                raise CrdkitError(f"{name} holds {len(value)} samples, but sample_ids holds {len(self.sample_ids)}")
        for name, images in self.inputs.items():
            if images.ndim != 4 or images.shape[1] not in (1, 3):
                raise CrdkitError(f"inputs[{name!r}] (shape {images.shape}) must be (N, 1 or 3, H, W)")
