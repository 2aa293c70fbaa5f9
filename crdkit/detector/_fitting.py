"""Whether a detector's teachers give the features that its branches were built for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from crdkit.errors import DetectorFormatError
from crdkit.model.layers import FeatureSpec


def require_fitting(
    features: Mapping[str, Sequence[torch.Tensor]], specs: Mapping[str, FeatureSpec], *, image_size: int
) -> None:
    """Refuse features [(B, C, S, S)] of other shapes than ``specs``, as an edited config.json makes teachers give.

    Raises:
        DetectorFormatError: the message names the modality, what was found and what was expected.
    """
    for name, levels in features.items():
        found = [f"{level.shape[1]} x {level.shape[2]} x {level.shape[3]}" for level in levels]
        spec = specs[name]
        expected = [f"{c} x {size} x {size}" for c, size in zip(spec.channels, spec.sizes, strict=True)]
        if found != expected:
            raise DetectorFormatError(
                f"the teacher of {name!r} gives {', '.join(found)} (channels x height x width) for images of "
                f"{image_size} x {image_size}, but the branches were trained on {', '.join(expected)}: "
                "data.image_size or the encoder's options in config.json are not those that the detector was trained "
                "with; copy the detector again"
            )
