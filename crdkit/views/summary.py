"""What one sample holds in a few numbers: its raw sensors and its views; kept in place of the arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from crdkit.data import RawSample
from crdkit.data.statistics import SensorSummary, summarise_sensors

_STRIDE = 4  # of the view's pixels that are looked at


@dataclass(frozen=True, kw_only=True)
class ViewSummary:
    """One view in a few numbers, from every fourth of its rows and columns."""

    low: float
    high: float
    foreground: float
    """Share of the pixels that are not 0 in all channels."""


@dataclass(frozen=True, kw_only=True)
class SampleSummary:
    """One sample in a few numbers.

    Examples:
        >>> import numpy as np
        >>> from crdkit.data import SampleRecord
        >>> record = SampleRecord(sample_id="a", split="test", label=0, defect_type="good", files={})
        >>> sample = RawSample(record=record, sensors={"thermal": np.full((8, 8), 293.0)})
        >>> summary = summarise(sample, {"thermal": torch.full((1, 32, 32), 0.25)})
        >>> summary.sensors["thermal"].magnitude, summary.views["thermal"].high
        (293.0, 0.25)
        >>> from_json(to_json(summary)) == summary
        True
    """

    sensors: Mapping[str, SensorSummary]
    views: Mapping[str, ViewSummary]


def summarise(sample: RawSample, views: Mapping[str, torch.Tensor]) -> SampleSummary:
    """Return what the sensors of a sample, and its (C, S, S) views, hold."""
    return SampleSummary(
        sensors=summarise_sensors(sample), views={name: _summarise_view(view) for name, view in views.items()}
    )


def _summarise_view(view: torch.Tensor) -> ViewSummary:
    pixels = view[:, ::_STRIDE, ::_STRIDE]
    highest = pixels.amax(dim=0)
    return ViewSummary(
        low=float(pixels.amin()), high=float(highest.amax()), foreground=float((highest > 0).float().mean())
    )


def to_json(summary: SampleSummary) -> dict[str, Any]:
    """Return a summary as plain values for a JSON file."""
    return asdict(summary)


def from_json(values: Mapping[str, Any]) -> SampleSummary:
    """Return the summary that `to_json` gave, before or after it was in a file.

    Raises:
        LookupError: a part is missing.
        TypeError: a key is missing or unknown.
    """
    sensors = {
        name: SensorSummary(
            **{
                **found,
                "means": tuple(found["means"]),
                "usual": tuple(usual) if (usual := found.get("usual")) else None,
            }
        )
        for name, found in values["sensors"].items()
    }
    return SampleSummary(sensors=sensors, views={name: ViewSummary(**found) for name, found in values["views"].items()})
