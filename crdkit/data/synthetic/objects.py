"""The kinds of object a scene can hold; each differs from sample to sample in shape and in colour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from crdkit.data.synthetic.surface import MM, Field, Solid, colour, mix, smoothstep, value_noise


@dataclass(frozen=True, kw_only=True)
class ObjectKind:
    """How to build one kind of object, and what its colour defects look like."""

    build: Callable[[Field, Field, np.random.Generator], Solid]
    """From object coordinates x, y (H, W) in metres and a random stream to the object."""
    rotation: float
    """Largest rotation on the table, radians either way."""
    stain: Field
    """(3, 1, 1) linear colour of a stain."""
    fade: Field
    """(3, 1, 1) linear colour of a faded patch."""


def biscuit(x: Field, y: Field, rng: np.random.Generator) -> Solid:
    """Bake a round, bumpy biscuit about 86 mm across and 13 mm high, with chocolate chips."""
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    outline = np.ones_like(r)
    for waves in range(2, 6):
        outline += rng.normal(0.0, 0.007) * np.cos(waves * angle + rng.uniform(0.0, 2.0 * np.pi))
    radius = outline * 43.0 * MM * rng.uniform(0.96, 1.05)
    inside = radius - r
    lumps = value_noise(x, y, cell=10 * MM, rng=rng)
    grain = value_noise(x, y, cell=3.2 * MM, rng=rng)
    crumbs = value_noise(x, y, cell=1.1 * MM, rng=rng)
    rim = np.sqrt(1.0 - (1.0 - np.clip(inside / (10 * MM), 0.0, 1.0)) ** 2)
    top = (9.0 + 3.0 * (1.0 - (r / radius) ** 2)) * rng.uniform(0.92, 1.08)
    height = rim * (top + 0.55 * lumps + 0.28 * grain + 0.12 * crumbs) * MM

    dough = mix(colour("e0ad68"), colour("c98d4b"), 0.5 + 0.5 * lumps + rng.uniform(-0.25, 0.25))
    baked = 0.75 * (1.0 - smoothstep(inside / (11 * MM))) + 0.22 * grain
    albedo = mix(dough, colour("8f5526"), baked) * (1.0 + 0.13 * crumbs + 0.07 * grain)
    albedo = mix(albedo, colour("7a4a22"), 0.6 * smoothstep((crumbs - 0.62) / 0.15))
    body = Solid(
        x=x,
        y=y,
        inside=inside,
        height=height,
        albedo=np.clip(albedo, 0.0, 1.0),
        gloss=np.full_like(r, 0.04),
        warmth=0.75 + 0.05 * lumps,
    )
    return _with_chips(body, reach=0.76 * float(radius.mean()), ripple=lumps, rng=rng)


def _with_chips(body: Solid, *, reach: float, ripple: Field, rng: np.random.Generator) -> Solid:
    """Press 9 to 12 chocolate chips into ``body`` within ``reach`` metres of its centre."""
    wanted, chips = int(rng.integers(9, 13)), list[tuple[float, float, float]]()
    for _ in range(400):
        distance, angle = reach * float(np.sqrt(rng.random())), float(rng.uniform(0.0, 2.0 * np.pi))
        x, y, radius = distance * np.cos(angle), distance * np.sin(angle), float(rng.uniform(3.3, 4.8)) * MM
        if len(chips) < wanted and all(np.hypot(x - cx, y - cy) > 12.5 * MM for cx, cy, _ in chips):
            chips.append((x, y, radius))
    nearest = np.full_like(body.x, np.inf)
    for x, y, radius in chips:
        np.minimum(nearest, np.hypot(body.x - x, body.y - y) / radius, out=nearest)
    nearest *= 1.0 + 0.12 * ripple
    cap = np.sqrt(np.clip(1.0 - nearest**2, 0.0, 1.0))
    chocolate = smoothstep((1.05 - nearest) / 0.16)
    return replace(
        body,
        height=body.height + 1.9 * MM * cap,
        albedo=mix(body.albedo, colour("4a2412"), chocolate),
        gloss=body.gloss + 0.30 * chocolate,
        warmth=body.warmth + 0.15 * chocolate,
    )


TEETH = 15
SPOKES = 5


def gear(x: Field, y: Field, rng: np.random.Generator) -> Solid:
    """Turn a metal gear about 94 mm across and 13 mm high: hub, web with five holes, toothed rim."""
    scale = rng.uniform(0.97, 1.03)
    x, y = x / scale, y / scale
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    wave = np.cos(TEETH * angle)
    radius = (42.3 + 4.4 * np.tanh(2.2 * wave)) * MM
    flank = 4.4 * MM * 2.2 * (1.0 - np.tanh(2.2 * wave) ** 2) * TEETH * np.sin(TEETH * angle) / np.maximum(r, 1e-4)
    inside = (radius - r) / np.sqrt(1.0 + flank**2)
    keyway = np.maximum(np.abs(x) - 2.2 * MM, np.maximum(y - 9.4 * MM, -y))
    inside = np.minimum(inside, np.minimum(r - 7.0 * MM, keyway))
    turn = angle - np.round(angle * SPOKES / (2.0 * np.pi)) * 2.0 * np.pi / SPOKES
    hole = np.hypot(r * np.cos(turn) - 23.0 * MM, r * np.sin(turn))
    inside = np.minimum(inside, hole - 5.0 * MM) * scale

    hub = 1.0 - smoothstep((r - 14.0 * MM) / (1.2 * MM))
    rim = smoothstep((r - 32.5 * MM) / (1.5 * MM))
    chamfer = smoothstep(inside / (1.1 * MM))
    turned = value_noise(r, angle * 7.0 * MM, cell=0.7 * MM, rng=rng)
    uneven = value_noise(x, y, cell=14 * MM, rng=rng)
    height = (8.6 + 4.2 * hub + 2.8 * rim - 0.9 * (1.0 - chamfer) + 0.10 * uneven) * rng.uniform(0.96, 1.04) * MM

    tint = rng.uniform(-0.036, 0.036, (3, 1, 1)) + rng.uniform(-0.1, 0.1)
    sheen = 1.0 + 0.16 * np.cos(2.0 * (angle - rng.uniform(0.0, np.pi))) * (1.0 - 0.4 * hub)
    brightness = sheen * (1.0 + 0.09 * turned + 0.05 * uneven) * (0.80 + 0.25 * np.maximum(hub, rim))
    grime = 0.45 * (smoothstep((hole - 4.0 * MM) / (3.5 * MM)) - 1.0)
    return Solid(
        x=x * scale,
        y=y * scale,
        inside=inside,
        height=height,
        albedo=np.clip(colour("8f959c") * (1.0 + tint) * (brightness * (1.0 + grime)), 0.0, 1.0),
        gloss=np.full_like(r, 0.20),
        warmth=0.30 + 0.03 * uneven,
    )


def capsule(x: Field, y: Field, rng: np.random.Generator) -> Solid:
    """Mould a smooth two-part capsule about 104 x 56 mm and 24 mm high, with printed stripes."""
    half_length, half_width = 52.0 * MM * rng.uniform(0.97, 1.03), 28.5 * MM * rng.uniform(0.97, 1.03)
    seam = rng.normal(0.0, 1.2) * MM
    cap = smoothstep((seam - x) / (0.8 * MM))
    half_width_here = half_width * (1.0 + 0.018 * cap)
    power = 2.5
    u, v = np.abs(x) / half_length, np.abs(y) / half_width_here
    level = u**power + v**power
    slope = power * np.hypot(u ** (power - 1) / half_length, v ** (power - 1) / half_width_here)
    inside = (1.0 - level) / np.maximum(slope, 10.0)
    uneven = value_noise(x, y, cell=16 * MM, rng=rng)
    belly = 11.0 * MM * rng.uniform(0.95, 1.06)
    rise = np.clip(1.0 - level ** (2.0 / power), 0.0, 1.0) ** 0.55
    height = belly * (0.9 + 1.25 * rise) + 0.12 * MM * uneven + 0.35 * MM * cap

    hue = rng.uniform(-0.5, 0.5)
    teal = mix(colour("1c8089"), colour("2b8f7d"), np.full_like(x, 0.5 + hue))
    cream = mix(colour("efe4c8"), colour("f2dcb4"), np.full_like(x, 0.5 + hue))
    albedo = mix(cream, teal, cap)
    shift = rng.normal(0.0, 0.9, 3) * MM
    for position, width, ink in (
        (16.0 * MM + shift[0], 3.2 * MM, colour("1c7079")),
        (23.0 * MM + shift[0], 1.4 * MM, colour("d9742b")),
        (-18.0 * MM + shift[1], 2.6 * MM, colour("efe4c8")),
    ):
        wobble = position + 0.25 * MM * uneven
        albedo = mix(albedo, ink, 0.92 * smoothstep((width - np.abs(x - wobble)) / (0.5 * MM)))
    speckle = value_noise(x, y, cell=1.3 * MM, rng=rng)
    groove = np.exp(-(((x - seam) / (0.7 * MM)) ** 2))
    albedo = albedo * (1.0 + 0.035 * speckle + 0.04 * uneven - 0.30 * groove)
    return Solid(
        x=x,
        y=y,
        inside=inside,
        height=height,
        albedo=np.clip(albedo, 0.0, 1.0),
        gloss=np.full_like(x, 0.30),
        warmth=0.50 + 0.18 * cap + 0.02 * uneven,
    )


OBJECT_KINDS: dict[str, ObjectKind] = {
    "biscuit": ObjectKind(build=biscuit, rotation=np.pi, stain=colour("5c6b4e"), fade=colour("f6ead6")),
    "gear": ObjectKind(build=gear, rotation=0.6, stain=colour("7c4322"), fade=colour("f6f2e4")),
    "capsule": ObjectKind(build=capsule, rotation=0.45, stain=colour("4b2a55"), fade=colour("98a39b")),
}
"""Every kind of object by its name, which is also the name of its category folder."""
