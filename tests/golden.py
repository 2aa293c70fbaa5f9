"""Regenerates the inputs and weights of the golden values from their stated rules."""

from __future__ import annotations

import json
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parent / "data"
MODALITIES = ("rgb", "depth")
SAMPLES = 256


def draw(key: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(f"golden/{key}".encode()))


@cache
def description() -> dict:
    return json.loads((DATA / "student.json").read_text())


@cache
def values() -> dict[str, np.ndarray]:
    with np.load(DATA / "student.npz") as stored:
        return dict(stored)


def student_state(modality: str) -> dict[str, torch.Tensor]:
    state = {}
    for name, shape in description()["state"]:
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
            continue
        z = draw(f"{modality}/{name}").standard_normal(tuple(shape))
        if len(shape) == 4:
            z *= np.sqrt(2 * shape[0] / z.size)
        elif name.endswith("running_var"):
            z = 1 + 0.1 * np.abs(z)
        elif name.endswith(("running_mean", "bias")):
            z = 0.1 * z
        else:
            z = 1 + 0.1 * z
        state[name] = torch.from_numpy(z.astype(np.float32))
    return state


def teacher_features(modality: str) -> list[torch.Tensor]:
    batch = description()["batch"]
    return [
        torch.from_numpy(
            np.maximum(draw(f"features/{modality}/{level}").standard_normal((batch, *shape)), 0).astype(np.float32)
        )
        for level, shape in enumerate(description()["feature_shapes"])
    ]


def sampled(name: str, tensor: torch.Tensor) -> np.ndarray:
    flat = tensor.detach().numpy().ravel()
    return flat[draw(f"index/{name}").randint(0, flat.size, SAMPLES)]
