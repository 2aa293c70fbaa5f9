"""Directions of lights that are not known, estimated once from normal parts: uncalibrated photometric stereo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crdkit.data import Sensors
from crdkit.errors import DataError, unknown_name
from crdkit.views._photometry import saturated
from crdkit.views.photometric import Direction, linear_stack

_SAMPLED = 50_000  # pixels that are looked at
_SHADE = 0.1  # of a pixel's brightest: a light that is darker may be hidden
_DARKEST = 0.02  # of the range
_FEWEST = 100  # pixels
_PASSES = 20
_ENOUGH = 3  # lights
_OTHER_ALBEDO = 0.1  # difference from the usual reflectance from which on a pixel counts little
_SINGULAR = 1e-3  # relative to the largest: surfaces that vary less have too few different normals


def estimate_directions(
    samples: Sequence[Sensors], *, sensors: Sequence[str], gamma: float = 2.2, near: Sequence[Direction] | None = None
) -> tuple[Direction, ...]:
    """Return the direction of each light, for the option ``directions`` of ``photometric_normals`` and ``albedo``.

    The pixels of all samples, as a matrix of brightness by light, have rank 3: its factors are lights and surface up to
    an invertible 3 x 3 matrix (Hayakawa, Journal of the Optical Society of America A 11, 1994). **Assumption: most of
    the pixels share one reflectance.** This leaves a rotation or reflection. With ``near`` it is the one that brings
    the lights nearest to those directions. Without, a convention: the mean normal points to the camera, the first light
    comes from the right, the second (or the first that is not opposite) from above. So normals may be turned or
    mirrored, but in all samples alike, which is all that a detector needs.

    Limits: on parts of several colours set what has another colour than most to 0, or the directions are skewed, again
    in all samples alike. Flat parts do not do: a ball of the parts' material does best. Three lights suffice. Pixels
    that are saturated or in shadow do not count, nor do black ones. Estimate once, on normal parts, and write the
    result into the configuration; estimates of each sample would differ with each defect.

    Args:
        samples: of normal parts, or of a ball, see `linear_stack` for their images.
        sensors: one per light.
        gamma: see ``photometric_normals``.
        near: roughly known directions (right, up, towards the camera), one per light; their length does not matter.

    Raises:
        DataError: there are no samples or less than three lights, ``near`` has another number of them, too few pixels
            are lit by all of them, or their normals are too much alike.
        UnknownNameError: a sample lacks a sensor.

    Examples:
        >>> right, up = np.meshgrid(np.linspace(-0.7, 0.7, 60), np.linspace(0.7, -0.7, 60))
        >>> ball = np.stack([right, up, np.sqrt(1 - right**2 - up**2)], axis=-1)
        >>> lights = {"a": (0.6, 0, 0.8), "b": (-0.3, 0.5, 0.81), "c": (-0.3, -0.5, 0.81)}
        >>> sample = {name: np.uint16(60_000 * np.clip(ball @ light, 0, 1)) for name, light in lights.items()}
        >>> (np.round(estimate_directions([sample], sensors=list("abc"), gamma=1), 1) + 0.0).tolist()
        [[0.6, 0.0, 0.8], [-0.3, 0.5, 0.8], [-0.3, -0.5, 0.8]]
    """
    if not samples or len(sensors) < _ENOUGH or (near is not None and len(near) != len(sensors)):
        hints = "" if near is None else f" and {len(near)} rough directions"
        raise DataError(
            f"the lights' directions cannot be told from {len(samples)} samples of {len(sensors)} lights{hints}: give "
            f"a sample or more, {_ENOUGH} lights or more, and of rough directions one for each light, or none"
        )
    brightness = _lit_everywhere(samples, sensors=sensors, gamma=gamma)
    left, singular, right = np.linalg.svd(brightness, full_matrices=False)
    if brightness.shape[1] < _FEWEST or singular[2] < _SINGULAR * singular[0]:
        raise DataError(
            f"the lights' directions cannot be told from {brightness.shape[1]} pixels that all of {len(sensors)} "
            "lights reach: their normals are too few, or too much alike; add samples, or photograph a ball"
        )
    lights, surface = left[:, :3] * singular[:3], right[:3]
    reflectance = _equal_reflectance(surface)
    lights, surface = lights @ np.linalg.inv(reflectance), reflectance @ surface
    turn = _agreed_axes(lights, surface) if near is None else _nearest_axes(lights, np.array(near, np.float64))
    turned = lights @ turn
    turned /= np.linalg.norm(turned, axis=1).mean()
    return tuple((float(x), float(y), float(z)) for x, y, z in turned)


def _lit_everywhere(samples: Sequence[Sensors], *, sensors: Sequence[str], gamma: float) -> np.ndarray:
    """Return the brightness (K, P) of some pixels that every light reaches."""
    found = []
    for sample in samples:
        for name in sensors:
            if name not in sample:
                raise unknown_name("sensor", name, sample)
        linear = linear_stack({name: sample[name] for name in sensors}, gamma=gamma)
        stack = np.stack([image.mean(axis=2) for image in linear])
        clipped = np.stack([saturated(image) for image in linear]).any(axis=0)
        low, high = stack.min(axis=0), stack.max(axis=0)
        found.append(stack[:, ~clipped & (high > _DARKEST) & (low > _SHADE * high)])
    pixels = np.concatenate(found, axis=1).astype(np.float64)
    chosen = np.linspace(0, pixels.shape[1] - 1, min(_SAMPLED, pixels.shape[1])).astype(np.intp)
    return np.asarray(pixels[:, chosen])


def _equal_reflectance(surface: np.ndarray) -> np.ndarray:
    """Return the symmetric 3 x 3 matrix A for which most columns of A ``surface`` (3, P) have length 1.

    Least squares for A A with weights that fall with a column's distance from length 1 (Cauchy's).
    """
    x, y, z = surface * np.sqrt(surface.shape[1])
    rows = np.stack([x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z], axis=1)
    weights = np.ones(len(rows))
    for _ in range(_PASSES):
        a, b, c, d, e, f = np.linalg.lstsq(rows * weights[:, None], weights, rcond=None)[0]
        weights = 1 / np.sqrt(1 + ((rows @ (a, b, c, d, e, f) - 1) / (2 * _OTHER_ALBEDO)) ** 2)
    values, axes = np.linalg.eigh(np.array([[a, d, e], [d, b, f], [e, f, c]]))
    if values[0] <= _SINGULAR * values[2]:
        raise DataError(
            "the lights' directions cannot be told: no choice of them gives most pixels one reflectance; "
            "set what has another colour than most of the part to 0, or photograph a ball of one colour"
        )
    return np.asarray((axes * np.sqrt(values)) @ axes.T)


def _agreed_axes(lights: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Return the rotation or reflection (3, 3), to apply from the right, after which the convention holds."""
    towards = surface.mean(axis=1)
    towards /= np.linalg.norm(towards)
    sideways = lights - np.outer(lights @ towards, towards)
    right = sideways[0] / max(np.linalg.norm(sideways[0]), 1e-12)
    up = np.cross(towards, right)
    heights = sideways @ up
    second = next((height for height in heights[1:] if abs(height) > _SHADE * np.abs(heights).max()), 1.0)
    return np.stack([right, up * np.sign(second), towards], axis=1)


def _nearest_axes(lights: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return the rotation or reflection that brings ``lights`` nearest to ``near`` (orthogonal Procrustes problem)."""
    left, _, right = np.linalg.svd(lights.T @ (near / np.linalg.norm(near, axis=1, keepdims=True)))
    return np.asarray(left @ right)
