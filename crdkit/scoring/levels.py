"""Levels of maps over the object: what image scores are made from."""

from __future__ import annotations

import torch


def floor_of(maps: torch.Tensor) -> torch.Tensor:
    """Return what normal (B, S, S) maps are counted from: 0, or their smallest value where that is below it.

    Examples:
        >>> floor_of(torch.tensor([[[-1.5, 2.0]]])), floor_of(torch.tensor([[[0.5, 2.0]]]))
        (tensor(-1.5000), tensor(0.))
    """
    return maps.amin().clamp_max(0)


def mean_level(maps: torch.Tensor, foreground: torch.Tensor | None, *, floor: torch.Tensor) -> torch.Tensor:
    """Return the mean of each (B, S, S) map above ``floor``, over the foreground or all pixels: (B,), above 0.

    Examples:
        >>> maps, inside = torch.tensor([[[1.0, 2.0], [0.0, 5.0]]]), torch.tensor([[[True, True], [False, False]]])
        >>> mean_level(maps, inside, floor=torch.tensor(0.0)), mean_level(maps, None, floor=torch.tensor(-1.0))
        (tensor([1.5000]), tensor([3.]))
    """
    above = (maps - floor).clamp_min(0)
    if foreground is None:
        return positive(above.flatten(1).mean(dim=1))
    inside = foreground.to(above.dtype)
    return positive((above * inside).flatten(1).sum(dim=1) / inside.flatten(1).sum(dim=1).clamp_min(1))


def positive(values: torch.Tensor) -> torch.Tensor:
    """Return ``values``, those below the resolution of float32 replaced by it, so that they can be divided by."""
    return values.clamp_min(torch.finfo(torch.float32).eps)


def top_mean(maps: torch.Tensor, foreground: torch.Tensor | None, *, share: float) -> torch.Tensor:
    """Return the mean of the largest values of each (B, S, S) map, ``share`` of its foreground or of all pixels: (B,).

    At least one pixel counts.

    Examples:
        >>> maps = torch.tensor([[[1.0, 2.0], [4.0, 3.0]]])
        >>> top_mean(maps, None, share=0.5)
        tensor([3.5000])
        >>> top_mean(maps, maps < 3, share=0.5)
        tensor([2.])
    """
    flat = maps.flatten(1)
    if foreground is None:
        return flat.topk(max(round(share * flat.shape[1]), 1), dim=1).values.mean(dim=1)
    inside = foreground.flatten(1)
    count = (inside.sum(dim=1) * share).round().long().clamp_min(1)
    ranked = flat.masked_fill(~inside, -torch.inf).sort(dim=1, descending=True).values
    wanted = torch.arange(flat.shape[1], device=flat.device) < count[:, None]
    return torch.where(wanted, ranked, 0).sum(dim=1) / count
