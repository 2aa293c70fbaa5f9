"""Masks as outlines that a browser draws over a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int]


def outline(mask: NDArray[np.bool_]) -> str:
    """Return the edges of an (H, W) mask as the data of an SVG path, in pixels; empty for an empty mask.

    Holes are outlined, too, so that the path is filled right with the rule ``evenodd``.

    Examples:
        >>> outline(np.array([[0, 0, 0, 0], [0, 1, 1, 0]], dtype=bool))
        'M1 1h2v1h-2z'
    """
    steps = _steps(mask)
    loops = []
    for start in list(steps):
        while steps.get(start):
            loops.append(_loop(start, steps))
    return "".join(loops)


def _steps(mask: NDArray[np.bool_]) -> dict[Point, list[Point]]:
    """Return the edges of inside pixels with nothing beyond, from corner to corner, the inside on the right."""
    padded = np.pad(np.asarray(mask, dtype=bool), 1)
    inside = padded[1:-1, 1:-1]
    sides = (  # what lies beyond the side, where it begins, and where it ends
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    found: list[tuple[Point, Point]] = []
    for beyond, (x0, y0), (x1, y1) in sides:
        rows, columns = np.nonzero(inside & ~beyond)
        found += [((x + x0, y + y0), (x + x1, y + y1)) for y, x in zip(rows.tolist(), columns.tolist(), strict=True)]
    steps: dict[Point, list[Point]] = {}
    for start, end in sorted(found, key=lambda step: (step[0][1], step[0][0])):
        steps.setdefault(start, []).append(end)
    return steps


def _loop(start: Point, steps: dict[Point, list[Point]]) -> str:
    """Take one closed line out of the steps, and return it with straight runs joined."""
    runs: list[list[int]] = []  # whether vertical, and how far
    at = start
    while not runs or at != start:
        to = steps[at].pop()
        vertical, length = (0, to[0] - at[0]) if to[1] == at[1] else (1, to[1] - at[1])
        if runs and runs[-1][0] == vertical and (runs[-1][1] > 0) == (length > 0):
            runs[-1][1] += length
        else:
            runs.append([vertical, length])
        at = to
    return f"M{start[0]} {start[1]}" + "".join(f"{'hv'[vertical]}{length}" for vertical, length in runs[:-1]) + "z"
