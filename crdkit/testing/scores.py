"""The contract of image scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from crdkit.scoring.maps import GaussianSmoothing
from crdkit.scoring.scores import FusedMaps, scores
from crdkit.testing.parts import check_description
from crdkit.testing.requirement import require, require_close, require_same

_SIZE, _SIGMA = 16, 1.0


def check_score(name: str, options: Mapping[str, Any] | None = None) -> None:
    """Check an image score: one finite float32 number a sample, higher where a defect is, and a state that is saved.

    Raises:
        AssertionError: the message names the broken promise.

    Examples:
        >>> check_score("maximum")
    """
    check_description("score", name, options)
    what = f"score {name!r}"
    config, cls = scores.build_config({"name": name, **(options or {})}), scores.get(name)
    generator = torch.Generator().manual_seed(0)
    normals = _fused(torch.rand(7, _SIZE, _SIZE, generator=generator))
    inside = torch.zeros(7, _SIZE, _SIZE, dtype=torch.bool)
    inside[:, 3:-3, 2:-2] = True
    for known in (normals, replace(normals, foreground=inside)):
        part = cls(config, sigma=_SIGMA, size=_SIZE)
        before = known.raw.clone()
        part.calibrate(known)
        found = part(known)
        require_same([known.raw], [before], f"{what} modifies the maps that it is given")
        shape = (tuple(found.shape), found.dtype)
        require(shape == ((7,), torch.float32), f"{what} returns {shape[1]} {shape[0]}, expected float32 (B,)")
        require(bool(found.isfinite().all()), f"{what} returns values that are not finite")
        defective = known.raw.clone()
        defective[:, 6:9, 6:9] += 5
        higher = part(replace(_fused(defective), foreground=known.foreground))
        require(bool((higher > found).all()), f"{what} does not rise with a defect that stands out from all normals")
        alone = part(_rows(known, slice(2, 3)))
        require_close([alone], [found[2:3]], f"{what}: a sample's result depends on the others of its batch")
        part.calibrate(_fused(known.raw + 1))
        part.calibrate(known)
        require_same([part(known)], [found], f"{what}: a second calibration does not replace the first")
        restored = cls(config, sigma=_SIGMA, size=_SIZE)
        restored.load_state_dict(part.state_dict())
        require_same([restored(known)], [found], f"{what}: a copy with its state dict gives other results")
    for constant in (0.0, 0.3):
        part = cls(config, sigma=_SIGMA, size=_SIZE)
        flat = _fused(torch.full((2, _SIZE, _SIZE), constant))
        part.calibrate(flat)
        finite = bool(part(flat).isfinite().all()) and bool(part(normals).isfinite().all())
        require(finite, f"{what} is not finite after a calibration on constant maps; divide by something above 0")


def _fused(raw: torch.Tensor) -> FusedMaps:
    return FusedMaps(raw=raw, smoothed=GaussianSmoothing(_SIGMA, size=_SIZE)(raw))


def _rows(maps: FusedMaps, rows: slice) -> FusedMaps:
    foreground = None if maps.foreground is None else maps.foreground[rows]
    return FusedMaps(raw=maps.raw[rows], smoothed=maps.smoothed[rows], foreground=foreground)
