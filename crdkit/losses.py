"""The four loss terms of a branch (CRD Eq. 4-8), as the published code computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange

TERMS = ("filter", "amplifier", "decoder", "output")

LossKind = Literal["flattened", "per_position"]
BranchLosses = dict[str, torch.Tensor]


class Features(Protocol):
    """What the losses read of a model's output; see `crdkit.model.CRDOutput`."""

    @property
    def teacher(self) -> Mapping[str, Sequence[torch.Tensor]]:
        """Levels of the frozen teachers, by target."""

    @property
    def filtered(self) -> Mapping[str, Mapping[str, Sequence[torch.Tensor]]]:
        """Levels of the filters, by target and source."""

    @property
    def amplified(self) -> Mapping[str, Mapping[str, Sequence[torch.Tensor]]]:
        """Levels of the amplifiers, by target and source."""

    @property
    def decoder(self) -> Mapping[str, Sequence[torch.Tensor]]:
        """Levels of the decoders before the merge, by target."""

    @property
    def output(self) -> Mapping[str, Sequence[torch.Tensor]]:
        """Levels of the decoders after the merge, by target."""


def cosine_loss(
    teacher: Sequence[torch.Tensor], student: Sequence[torch.Tensor], *, kind: LossKind = "flattened"
) -> torch.Tensor:
    """Return 1 - cosine similarity, mean over the batch, summed over levels (CRD Eq. 2).

    ``"flattened"`` takes one cosine per sample over the flattened C*H*W vector, as the published code
    does; ``"per_position"`` one per position over the channels, averaged over positions.

    Examples:
        >>> ones = [torch.ones(2, 3, 4, 4)]
        >>> round(cosine_loss(ones, [5 * ones[0]]).item(), 6), round(cosine_loss(ones, [-ones[0]]).item(), 6)
        (0.0, 2.0)
    """
    vectors = {"flattened": "b c h w -> b (c h w)", "per_position": "b c h w -> b c (h w)"}[kind]
    total = teacher[0].new_zeros(())
    for teacher_level, student_level in zip(teacher, student, strict=True):
        # float: a sum over C*H*W products needs more than bfloat16's 8 bits
        similarity = F.cosine_similarity(
            rearrange(teacher_level, vectors), rearrange(student_level.float(), vectors), dim=1
        )
        total = total + (1 - similarity).mean()
    return total


def crd_losses(out: Features, *, kind: LossKind = "flattened") -> dict[str, BranchLosses]:
    """Return ``{target: {"filter", "amplifier", "decoder", "output"}}`` as scalar tensors.

    Filter and amplifier terms sum over an edge's sources and are 0 without one; without amplifiers the
    output *is* the decoder's, and its term is 0, so that nothing counts twice. A branch's loss is the sum
    of its terms (CRD Eq. 9).
    """
    return {
        target: branch_losses(
            teacher,
            filtered=out.filtered[target],
            amplified=out.amplified[target],
            decoder=out.decoder[target],
            output=out.output[target],
            kind=kind,
        )
        for target, teacher in out.teacher.items()
    }


def branch_losses(
    teacher: Sequence[torch.Tensor],
    *,
    filtered: Mapping[str, Sequence[torch.Tensor]],
    amplified: Mapping[str, Sequence[torch.Tensor]],
    decoder: Sequence[torch.Tensor],
    output: Sequence[torch.Tensor],
    kind: LossKind = "flattened",
) -> BranchLosses:
    """Return the four terms of one branch; see `crd_losses`."""
    zero = teacher[0].new_zeros(())
    return {
        "filter": sum((cosine_loss(teacher, levels, kind=kind) for levels in filtered.values()), zero),
        "amplifier": sum((cosine_loss(teacher, levels, kind=kind) for levels in amplified.values()), zero),
        "decoder": cosine_loss(teacher, decoder, kind=kind),
        "output": cosine_loss(teacher, output, kind=kind) if amplified else zero,
    }
