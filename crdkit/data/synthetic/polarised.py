"""How a surface polarises the light that it gives off."""

from __future__ import annotations

import numpy as np

from crdkit.data.synthetic.surface import Field

_REFRACTION = 1.5  # index of plastics and lacquers


def behind_polariser(light: Field, normals: Field, *, angle: float) -> Field:
    """Return what is left of ``light`` (H, W) behind a polariser.

    Light that leaves a surface from within is polarised in the plane of its normal and the view (Atkinson and Hancock,
    IEEE Transactions on Image Processing 15, 2006).

    Args:
        light: unpolarised brightness (H, W).
        normals: (H, W, 3), right, up, towards the camera.
        angle: of the polariser, degrees, from the image's right towards its top.
    """
    right, up, front = np.moveaxis(normals, 2, 0)
    sideways = np.maximum(right * right + up * up, 1e-12)
    along, across = (right * right - up * up) / sideways, 2 * right * up / sideways  # cos 2a, sin 2a of its azimuth
    turned = np.radians(2 * angle)
    passed: Field = 0.5 * light * (1 + diffuse_degree(front) * (np.cos(turned) * along + np.sin(turned) * across))
    return passed


def diffuse_degree(front: Field) -> Field:
    """Return the degree of polarisation of light from within, by the cosine of the angle between normal and view.

    Fresnel's equations give it; a surface that faces the camera does not polarise.

    Examples:
        >>> diffuse_degree(np.array([1.0, 0.5])).round(3).tolist()
        [0.0, 0.096]
    """
    n, cosine = _REFRACTION, np.clip(front, 0.0, 1.0)
    sine2 = 1 - cosine**2
    rest = 2 + 2 * n**2 - (n + 1 / n) ** 2 * sine2 + 4 * cosine * np.sqrt(n**2 - sine2)
    degree: Field = (n - 1 / n) ** 2 * sine2 / rest
    return degree
