"""What registered parts are checked on: feature shapes, raw sensors, and options if a part needs some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from crdkit.data.synthetic import SENSORS, make_scene, render_sensors, sample_key, scanner_camera
from crdkit.errors import unknown_name
from crdkit.model.layers import FeatureSpec, Levels

SPECS: Mapping[str, FeatureSpec] = {
    "cnn": FeatureSpec(channels=(4, 6, 10), sizes=(16, 8, 4), signed=False),
    "tokens": FeatureSpec(channels=(7, 7), sizes=(9, 9), signed=True),
    "single": FeatureSpec(channels=(5,), sizes=(8,), signed=False),
}
"""Feature pyramids that every filter and amplifier must join, in both directions."""

STANDS_FOR = {"thermal": "infrared", "polarisation": "infrared"}  # also single 16-bit channels


class TinyTeacher(nn.Module):
    """Two levels at strides 4 and 8 with untrained weights: a network for the encoder ``module``."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 5, 4, stride=4), nn.Conv2d(5, 9, 2, stride=2)

    def forward(self, images: torch.Tensor) -> Levels:
        """Map (B, 3, S, S) to [(B, 5, S / 4, S / 4), (B, 9, S / 8, S / 8)]."""
        fine = self.fine(images)
        return [fine, self.coarse(fine)]


EXAMPLES: Mapping[tuple[str, str], Mapping[str, Any]] = MappingProxyType(
    {
        ("encoder", "timm"): {"options": {"model": "test_resnet", "pretrained": False}},
        ("encoder", "module"): {"options": {"target": f"{__name__}:TinyTeacher"}},
        ("aggregation", "weighted"): {
            "options": {"weights": {"rgb": 1, "depth": 0.5, "infrared": 2}},
            "modalities": ("rgb", "depth", "infrared"),
        },
    }
)
"""Arguments of the checks of crdkit's own parts that cannot be checked without any, by kind and name."""


def example_features(spec: FeatureSpec, *, batch: int = 2, seed: int = 0) -> Levels:
    """Return random levels [(B, C_l, H_l, W_l)] with the shapes of ``spec``, without negative values if it is unsigned.

    Examples:
        >>> [tuple(level.shape) for level in example_features(SPECS["tokens"])]
        [(2, 7, 9, 9), (2, 7, 9, 9)]
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = zip(spec.channels, spec.sizes, strict=True)
    levels = [torch.randn(batch, channels, size, size, generator=generator) for channels, size in shapes]
    return levels if spec.signed else [level.relu() for level in levels]


def example_sensors(
    names: Sequence[str],
    *,
    size: tuple[int, int] = (48, 64),
    kind: str = "gear",
    defect: str | None = None,
    keyed_by: str | None = None,
    index: int = 0,
) -> dict[str, np.ndarray]:
    """Return the raw, read-only arrays of the sensors ``names``, rendered from one synthetic scene.

    Args:
        names: sensors that `crdkit.data.synthetic` can render, or ``thermal`` and ``polarisation``.
        size: height and width.
        kind: the object, a key of `crdkit.data.synthetic.OBJECT_KINDS`.
        defect: a key of `crdkit.data.synthetic.DEFECTS` or ``INFRARED_DEFECTS``; None for an intact object.
        keyed_by: a defect's name gives the intact twin of the scene with that defect.
        index: each number gives another sample.

    Raises:
        UnknownNameError: there is no example of a sensor.

    Examples:
        >>> {name: (array.shape, str(array.dtype)) for name, array in example_sensors(["rgb", "xyz"]).items()}
        {'rgb': ((48, 64, 3), 'uint8'), 'xyz': ((48, 64, 3), 'float32')}
    """
    sources = {name: STANDS_FOR.get(name, name) for name in names}
    for name, source in sources.items():
        if source not in SENSORS:
            raise unknown_name("example sensor", name, [*SENSORS, *STANDS_FOR], hint="; pass samples of your own")
    key = sample_key(0, kind, "test", keyed_by or str(defect), index)
    measured = _measure(tuple(dict.fromkeys(sources.values())), size, kind=kind, defect=defect, key=key)
    return {name: measured[source] for name, source in sources.items()}


@cache
def _measure(
    sensors: tuple[str, ...], size: tuple[int, int], *, kind: str, defect: str | None, key: tuple[int, ...]
) -> dict[str, np.ndarray]:
    measured = render_sensors(make_scene(kind, camera=scanner_camera(size), key=key, defect=defect), sensors)
    for array in measured.values():
        array.flags.writeable = False  # a view must not modify what it reads
    return measured
