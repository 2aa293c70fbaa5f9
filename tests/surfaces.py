"""Scans of surfaces whose shape is known."""

from __future__ import annotations

import numpy as np

PITCH = 0.0004


def grid(height: int = 120, width: int = 120, pitch: float = PITCH) -> tuple[np.ndarray, np.ndarray]:
    """Return X and Y, metres, of points ``pitch`` apart, around 0."""
    rows, columns = np.mgrid[:height, :width]
    return (columns - (width - 1) / 2) * pitch, (rows - (height - 1) / 2) * pitch


def scan(x: np.ndarray, y: np.ndarray, z: np.ndarray, *, noise: float = 0.0) -> np.ndarray:
    """Return points (H, W, 3), metres, with noise along Z."""
    return np.stack([x, y, z + np.random.default_rng(0).normal(0, 1, x.shape) * noise], axis=-1)


def within(mask: np.ndarray, margin: int) -> np.ndarray:
    """Return a mask without the pixels at most ``margin`` from the border of the image."""
    kept = np.zeros_like(mask)
    kept[margin:-margin, margin:-margin] = mask[margin:-margin, margin:-margin]
    return kept
