"""Edges of a sensor's image, whatever it measures, and how well those of two sensors lie on each other."""

from __future__ import annotations

import numpy as np

REACH = 16
"""Pixels that two images are moved against each other, at most."""
_LONGEST = 320  # pixels of a side; larger images are made smaller by a whole number
_STRONGEST = 0.95  # quantile of the gradients from which on an edge is an edge


def reduction(shape: tuple[int, ...]) -> int:
    """Return by how much an image (H, W, ...) is made smaller.

    Examples:
        >>> reduction((256, 256)), reduction((400, 600))
        (1, 2)
    """
    return -(-max(shape[:2]) // _LONGEST)


def edge_map(array: np.ndarray) -> np.ndarray | None:
    """Return where a sensor sees edges: (h, w) float32 in [0, 1], made smaller by `reduction`; None if it sees nothing.

    An image that is then only a pixel high or wide has none.

    Colours count together; of a scan Z counts. What a scan or a float image did not measure, 0 or NaN, becomes as far
    as the farthest pixel around it: it mostly lies in the shadow of what is nearer, whose outline is the edge.
    """
    from scipy import ndimage

    if min(array.shape[:2]) < 2 * reduction(array.shape):
        return None
    floats = np.issubdtype(array.dtype, np.floating)
    image = array[..., 2] if floats and array.ndim == 3 and array.shape[2] == 3 else array
    planes = [np.moveaxis(image, -1, 0)[i].astype(np.float32) for i in range(image.shape[2])] if image.ndim == 3 else []
    strength: np.ndarray | float = 0.0
    for plane in planes or [image.astype(np.float32)]:
        if floats:
            measured = np.isfinite(plane) & (plane != 0)
            if not measured.any():
                return None
            plane = _filled(plane, measured)  # noqa: PLW2901
        smooth = ndimage.gaussian_filter(_smaller(plane), 1.0)
        down, right = np.gradient(smooth)
        strength = strength + down**2 + right**2
    strength = np.sqrt(strength)
    strongest = float(np.quantile(strength, _STRONGEST) or strength.max())
    return np.minimum(strength / strongest, 1).astype(np.float32) if strongest > 0 else None


def _filled(plane: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Return an image in which each hole has the largest value of those at its border."""
    from scipy import ndimage

    holes, count = ndimage.label(~measured)
    around = ndimage.grey_dilation(np.where(measured, plane, -np.inf), size=3)
    values = np.append(0.0, ndimage.maximum(around, holes, np.arange(1, count + 1)))
    return np.where(measured, plane, values[holes]).astype(np.float32)


def _smaller(plane: np.ndarray) -> np.ndarray:
    factor = reduction(plane.shape)
    height, width = (side // factor * factor for side in plane.shape)
    blocks = plane[:height, :width].reshape(height // factor, factor, width // factor, factor)
    return np.asarray(blocks.mean(axis=(1, 3)))


def spectrum(edges: np.ndarray) -> np.ndarray:
    """Return the Fourier transform of edges without their mean, of unit energy, with room for `REACH` pixels."""
    from scipy import fft

    centred = edges - edges.mean()
    energy = float(np.sqrt((centred**2).sum())) or 1.0
    return np.asarray(fft.rfft2(centred / energy, _with_room(edges.shape)))


def correlation(first: np.ndarray, second: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
    """Return how well edges agree if the second ones are moved back: (2 `REACH` + 1, 2 `REACH` + 1) float32.

    In the middle nothing is moved; below it the second image lies further down than the first.

    Args:
        first: see `spectrum`.
        second: of an image of the same shape.
        shape: of both images.
    """
    from scipy import fft

    both = fft.irfft2(second * np.conj(first), _with_room(shape))
    around = np.roll(both, (REACH, REACH), axis=(0, 1))
    return np.asarray(around[: 2 * REACH + 1, : 2 * REACH + 1], dtype=np.float32)


def _with_room(shape: tuple[int, ...]) -> list[int]:
    """Return the size of a Fourier transform that holds an image, and all shifts of up to `REACH` pixels."""
    from scipy import fft

    return [fft.next_fast_len(max(side + REACH, 2 * REACH + 1), real=True) for side in shape]
