"""Configurations that several benchmarks share."""

from __future__ import annotations

_UNTRAINED = "{name: timm, model: test_resnet, pretrained: false}"

TINY = (
    "data.image_size=64",
    f"modalities.rgb.encoder={_UNTRAINED}",
    f"modalities.depth.encoder={_UNTRAINED}",
    "graph.filter.size=2",
    "student.depths=1",
    "student.embedding_blocks=1",
    "training.epochs=2",
    "training.batch_size=4",
    "training.device=cpu",
)
"""Overrides that make any RGB + depth preset a run of seconds without a network."""

UNTRAINED_TEACHERS = ("modalities.rgb.encoder.pretrained=false", "modalities.depth.encoder.pretrained=false")
"""Random teacher weights cost what trained ones do and need no download."""
