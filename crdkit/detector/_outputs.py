"""Maps on their way to the host: each at the size of its sample's raw sensors, as NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from crdkit._core.device import to_device
from crdkit.detector._samples import PreparedSample

Size = tuple[int, int]
"""Height and width in pixels."""


def maps_on_host(maps: Mapping[str, torch.Tensor], samples: Sequence[PreparedSample]) -> list[dict[str, np.ndarray]]:
    """Return each sample's (H, W) maps, by name, resized bilinearly from (B, S, S) to the size of its raw sensors.

    On a CPU one after the other. From another device all maps of the samples that have one size come in one resize and
    one copy, and the host waits once; the arrays own their memory, so that one that is kept keeps no others. Maps of
    modalities that a sample lacks are left out.
    """
    if next(iter(maps.values())).device.type != "cpu":
        return _in_groups(maps, samples)
    return [
        {
            name: _resize(values[row][None, None], (sample.height, sample.width))[0, 0].numpy()
            for name, values in maps.items()
            if name not in sample.missing
        }
        for row, sample in enumerate(samples)
    ]


def _in_groups(maps: Mapping[str, torch.Tensor], samples: Sequence[PreparedSample]) -> list[dict[str, np.ndarray]]:
    sizes = [(sample.height, sample.width) for sample in samples]
    stacked = torch.stack([*maps.values()])  # (maps, B, S, S)
    device, copies = stacked.device, {}
    for size in dict.fromkeys(sizes):
        rows = [row for row, other in enumerate(sizes) if other == size]
        chosen = stacked if len(rows) == len(sizes) else stacked[:, to_device(torch.tensor(rows), device)]
        copies[size] = rows, _begin_copy(_resize(chosen, size))
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    found: list[dict[str, np.ndarray]] = [{} for _ in samples]
    for rows, copy in copies.values():
        for name, of_samples in zip(maps, copy.numpy(), strict=True):
            for row, values in zip(rows, of_samples, strict=True):
                if name not in samples[row].missing:
                    found[row][name] = values.copy()
    return found


def _resize(maps: torch.Tensor, size: Size) -> torch.Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def _begin_copy(values: torch.Tensor) -> torch.Tensor:
    """Queue the copy to pinned host memory; it is there once the current stream has come that far."""
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=values.device.type == "cuda")
    return host.copy_(values, non_blocking=True)
