"""The four loss terms of a branch (CRD Eq. 4-8), as the published code computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from einops import rearrange

from crdkit.model.crd import BranchOutput, CRDOutput
from crdkit.model.layers import Presence
from crdkit.model.similarity import cosine_similarity, vector_norms

TERMS = ("filter", "amplifier", "decoder", "output")

LossKind = Literal["flattened", "per_position", "hard_position"]
Distance = Callable[[torch.Tensor], torch.Tensor]
"""Returns how far a student's level (B, C, H, W) is from one of its teacher: (B,), or (B, H * W) of positions."""
BranchLosses = dict[str, torch.Tensor]
CountedSamples = Mapping[str | None, torch.Tensor]
"""Which samples count, (B,) bool, by source; under None, in terms that compare with the target only."""
TermWeights = Mapping[str | None, float | torch.Tensor]
"""Factor of the terms that compare with each source; under None, of those that compare with the target only."""


def cosine_loss(
    teacher: Sequence[torch.Tensor],
    student: Sequence[torch.Tensor],
    *,
    kind: LossKind = "flattened",
    counted: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return 1 - cosine similarity, mean over the batch, summed over levels (CRD Eq. 2).

    ``"flattened"`` takes one cosine per sample over the flattened C*H*W vector, as the published code
    does; ``"per_position"`` one per position over the channels, averaged over positions; ``"hard_position"``
    averages them with each position weighted by its own distance (a constant in the gradient), so that
    the object, which is harder to imitate than the background around it, makes up most of the loss. With
    ``counted``, (B,) bool, the mean is over those samples, and 0 without any.

    Examples:
        >>> ones = [torch.ones(2, 3, 4, 4)]
        >>> abs(cosine_loss(ones, [5 * ones[0]]).item()) < 1e-6, round(cosine_loss(ones, [-ones[0]]).item(), 6)
        (True, 2.0)
    """
    return _distance_loss([distance_from(level, kind) for level in teacher], student, kind=kind, counted=counted)


def _vectors(level: torch.Tensor, kind: LossKind) -> torch.Tensor:
    # float: a sum over C*H*W products needs more than bfloat16's 8 bits
    return rearrange(level.float(), "b c h w -> b (c h w)" if kind == "flattened" else "b c h w -> b c (h w)")


def distance_from(level: torch.Tensor, kind: LossKind) -> Distance:
    """Return the distances from a teacher's level, whose norms are computed once for all terms of a branch."""
    vectors = _vectors(level, kind)
    norms = vector_norms(vectors)
    return lambda student: 1 - cosine_similarity(vectors, _vectors(student, kind), first_norms=norms)


def _distance_loss(
    teacher: Sequence[Distance], student: Sequence[torch.Tensor], *, kind: LossKind, counted: torch.Tensor | None
) -> torch.Tensor:
    total = student[0].new_zeros((), dtype=torch.float32)
    for from_teacher, level in zip(teacher, student, strict=True):
        distance = from_teacher(level)
        if kind == "hard_position":
            weight = distance.detach().clamp_min(0)  # rounding can leave a distance just below 0
            distance = (weight * distance).sum(dim=1) / weight.sum(dim=1).clamp_min(torch.finfo(weight.dtype).eps)
        total = total + _mean(distance, counted)
    return total


def _mean(values: torch.Tensor, counted: torch.Tensor | None) -> torch.Tensor:
    if counted is None:
        return values.mean()
    per_sample = values.flatten(1).mean(dim=1) if values.ndim > 1 else values
    return (per_sample * counted).sum() / counted.sum().clamp_min(1)


def crd_losses(out: CRDOutput, *, kind: LossKind = "flattened") -> dict[str, BranchLosses]:
    """Return ``{target: {"filter", "amplifier", "decoder", "output"}}`` as scalar tensors.

    Filter and amplifier terms sum over the target's incoming edges, and are 0 without any; without amplifiers the
    output *is* the decoder's, and its term is 0, so that nothing counts twice. A branch's loss is the sum
    of its terms (CRD Eq. 9). A term is the mean over the samples that have the target and its source.
    """
    return {
        target: branch_losses(out.teacher[target], branch, kind=kind, counted=counted_samples(out.present, target))
        for target, branch in out.branches.items()
    }


def branch_losses(
    teacher: Sequence[torch.Tensor],
    out: BranchOutput,
    *,
    kind: LossKind = "flattened",
    counted: CountedSamples | None = None,
    weights: TermWeights | None = None,
    compare: Callable[[torch.Tensor, LossKind], Distance] = distance_from,
) -> BranchLosses:
    """Return the four terms of one branch; see `crd_losses` and, for ``counted``, `counted_samples`."""
    zero = teacher[0].new_zeros(())
    distances = [compare(level, kind) for level in teacher]

    def term(levels: Sequence[torch.Tensor], source: str | None = None) -> torch.Tensor:
        loss = _distance_loss(distances, levels, kind=kind, counted=None if counted is None else counted[source])
        return loss if weights is None else loss * weights[source]

    return {
        "filter": sum((term(levels, source) for source, levels in out.filtered.items()), zero),
        "amplifier": sum((term(levels, source) for source, levels in out.amplified.items()), zero),
        "decoder": term(out.decoder),
        "output": term(out.output) if out.amplified else zero,
    }


def counted_samples(present: Presence | None, target: str) -> CountedSamples | None:
    """Return which samples (B,) count in a branch's terms: by source those that have both, under None the target."""
    if present is None:
        return None
    return {None: present[target], **{source: has & present[target] for source, has in present.items()}}
