"""Pixels of one image on another's grid: where each comes from, and 8-bit images in between, with Pillow's warp."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Size = tuple[int, int]
"""Height and width."""
_COARSER = 1.25  # pixels of the source for one of the grid, beyond which pixels in between would be passed over
NOWHERE = -1
"""In a map of places: no pixel of the source is there."""


def scaling(source: Size, grid: Size) -> np.ndarray:
    """Return the matrix (3, 3) from pixels (x, y, 1) of ``source`` to those of ``grid``, which shows the same field.

    The centre of the first pixel is (0, 0), and the corners of both images meet.

    Examples:
        >>> scaling((2, 2), (4, 4)) @ [0, 0, 1]
        array([0.5, 0.5, 1. ])
    """
    down, right = grid[0] / source[0], grid[1] / source[1]
    return np.array([[right, 0, (right - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])


def backwards(matrix: Sequence[Sequence[float]] | np.ndarray, grid: Size) -> np.ndarray:
    """Return the matrix (3, 3) from corners of pixels of ``grid`` to corners of the source that ``matrix`` maps to it.

    Args:
        matrix: (2, 3) or (3, 3), from centres of pixels (x, y) of the source to centres of pixels of the grid.
        grid: height and width.

    Raises:
        ValueError: the grid's pixels do not all lie on one side of the horizon.
    """
    full = np.vstack([matrix, [[0.0, 0.0, 1.0]]]) if len(matrix) == 2 else np.asarray(matrix, dtype=np.float64)
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    inverse = half @ np.linalg.inv(full) @ np.linalg.inv(half)
    height, width = grid
    corners = inverse[2] @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    if not (np.sign(corners) == np.sign(corners[0])).all() or not corners.all():
        raise ValueError("the horizon of its matrix runs through the image")
    return np.asarray(inverse / inverse[2, 2])


def places_of(inverse: np.ndarray, *, source: Size, grid: Size) -> np.ndarray:
    """Return which pixel of the source, counted row by row, is at each of the grid: (H, W) int32, or `NOWHERE`.

    Args:
        inverse: see `backwards`.
        source: height and width of what is moved.
        grid: height and width.
    """
    from PIL import Image

    numbers = Image.fromarray(np.arange(source[0] * source[1], dtype=np.int32).reshape(source))
    moved = numbers.transform(
        grid[::-1], Image.Transform.PERSPECTIVE, _eight(inverse), Image.Resampling.NEAREST, fillcolor=NOWHERE
    )
    return np.asarray(moved)


def take(array: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the pixels of an array (H, W) or (H, W, C) at ``places``; elsewhere is what means "not measured".

    That is NaN in floats (H, W), and 0 in scans (H, W, 3) and in integers.

    Examples:
        >>> take(np.array([[5, 6]]), np.array([[1, NOWHERE], [0, 1]]))
        array([[6, 0],
               [5, 6]])
    """
    taken: np.ndarray = array.reshape(-1, *array.shape[2:])[places]
    taken[places == NOWHERE] = np.nan if array.ndim == 2 and np.issubdtype(array.dtype, np.floating) else 0
    return taken


def take_between(image: np.ndarray, inverse: np.ndarray, grid: Size) -> np.ndarray:
    """Return an 8-bit image (H, W) or (H, W, C) on the grid, bilinear; where the grid is coarser, made smaller first.

    Args:
        image: uint8.
        inverse: see `backwards`.
        grid: height and width.

    Returns:
        uint8, 0 where the image has no pixel.
    """
    from PIL import Image

    if image.ndim == 3 and image.shape[2] != 3:
        return np.stack([take_between(plane, inverse, grid) for plane in np.moveaxis(image, 2, 0)], axis=-1)
    (height, width), (across, down) = image.shape[:2], np.linalg.norm(_slopes(inverse, grid), axis=1)
    across, down = (slope if slope > _COARSER else 1.0 for slope in (across, down))
    side = max(round(width / across), 1), max(round(height / down), 1)
    reduced = Image.fromarray(np.ascontiguousarray(image)).resize(side, Image.Resampling.BILINEAR)
    coarser = np.diag([side[0] / width, side[1] / height, 1]) @ inverse
    moved = reduced.transform(grid[::-1], Image.Transform.PERSPECTIVE, _eight(coarser), Image.Resampling.BILINEAR)
    return np.array(moved)


def _slopes(inverse: np.ndarray, grid: Size) -> np.ndarray:
    """Return how many pixels of the source, (2, 2), a step right and down at the grid's middle is."""
    x, y, w = inverse @ [grid[1] / 2, grid[0] / 2, 1]
    return np.asarray((inverse[:2, :2] - np.outer([x / w, y / w], inverse[2, :2])) / w)


def _eight(inverse: np.ndarray) -> list[float]:
    return [float(value) for value in inverse.ravel()[:8]]
