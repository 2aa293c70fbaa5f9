"""Which part of a detector cannot be exported, found by exporting each alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from crdkit.detector._engine import Engine
from crdkit.detector._onnx import ListBranch, ListTeacher, export_network, flatten, reason
from crdkit.model.folding import random_images
from crdkit.model.layers import Levels
from crdkit.scoring.aggregations import Aggregation
from crdkit.scoring.scores import FusedMaps, ImageScore


class _Call(nn.Module):
    """A part as a network from a list of tensors to a list of tensors."""

    def __init__(self, part: nn.Module, call: Callable[[nn.Module, list[torch.Tensor]], torch.Tensor]) -> None:
        super().__init__()
        self.part, self.call = part, call

    def forward(self, inputs: list[torch.Tensor]) -> Levels:
        return [self.call(self.part, inputs)]


def blame(engine: Engine, error: BaseException, *, onnx: bool) -> str:
    """Return a message that names the part which cannot be exported, if one alone cannot, and what to use instead.

    Args:
        engine: of the detector, on a CPU.
        error: that the export of the whole has raised.
        onnx: whether it was to ONNX, or a program of PyTorch.
    """
    with torch.no_grad(), tempfile.TemporaryDirectory(prefix="crdkit-", ignore_cleanup_errors=True) as folder:
        for what, instead, network, example in _parts(engine):
            try:
                if onnx:
                    export_network(network, example, Path(folder, "part.onnx"))
                else:
                    torch.export.export(network, (list(example),), strict=False)
            except OSError:
                raise
            except Exception as own:  # whatever an exporter raises for a user's own part
                return f"{what} cannot be exported: {reason(own)}; use {instead}, or Detector.compile where crdkit runs"
    return f"the detector cannot be exported: {reason(error)}; use Detector.compile where crdkit runs"


def _parts(engine: Engine) -> Iterator[tuple[str, str, nn.Module, Sequence[torch.Tensor]]]:
    """Yield each part's name, what could stand in its place, the part, and its inputs for two samples."""
    images = random_images(engine.scorer.size, count=2)
    features = {name: teacher(images) for name, teacher in engine.teachers.items()}
    for name in engine.branches:
        yield f"the teacher of {name!r}", "a teacher of timm", ListTeacher(engine.teachers[name]), [images]
    for name, branch in engine.branches.items():
        levels = {source: len(features[source]) for source in branch.reads}
        network = ListBranch(branch, levels)
        yield f"the branch of {name!r}", "crdkit's own filters and amplifiers", network, flatten(features, branch.reads)
    aggregation, score, maps = engine.scorer.aggregation, engine.scorer.score, images[:, 0]
    names = aggregation.modalities

    def fuse(part: nn.Module, inputs: list[torch.Tensor]) -> torch.Tensor:
        assert isinstance(part, Aggregation)
        return part.fuse(dict(zip(names, inputs, strict=True)))

    def grade(part: nn.Module, inputs: list[torch.Tensor]) -> torch.Tensor:
        assert isinstance(part, ImageScore)
        found: torch.Tensor = part(FusedMaps(raw=inputs[0], smoothed=inputs[1], foreground=inputs[2] > 0.5))
        return found

    kind = f"the aggregation {aggregation.config.name!r}"
    yield kind, "aggregation.name=tail_norm", _Call(aggregation, fuse), [maps] * len(names)
    yield f"the score {score.config.name!r}", "scoring.score=maximum", _Call(score, grade), [maps] * 3
