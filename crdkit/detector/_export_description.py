"""What is written about an exported detector: in the file itself, and as JSON beside it."""

from __future__ import annotations

import base64
import inspect
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import crdkit
from crdkit._core.files import write_tensors
from crdkit.config.run_config import RunConfig
from crdkit.detector._export_graph import (
    PIXEL_THRESHOLD,
    PRESENT,
    THRESHOLD,
    GraphInput,
    Plan,
    every_input,
    threshold_defaults,
)
from crdkit.detector._saved import WEIGHTS, Saved, header_of, seal, state_of
from crdkit.scoring.conformal import RULES, Threshold
from crdkit.scoring.thresholds import Thresholds
from crdkit.views import View

FORMAT, FORMAT_VERSION = "crdkit-export", 1
KEY = "crdkit"
"""Of the description in the file."""


def describe_export(
    saved: Saved, views: Mapping[str, View], plan: Plan, *, channels: Mapping[str, int]
) -> dict[str, Any]:
    """Return what a program needs to know to run the file, and what crdkit needs to load it.

    Args:
        saved: the detector.
        views: by modality.
        plan: of the graph.
        channels: of every modality's view.
    """
    header, scorer = _header(saved)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "crdkit": crdkit.__version__,
        "torch": torch.__version__,
        "image_size": plan.image_size,
        "inputs": [_input(entry, saved.config, views, plan) for entry in every_input(plan)],
        "outputs": [_output(name, plan) for name in plan.output_names],
        "modalities": {
            name: {
                "sensors": list(sensors),
                "input": None if name in plan.networks else f"{name}_view",
                "channels": channels[name],
                "view": views[name].config.model_dump(mode="json"),
            }
            for name, sensors in plan.modalities.items()
        },
        "thresholds": _thresholds(saved.thresholds),
        "sha256": {"weights": header["sha256"][WEIGHTS]},
        "parameters": saved.model.count_parameters(),
        "detector": header,
        "scorer": scorer,
    }


def _header(saved: Saved) -> tuple[dict[str, Any], str]:
    """Return the content of the detector's config.json, and the scorer's state as base64 of a safetensors file."""
    from safetensors.torch import save

    header = header_of(saved)
    with tempfile.TemporaryDirectory(prefix="crdkit-", ignore_cleanup_errors=True) as folder:
        write_tensors(Path(folder, WEIGHTS), state_of(saved))  # for its checksum
        seal(header, weights=Path(folder, WEIGHTS), thresholds=saved.thresholds)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in saved.scorer.state_dict().items()}
    return header, base64.b64encode(save(state)).decode()


def _input(entry: GraphInput, config: RunConfig, views: Mapping[str, View], plan: Plan) -> dict[str, Any]:
    known: dict[str, Any] = {"name": entry.name, "dtype": entry.dtype, "shape": list(entry.shape)}
    if entry.sensor is not None:
        return known | _sensor(entry.sensor, entry.dtype, config, views)
    if entry.modality is not None:
        return known | _view(entry.modality, config, views[entry.modality])
    if entry.name == PRESENT:
        text = "true where a sample has the sensor; all of a missing one's input is ignored"
        return known | {"kind": "present", "sensors": list(plan.sensors), "meaning": text}
    default = float(np.float32(threshold_defaults(plan)[entry.name]))
    of = {THRESHOLD: "a score above it is anomalous", PIXEL_THRESHOLD: "a pixel above it is anomalous"}[entry.name]
    note = "; infinite: nothing is, as the detector knows no normal samples" if default == np.inf else ""
    note = "; NaN: that of the sensors which each sample has, see thresholds" if np.isnan(default) else note
    return known | {
        "kind": "threshold",
        "default": default if np.isfinite(default) else str(default),
        "meaning": of + note,
    }


def _sensor(sensor: str, dtype: str, config: RunConfig, views: Mapping[str, View]) -> dict[str, Any]:
    readers = {name: view for name, view in views.items() if sensor in view.sensors}
    missing = [getattr(view.config, "missing", None) for view in readers.values()]
    scale, stored = (getattr(config.data, option, None) or {} for option in ("scale", "invalid"))
    colour = dtype == "uint8" and any(view.config.name in ("rgb", "lights") for view in readers.values())
    invalid = "NaN" if dtype == "float32" and any(value is not None for value in missing) else None
    return {
        "kind": "sensor",
        "sensor": sensor,
        "modalities": list(readers),
        "unit": "RGB or grey levels, 0 to 255" if colour else "that of the training data",
        "invalid": invalid,
        "scale": scale.get(sensor),
        "stored_invalid": stored.get(sensor),
        "registration": _registration([sensor], config),
        "meaning": "as it is delivered, any height and width; with stored_invalid, NaN where files hold that; with a "
        "scale, what files hold times the scale; with a registration, brought onto the pixels of its reference first, "
        "which the file does not do; resizing and normalising are in the file",
    }


def _registration(sensors: Sequence[str], config: RunConfig) -> dict[str, Any] | None:
    """Return how sensors were brought onto the pixels of another in training; None if they were not."""
    registration = config.data.registration
    moved = [name for name in sensors if registration is not None and name in registration.sensors]
    if registration is None or not moved:
        return None
    values = registration.model_dump(mode="json")
    return {**values, "sensors": {name: values["sensors"][name] for name in moved}}


def _view(modality: str, config: RunConfig, view: View) -> dict[str, Any]:
    scale, invalid = (getattr(config.data, option, None) or {} for option in ("scale", "invalid"))
    text = inspect.cleandoc(type(view).__doc__ or "").partition("\nExamples:")[0].strip()
    return {
        "kind": "view",
        "modality": modality,
        "sensors": list(view.sensors),
        "unit": "0 to 1",
        "invalid": 0 if view.background_is_zero else None,
        "scale": {name: scale[name] for name in view.sensors if name in scale} or None,
        "stored_invalid": {name: invalid[name] for name in view.sensors if name in invalid} or None,
        "registration": _registration(view.sensors, config),
        "made_by": f"{type(view).__module__}.{type(view).__qualname__}",
        "options": view.config.model_dump(mode="json"),
        "meaning": text,
    }


def _output(name: str, plan: Plan) -> dict[str, Any]:
    size = plan.image_size
    kind = name.partition("_")[0]
    is_map = name in ("anomaly_map", "mask") or kind == "map"
    of = next((modality for modality in plan.modalities if name in (f"score_{modality}", f"map_{modality}")), None)
    meanings = {
        "score": "the anomaly score of the sample, raw",
        "anomaly_map": "the fused map, smoothed, raw",
        "label": "score > threshold",
        "mask": "anomaly_map > pixel_threshold",
    }
    branch = f"of the branch of {of}, 0 where it is missing"
    meaning = (
        meanings[name] if of is None else f"the map {branch}" if is_map else f"the highest value of the map {branch}"
    )
    return {
        "name": name,
        "dtype": "bool" if name in ("label", "mask") else "float32",
        "shape": ["N", 1, size, size] if is_map else ["N"],
        "modality": of,
        "meaning": meaning,
    }


def _thresholds(thresholds: Thresholds | None) -> dict[str, Any] | None:
    if thresholds is None:
        return None
    return {
        "false_alarms": thresholds.false_alarms,
        "image": [{"modalities": list(names), **_cut(cut)} for names, cut in thresholds.images.items()],
        "pixels": [{"modalities": list(names), **_cut(cut)} for names, cut in thresholds.pixels.items()],
    }


def _cut(found: Threshold) -> dict[str, Any]:
    return {
        "threshold": found.value,
        "rate": found.rate,
        "normals": found.normals,
        "rule": found.rule,
        "rule_in_words": RULES[found.rule],
        "extrapolated": found.extrapolated,
    }
