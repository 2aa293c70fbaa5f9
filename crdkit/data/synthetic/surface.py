"""What objects and defects are made of: fields over the image plane, seeded noise, colours."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Field: TypeAlias = NDArray[np.float64]
"""One value per pixel, (H, W), or one colour per pixel, (3, H, W): NumPy broadcasts whole planes fastest."""

MM = 1e-3
"""One millimetre in metres."""


@dataclass(frozen=True, kw_only=True)
class Solid:
    """One object as seen from above, in its own coordinates (metres, origin at its centre)."""

    x: Field
    """(H, W) object coordinate of each pixel, metres."""
    y: Field
    """(H, W) object coordinate of each pixel, metres."""
    inside: Field
    """(H, W) distance to the outline, metres; negative outside the object."""
    height: Field
    """(H, W) height above the table, metres; only meaningful where ``inside`` > 0."""
    albedo: Field
    """(3, H, W) diffuse reflectance, linear, 0 to 1."""
    gloss: Field
    """(H, W) strength of the specular lobe, 0 (matte) to 1."""
    warmth: Field
    """(H, W) how warm the material looks to a thermal camera, 0 (like the table) to 1."""


def stream(key: Sequence[int], name: str) -> np.random.Generator:
    """Open the random stream ``name`` of the sample ``key``, independent of every other stream.

    Examples:
        >>> stream((0, 1), "rgb").integers(1000) == stream((0, 1), "rgb").integers(1000)
        np.True_
    """
    return np.random.default_rng([*key, zlib.crc32(name.encode())])


def colour(hex_code: str) -> Field:
    """Convert ``"rrggbb"`` (display values) to linear reflectance, (3, 1, 1).

    >>> colour("ffffff").ravel().tolist()
    [1.0, 1.0, 1.0]
    """
    display = np.array(list(bytes.fromhex(hex_code)), dtype=np.float64).reshape(3, 1, 1) / 255.0
    linear: Field = display**2.2
    return linear


def mix(first: Field, second: Field, amount: Field) -> Field:
    """Blend colours: ``first`` where ``amount`` (H, W) is 0 and ``second`` where it is 1; (3, H, W)."""
    blended: Field = first + (second - first) * np.clip(amount, 0.0, 1.0)
    return blended


def smoothstep(value: Field) -> Field:
    """Rise from 0 to 1 over 0 <= value <= 1 with flat ends."""
    t = np.clip(value, 0.0, 1.0)
    smooth: Field = t * t * (3.0 - 2.0 * t)
    return smooth


def value_noise(x: Field, y: Field, *, cell: float, rng: np.random.Generator, lattice: int = 64) -> Field:
    """Draw smooth noise within -1 to 1 whose bumps are about ``cell`` wide, in the unit of ``x`` and ``y``.

    It depends on the coordinates only, so the same seed gives the same surface at any resolution.
    """
    values = rng.uniform(-1.0, 1.0, lattice * lattice)
    column, row = x / cell, y / cell
    left, top = np.floor(column), np.floor(row)
    right_weight, bottom_weight = smoothstep(column - left), smoothstep(row - top)
    j, i = left.astype(np.intp) % lattice, top.astype(np.intp) % lattice * lattice
    j_next, i_next = (j + 1) % lattice, (i + lattice) % (lattice * lattice)
    upper_left, lower_left = values.take(i + j), values.take(i_next + j)
    upper = upper_left + (values.take(i + j_next) - upper_left) * right_weight
    lower = lower_left + (values.take(i_next + j_next) - lower_left) * right_weight
    noise: Field = upper + (lower - upper) * bottom_weight
    return noise


def blur(field: Field, *, sigma: float) -> Field:
    """Blur ``field`` (..., H, W) with a Gaussian of ``sigma`` pixels and periodic borders."""
    height, width = field.shape[-2:]
    decay = -2.0 * (np.pi * sigma) ** 2
    transfer = np.exp(decay * np.fft.fftfreq(height) ** 2)[:, None] * np.exp(decay * np.fft.rfftfreq(width) ** 2)
    blurred: Field = np.fft.irfft2(np.fft.rfft2(field) * transfer, s=(height, width))
    return blurred
