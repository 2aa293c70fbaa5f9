"""Photometric stereo: brightness under several lights in, normals and reflectance out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_SATURATED = 0.98  # of the full range, from which on a pixel says only that it is bright
_ANYWHERE = 0.01  # share of a new pixel that may be saturated
_RIDGE = 1e-4  # of the lights' mean square: what two lights leave open is filled in towards the camera
_ENOUGH = 3  # lights that give a normal
_OFF = (0.2, 0.05)  # of a pixel's brightness, from which on a light does not fit the others, pass by pass


class Shading(NamedTuple):
    """What explains the brightness of P pixels under K lights."""

    normals: np.ndarray
    """(P, 3) unit vectors."""
    reflectance: np.ndarray
    """(P,): brightness under a light of length 1 that shines along the normal."""
    weights: np.ndarray
    """(K, P): how much each light counted."""


def fit_normals(
    brightness: np.ndarray, lights: np.ndarray, *, noise: float, usable: np.ndarray | None = None
) -> Shading:
    """Solve I_k = r (l_k . n) for r n in every pixel by weighted least squares (Woodham 1980).

    A light counts by its brightness relative to the pixel's third brightest (of three lights to the
    brightest), at most 1, so that shadows count little; then by how well it fits the others (Cauchy's weights), so that
    gloss does. A pixel that is no brighter than the noise faces the camera.

    Args:
        brightness: (K, P), linear.
        lights: (K, 3), from the object to the light; the length is its strength.
        noise: standard deviation of the brightness.
        usable: (K, P) bool, what is not saturated; None: all.
    """
    more = len(lights) > _ENOUGH
    usual = np.partition(brightness, -_ENOUGH, axis=0)[-_ENOUGH] if more else brightness.max(axis=0)
    usual = np.maximum(usual, 1e-9)
    shown = brightness / usual
    first = np.minimum(shown, 1)
    if usable is not None:
        first *= usable
    spread = float((lights * lights).sum(axis=1).mean())
    ridge = spread * (_RIDGE + (noise / usual) ** 2)
    weights, scaled = first, _solve(first, shown, lights, ridge)
    for tolerance in _OFF if more else ():
        off = shown - np.maximum(np.einsum("ki,ip->kp", lights, scaled), 0)
        weights = first / (1 + (off / tolerance) ** 2)
        scaled = _solve(weights, shown, lights, ridge)
    length = np.sqrt((scaled * scaled).sum(axis=0))
    return Shading((scaled / np.maximum(length, 1e-12)).T, length * usual, weights)


def _solve(weights: np.ndarray, shown: np.ndarray, lights: np.ndarray, ridge: np.ndarray) -> np.ndarray:
    """Return (3, P) with the least weighted squares, plus ``ridge`` times the squared distance from (0, 0, 1)."""
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    products = np.stack([lights[:, i] * lights[:, j] for i, j in pairs])
    a, b, c, d, e, f = np.einsum("mk,kp->mp", products, weights)  # of a symmetric 3 x 3 matrix, row by row
    a, d, f = a + ridge, d + ridge, f + ridge
    x, y, z = np.einsum("ki,kp->ip", lights, weights * shown)
    z = z + ridge
    cofactors = d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b
    aa, ab, ac, bb, bc, cc = cofactors
    determinant = a * aa + b * ab + c * ac
    scaled = np.stack([aa * x + ab * y + ac * z, ab * x + bb * y + bc * z, ac * x + bc * y + cc * z]) / determinant
    return np.asarray(scaled)


def saturated(image: np.ndarray) -> np.ndarray:
    """Return where some channel of linear (H, W, C) is as bright as it can be, (H, W) bool."""
    return np.asarray((image >= _SATURATED).any(axis=2))


def mostly_below(share: np.ndarray) -> np.ndarray:
    """Return where a share of saturated pixels is so small that it does not matter."""
    return np.asarray(share <= _ANYWHERE)
