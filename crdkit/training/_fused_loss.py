"""The distances of the losses on a GPU in one pass over memory, forward and backward (``training.fused_loss``)."""

from __future__ import annotations

from typing import Any

import torch

from crdkit.errors import ConfigError
from crdkit.model.similarity import lengths
from crdkit.training.config import TrainingConfig
from crdkit.training.losses import Distance, LossKind


def require_fused_loss(config: TrainingConfig, device: torch.device) -> None:
    """Refuse a fused loss where it cannot run.

    Raises:
        ConfigError: it is asked for, and the device is not a CUDA device or Triton is not installed.
    """
    if config.fused_loss == "off":
        return
    if device.type != "cuda":
        raise ConfigError(
            f"training.fused_loss=on needs a CUDA device, but the device is {device}; use training.fused_loss=off"
        )
    try:
        import crdkit.training._fused_kernels  # noqa: F401 - whether it can be
    except ImportError as error:
        raise ConfigError(
            "training.fused_loss=on needs the package 'triton', which comes with PyTorch's CUDA builds for Linux: "
            "`pip install triton`, or use training.fused_loss=off"
        ) from error


def fused_distance_from(level: torch.Tensor, kind: LossKind) -> Distance:
    """Return the distances from a teacher's level, as `crdkit.training.losses.distance_from` does, up to rounding.

    A cosine does not depend on the order of its vectors' elements: channels_last levels are read as they lie in memory,
    in their own precision, and summed in float32. The eager form reorders and converts them first.
    """
    teacher, batch = _rows(level, kind), len(level)
    with torch.no_grad():
        norms = lengths(_PairSums.apply(teacher, teacher)[1])

    def distance(student: torch.Tensor) -> torch.Tensor:
        dots, squares = _PairSums.apply(teacher, _rows(student, kind))
        distances: torch.Tensor = 1 - dots / (norms * lengths(squares))
        return distances if kind == "flattened" else distances.view(batch, -1)

    return distance


def _rows(level: torch.Tensor, kind: LossKind) -> torch.Tensor:
    """Return the vectors that are compared, one in a row: of samples, or of positions."""
    in_memory = level.permute(0, 2, 3, 1).contiguous()  # of a channels_last level: no copy
    return in_memory.flatten(1) if kind == "flattened" else in_memory.flatten(0, 2)


class _PairSums(torch.autograd.Function):
    """Of rows (R, L): the (R,) sums of first * second and of second * second; ``first`` gets no gradient."""

    @staticmethod
    def forward(ctx: Any, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        from crdkit.training._fused_kernels import sum_rows

        ctx.save_for_backward(first, second)
        return sum_rows(first, second)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, torch.Tensor]:
        from crdkit.training._fused_kernels import add_rows

        of_dot, of_square = gradients
        return None, add_rows(*ctx.saved_tensors, of_dot=of_dot, of_square=of_square)
