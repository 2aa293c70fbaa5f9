"""Defects pasted into views of normal samples: what a defect does to a map, learned without any defect."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F

_RADII = (0.02, 0.15)  # of a defect, share of the side
_SHIFTS = (0.06, 0.25)  # how far transplanted content comes from, share of the side
_STEPS = (0.05, 0.3)  # of a changed level, share of the range of values on the object


def paste_defects(
    views: Mapping[str, torch.Tensor], foreground: torch.Tensor | None, *, generator: torch.Generator
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Paste one defect into each of N samples, where the object is.

    A defect is a soft, irregular spot, 2 to 15 % of the side in radius. In each modality that it concerns, which is at
    least one, it holds content from elsewhere on the sample, or other levels. So some defects show in colour alone,
    some in geometry alone and some in both, as in G2SF (arXiv 2503.10091) and DeSTSeg (arXiv 2211.11317), which paste
    noise and textures.

    Args:
        views: by modality, (N, C, S, S) in [0, 1], on the CPU.
        foreground: (N, S, S) bool, see `crdkit.views.foreground.join_foregrounds`; None: anywhere.
        generator: of the CPU; equal states give equal defects.

    Returns:
        The changed views, and where they changed, (N, S, S) bool.

    Examples:
        >>> views = {"rgb": torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))}
        >>> pasted, mask = paste_defects(views, None, generator=torch.Generator().manual_seed(1))
        >>> bool((pasted["rgb"] == views["rgb"]).all(1)[~mask].all()), bool(mask.flatten(1).any(1).all())
        (True, True)
    """
    first = next(iter(views.values()))
    count, size = len(first), first.shape[-1]
    changed = {name: view.clone() for name, view in views.items()}
    masks = torch.zeros(count, size, size, dtype=torch.bool)
    for row in range(count):
        inside = torch.ones(size, size, dtype=torch.bool) if foreground is None else foreground[row].cpu()
        spot = _spot(inside, generator)
        for name in _some(list(views), generator):
            view = views[name][row]
            changed[name][row] = view + spot * (_content(view, inside, generator) - view)
            masks[row] |= (changed[name][row] != view).any(dim=0)
    return changed, masks


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def _some(names: list[str], generator: torch.Generator) -> list[str]:
    """Return each name with probability 1/2, one at least."""
    chosen = [name for name in names if _uniform(0, 1, generator) < 0.5]
    return chosen or [names[_below(len(names), generator)]]


def _spot(inside: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return a soft spot (S, S) in [0, 1] around a random pixel of ``inside``, and nowhere else."""
    size = len(inside)
    places = inside.nonzero()
    row, column = places[_below(len(places), generator)].tolist()
    radius = size * math.exp(_uniform(math.log(_RADII[0]), math.log(_RADII[1]), generator))
    angle, stretch = _uniform(0, math.pi, generator), _uniform(1, 2.5, generator)
    y, x = torch.meshgrid(torch.arange(size) - row, torch.arange(size) - column, indexing="ij")
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    cells = max(size // 16, 2)
    noise = F.interpolate(torch.rand(1, 1, cells, cells, generator=generator), size=(size, size), mode="bicubic")[0, 0]
    distance = torch.hypot(along / stretch, across) / max(radius, 1.0) + noise - 0.5
    return (1.5 - distance).clamp(0, 1) * inside


def _content(view: torch.Tensor, inside: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return what a defect shows: the view (C, S, S) moved along, or with other levels."""
    if _uniform(0, 1, generator) < 0.5:
        signs = [1 if _uniform(0, 1, generator) < 0.5 else -1 for _ in range(2)]
        moves = [max(round(_uniform(*_SHIFTS, generator) * len(inside)), 1) * sign for sign in signs]
        return view.roll(moves, dims=(1, 2))
    values = view[:, inside]
    spread = (values.amax(dim=1) - values.amin(dim=1)).clamp_min(0.1)
    steps = torch.tensor([_uniform(*_STEPS, generator) for _ in spread])
    sign = 1 if _uniform(0, 1, generator) < 0.5 else -1
    return (view + sign * (steps * spread)[:, None, None]).clamp(0, 1)
