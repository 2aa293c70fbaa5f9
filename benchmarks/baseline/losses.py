"""The losses of CRD as published code writes them: one `cosine_similarity` per term and level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from crdkit.model.crd import BranchOutput
from crdkit.training.losses import TERMS, LossKind


def branch_terms(teacher: Sequence[torch.Tensor], out: BranchOutput, *, kind: LossKind) -> dict[str, torch.Tensor]:
    """Return the four terms of one branch, as `crdkit.training.losses.branch_losses` defines them."""
    zero = teacher[0].new_zeros(())

    def total(sources: dict[str, list[torch.Tensor]]) -> torch.Tensor:
        return sum((_cosine_loss(teacher, levels, kind) for levels in sources.values()), zero)

    terms = (
        total(out.filtered),
        total(out.amplified),
        _cosine_loss(teacher, out.decoder, kind),
        _cosine_loss(teacher, out.output, kind) if out.amplified else zero,
    )
    return dict(zip(TERMS, terms, strict=True))


def _cosine_loss(teacher: Sequence[torch.Tensor], student: Sequence[torch.Tensor], kind: LossKind) -> torch.Tensor:
    total = teacher[0].new_zeros(())
    for expected, level in zip(teacher, student, strict=True):
        if kind == "flattened":
            total = total + (1 - F.cosine_similarity(expected.flatten(1), level.flatten(1))).mean()
            continue
        distance = (1 - F.cosine_similarity(expected, level)).flatten(1)
        if kind == "hard_position":
            weight = distance.detach().clamp_min(0)
            weight = weight / weight.sum(dim=1, keepdim=True).clamp_min(torch.finfo(weight.dtype).eps)
            total = total + (weight * distance).sum(dim=1).mean()
        else:
            total = total + distance.mean()
    return total
