"""The defects an object can have: each changes its colour, its shape, the heat it holds, or several of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from crdkit.data.synthetic.objects import ObjectKind
from crdkit.data.synthetic.surface import MM, Field, Solid, colour, mix, smoothstep, value_noise


def _draw_point(solid: Solid, *, margin: float, rng: np.random.Generator) -> tuple[float, float]:
    """Draw a point of the object at least ``margin`` metres from its outline, or as far as possible."""
    deep = np.flatnonzero(solid.inside >= min(margin, 0.85 * float(solid.inside.max())))
    pixel = deep[int(rng.random() * deep.size)]
    return float(solid.x.flat[pixel]), float(solid.y.flat[pixel])


def _blob(solid: Solid, *, radius: float, ragged: float, margin: float, rng: np.random.Generator) -> Field:
    """Distance to the centre of an irregular blob in units of its radius, (H, W); 1 on its outline."""
    x, y = _draw_point(solid, margin=margin, rng=rng)
    dx, dy = solid.x - x, solid.y - y
    turn, stretch = rng.uniform(0.0, np.pi), rng.uniform(1.0, 1.3)
    along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    edge = 1.0 + ragged * value_noise(dx, dy, cell=0.8 * radius, rng=rng)
    distance: Field = np.hypot(along / stretch, across * stretch) / (radius * edge)
    return distance


def stain(solid: Solid, kind: ObjectKind, rng: np.random.Generator) -> Solid:
    """Colour only: a ragged, mottled patch of foreign colour."""
    radius = rng.uniform(7.0, 11.0) * MM
    distance = _blob(solid, radius=radius, ragged=0.35, margin=0.5 * radius, rng=rng)
    mottle = 1.0 + 0.18 * value_noise(solid.x, solid.y, cell=2.2 * MM, rng=rng)
    opacity = rng.uniform(0.72, 0.9) * smoothstep((1.0 - distance) / 0.25) * mottle
    return replace(solid, albedo=mix(solid.albedo, kind.stain, opacity))


def fade(solid: Solid, kind: ObjectKind, rng: np.random.Generator) -> Solid:
    """Colour only: a patch that has lost its colour."""
    radius = rng.uniform(8.0, 12.0) * MM
    distance = _blob(solid, radius=radius, ragged=0.2, margin=0.5 * radius, rng=rng)
    opacity = rng.uniform(0.65, 0.85) * smoothstep((1.0 - distance) / 0.3)
    return replace(solid, albedo=mix(solid.albedo, kind.fade, opacity))


def dent(solid: Solid, kind: ObjectKind, rng: np.random.Generator) -> Solid:
    """Shape only: a hollow 3 to 5 mm deep."""
    return _press(solid, depth=rng.uniform(3.2, 5.0) * MM, rng=rng)


def bump(solid: Solid, kind: ObjectKind, rng: np.random.Generator) -> Solid:
    """Shape only: a swelling 3 to 5 mm high."""
    return _press(solid, depth=-rng.uniform(3.2, 5.0) * MM, rng=rng)


def _press(solid: Solid, *, depth: float, rng: np.random.Generator) -> Solid:
    radius = rng.uniform(9.5, 13.0) * MM
    distance = _blob(solid, radius=radius, ragged=0.08, margin=0.8 * radius, rng=rng)
    profile = np.clip(1.0 - distance**2, 0.0, 1.0) ** 2
    return replace(solid, height=_lower(solid.height, depth * profile))


def _lower(height: Field, by: Field) -> Field:
    """Lower a surface, but leave at least one millimetre of it."""
    lowered: Field = np.maximum(height - by, np.minimum(height, 1.0 * MM))
    return lowered


def crack(solid: Solid, kind: ObjectKind, rng: np.random.Generator) -> Solid:
    """Colour, shape and heat: a jagged, dark groove 3 to 6 mm deep, which has cooled more."""
    x, y = _draw_point(solid, margin=10.0 * MM, rng=rng)
    length, width, steps = rng.uniform(38.0, 52.0) * MM, rng.uniform(1.75, 2.3) * MM, 9
    # Aim past the centre, so that the crack runs over the object and not off it.
    heading = np.arctan2(-y, -x) + rng.uniform(-0.5, 0.5)
    headings = heading + np.cumsum(rng.normal(0.0, 0.32, steps)) + rng.normal(0.0, 0.3, steps)
    xs = x + np.concatenate([[0.0], np.cumsum(np.cos(headings))]) * length / steps
    ys = y + np.concatenate([[0.0], np.cumsum(np.sin(headings))]) * length / steps
    distance = np.full_like(solid.x, np.inf)
    for step in range(steps):
        dx, dy = xs[step + 1] - xs[step], ys[step + 1] - ys[step]
        along = np.clip(((solid.x - xs[step]) * dx + (solid.y - ys[step]) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
        taper = width * (1.0 - 0.55 * abs(2.0 * (step + 0.5) / steps - 1.0))
        reach = np.hypot(solid.x - xs[step] - along * dx, solid.y - ys[step] - along * dy) / taper
        np.minimum(distance, reach, out=distance)
    groove = smoothstep((1.25 - distance) / 0.8)
    depth = rng.uniform(3.0, 6.0) * MM
    return replace(
        solid,
        height=_lower(solid.height, depth * groove),
        albedo=mix(solid.albedo, solid.albedo * colour("6b5648"), groove),
        gloss=solid.gloss * (1.0 - groove),
        warmth=solid.warmth * (1.0 - 0.3 * groove),
    )


def broken(solid: Solid, kind: ObjectKind, rng: np.random.Generator) -> Solid:
    """Colour, shape and heat: a piece is missing at the outline, and the table shows."""
    radius = rng.uniform(9.0, 12.0) * MM
    rim = replace(solid, inside=np.where(solid.inside < 0.35 * radius, solid.inside, -1.0))
    distance = _blob(rim, radius=radius, ragged=0.22, margin=0.0, rng=rng)
    gap = (distance - 1.0) * radius
    torn = smoothstep(1.0 - gap / (2.5 * MM))
    return replace(
        solid,
        inside=np.minimum(solid.inside, gap),
        albedo=mix(solid.albedo, solid.albedo * 0.72, torn),
    )


def void(solid: Solid, kind: ObjectKind, rng: np.random.Generator) -> Solid:
    """Heat only: a cavity under an intact surface, which has cooled more than its surroundings."""
    radius = rng.uniform(8.0, 12.0) * MM
    distance = _blob(solid, radius=radius, ragged=0.15, margin=0.8 * radius, rng=rng)
    emptiness = rng.uniform(0.45, 0.6) * smoothstep((1.0 - distance) / 0.3)
    return replace(solid, warmth=solid.warmth * (1.0 - emptiness))


Defect: TypeAlias = Callable[[Solid, ObjectKind, np.random.Generator], Solid]

DEFECTS: dict[str, Defect] = {
    "stain": stain,
    "fade": fade,
    "dent": dent,
    "bump": bump,
    "crack": crack,
    "broken": broken,
}
"""Every defect that a camera or a scanner can see, by its name, which is also the name of its folder; ``stain`` and
``fade`` leave the shape untouched to the last bit, ``dent`` and ``bump`` the colour of the material."""

INFRARED_DEFECTS: dict[str, Defect] = {"void": void}
"""The defects that only an infrared camera can see: every other sensor reads the same, to the last bit."""
