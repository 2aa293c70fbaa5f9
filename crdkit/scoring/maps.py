"""Anomaly maps from features, their smoothing, and the score of a map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from crdkit.model.similarity import cosine_similarity


def anomaly_map(teacher: Sequence[torch.Tensor], student: Sequence[torch.Tensor], *, size: int) -> torch.Tensor:
    """Return the (B, size, size) float32 map: 1 - cosine over channels, upsampled, summed over levels.

    Upsampling is bilinear with aligned corners (CRD Eq. 10 as the published code computes it).
    """
    total: torch.Tensor | None = None
    for teacher_level, student_level in zip(teacher, student, strict=True):
        distance = 1 - cosine_similarity(teacher_level.float(), student_level.float())
        upsampled = F.interpolate(distance[:, None], size=(size, size), mode="bilinear", align_corners=True)
        total = upsampled if total is None else total + upsampled
    if total is None:
        raise ValueError("an anomaly map needs at least one level")
    return total[:, 0]


class GaussianSmoothing(nn.Module):
    """Smooths square maps as `scipy.ndimage.gaussian_filter` does (radius 4 sigma, half-sample symmetric border).

    The filter along an axis is one (size, size) matrix, built once; on any device it costs two matrix products.

    Args:
        sigma: standard deviation in pixels; 0 leaves maps as they are.
        size: side of the maps in pixels.
    """

    matrix: torch.Tensor

    def __init__(self, sigma: float, *, size: int) -> None:
        super().__init__()
        self.register_buffer("matrix", _gaussian_matrix(sigma, size), persistent=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Smooth (..., size, size) maps."""
        return torch.matmul(self.matrix @ maps, self.matrix.T)


def _gaussian_matrix(sigma: float, size: int) -> torch.Tensor:
    radius = int(4 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2) if sigma > 0 else torch.ones(1, dtype=torch.float64)
    weights, matrix = weights / weights.sum(), torch.zeros(size, size)
    for rows, places in zip(matrix.split(64), torch.arange(size).split(64), strict=True):  # float64 of all takes twice
        positions = (places[:, None] + offsets) % (2 * size)
        mirrored = torch.where(positions < size, positions, 2 * size - 1 - positions)
        rows.add_(torch.zeros_like(rows, dtype=torch.float64).scatter_add_(1, mirrored, weights.expand(mirrored.shape)))
    return matrix


def anomaly_score(maps: torch.Tensor) -> torch.Tensor:
    """Return the (B,) image scores of (B, H, W) maps: the maximum of each."""
    return maps.flatten(1).amax(dim=1)
