"""Refuses anomaly maps that are not finite: damaged weights, or values beyond any range, never become a score."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch

from crdkit.errors import CrdkitError

FUSED = ""
"""Stands for the fused map where others are named after their modality."""


def extremes_on_host(maps: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the highest and the lowest value of every map (B, S, S), each (B,), by name; in one copy from the device.

    Examples:
        >>> extremes_on_host({"rgb": torch.tensor([[[0.0, 2.0], [1.0, float("nan")]]])})
        {'rgb': tensor([[nan],
                [nan]])}
    """
    flat = (values.flatten(1) for values in maps.values())
    found = torch.stack([torch.stack([values.amax(dim=1), values.amin(dim=1)]) for values in flat]).cpu()
    return dict(zip(maps, found, strict=True))


def require_finite(extremes: Mapping[str, torch.Tensor], sample: Callable[[int], str]) -> None:
    """Refuse maps that hold NaN or infinity.

    Args:
        extremes: of `extremes_on_host`.
        sample: names the sample of a row, for the message.

    Raises:
        CrdkitError: a map holds such a value; the message names the sample and the modality.
    """
    if all(bool(found.isfinite().all()) for found in extremes.values()):
        return
    # the fused map follows from the others, so it is named only where they are finite
    for name, found in sorted(extremes.items(), key=lambda item: item[0] == FUSED):
        for row in (~found.isfinite().all(dim=0)).nonzero().flatten().tolist():
            where, value = sample(row), next(value for value in found[:, row].tolist() if not math.isfinite(value))
            what = f"the map of modality {name!r}" if name != FUSED else "the fused map"
            raise CrdkitError(
                f"{where}{': ' if where else ''}{what} is not finite ({value}); check the values of this sample; if "
                "other samples give the same, the weights are unusable: train again"
            )
