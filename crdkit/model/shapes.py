"""Shapes of teacher features before any are computed, and the memory that they will take."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from crdkit.model.layers import FeatureSpec, Levels


def empty_features(specs: Mapping[str, FeatureSpec]) -> dict[str, Levels]:
    """Return teacher features of one sample, by modality, that have shapes but no values (device "meta").

    Examples:
        >>> spec = FeatureSpec(channels=(4, 8), sizes=(8, 4), signed=True)
        >>> [tuple(level.shape) for level in empty_features({"rgb": spec})["rgb"]]
        [(1, 4, 8, 8), (1, 8, 4, 4)]
    """
    return {
        name: [torch.empty(1, c, s, s, device="meta") for c, s in zip(spec.channels, spec.sizes, strict=True)]
        for name, spec in specs.items()
    }


def feature_bytes(specs: Mapping[str, FeatureSpec], dtype: torch.dtype) -> int:
    """Return what the teacher features of one sample take in ``dtype``, of all modalities together.

    Examples:
        >>> feature_bytes({"rgb": FeatureSpec(channels=(4, 8), sizes=(8, 4), signed=True)}, torch.bfloat16)
        768
    """
    return dtype.itemsize * sum(level.numel() for levels in empty_features(specs).values() for level in levels)


def pinned_bytes(specs: Mapping[str, FeatureSpec], dtype: torch.dtype, *, samples: int) -> int:
    """Return what the teacher features of a split take in pinned memory, of which PyTorch gives powers of two only.

    Examples:
        >>> pinned_bytes({"rgb": FeatureSpec(channels=(4, 8), sizes=(8, 4), signed=True)}, torch.bfloat16, samples=3)
        3072
    """
    levels = (level.numel() for levels in empty_features(specs).values() for level in levels)
    return sum(1 << (samples * dtype.itemsize * values - 1).bit_length() for values in levels if samples)
