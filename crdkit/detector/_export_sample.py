"""A made-up sample for an exported detector, with which any runtime can test itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crdkit.data.statistics import from_json
from crdkit.detector._export_graph import PRESENT, GraphInput, Plan


def make_samples(
    plan: Plan, sensor_statistics: Mapping[str, Any], *, count: int, height: int, width: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return the inputs of ``count`` samples by name, without thresholds: smooth noise in the range of the training.

    Views have a background of 0 around a disc. Where samples may lack sensors, the first has all of them.
    """
    rng, known = np.random.default_rng(seed), from_json(sensor_statistics)
    made: dict[str, np.ndarray] = {}
    for entry in plan.inputs:
        shape = _shape(entry, count=count, height=height, width=width)
        if entry.sensor is None:
            made[entry.name] = (_noise(rng, shape, axes=(2, 3)) * _disc(*shape[2:])).astype(np.float32)
            continue
        limits = (known[entry.sensor].low, known[entry.sensor].high) if entry.sensor in known else (0.0, 1.0)
        low, high = (0.0, 255.0) if entry.dtype == "uint8" else limits
        made[entry.name] = (low + (high - low) * _noise(rng, shape, axes=(1, 2))).astype(entry.dtype)
    if plan.spares:
        present = rng.random((count, len(plan.sensors))) < 0.5
        some = rng.integers(len(plan.modalities), size=count)  # each has one modality at least
        for row, sensors in enumerate([*plan.modalities.values()][place] for place in some):
            present[row, [plan.sensors.index(sensor) for sensor in sensors]] = True
        present[0] = True
        made[PRESENT] = present
    return made


def _shape(entry: GraphInput, *, count: int, height: int, width: int) -> tuple[int, ...]:
    sides: dict[str | int, int] = {"N": count, "H": height, "W": width}
    return tuple(sides[side] if isinstance(side, str) else side for side in entry.shape)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], *, axes: tuple[int, int]) -> np.ndarray:
    """Return noise in [0, 1], coarse and fine."""
    coarse = list(shape)
    for axis in axes:
        coarse[axis] = -(-shape[axis] // 8)
    blocks = rng.random(coarse)
    for axis in axes:
        blocks = blocks.repeat(8, axis=axis)
    blocks = blocks[tuple(slice(side) for side in shape)]
    return np.asarray(0.8 * blocks + 0.2 * rng.random(shape))


def _disc(height: int, width: int) -> np.ndarray:
    rows, columns = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.asarray(rows**2 + columns**2 < 0.8)


def write_arrays(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write each array to ``<name>.npy`` in the folder: little-endian, C order, format 1.0, never pickled."""
    for name, array in arrays.items():
        ordered = np.ascontiguousarray(array) if array.ndim else array
        np.save(folder / f"{name}.npy", ordered.astype(ordered.dtype.newbyteorder("<")), allow_pickle=False)
