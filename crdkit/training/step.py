"""One training step: forward, losses, backward and optimiser of every branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from crdkit._core.branches import BranchMap
from crdkit.model.crd import CRD, Branch
from crdkit.model.layers import Presence
from crdkit.training._fused_loss import fused_distance_from
from crdkit.training.config import TrainingConfig
from crdkit.training.losses import TERMS, LossKind, TermWeights, branch_losses, counted_samples, distance_from


def uses_bf16(config: TrainingConfig, device: torch.device) -> bool:
    """Return whether the students' forward pass runs in bfloat16 on ``device``."""
    if config.precision != "auto":
        return config.precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # without these instructions a CPU emulates bfloat16 at a fraction of the speed of float32
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class Objective(nn.Module):
    """A branch and its losses, differentiated or replicated as one module.

    Args:
        branch: shares its parameters with the model.
        kind: of the loss.
        bf16: whether the branch runs in bfloat16; its weights and its losses stay in float32.
        fused: whether the losses read each tensor in one pass.
    """

    def __init__(self, branch: Branch, *, kind: LossKind, bf16: bool, fused: bool = False) -> None:
        super().__init__()
        self.branch = branch
        self.kind = kind
        self.bf16 = bf16
        self.compare = fused_distance_from if fused else distance_from

    def forward(
        self,
        features: Mapping[str, Sequence[torch.Tensor]],
        present: Presence | None = None,
        weights: TermWeights | None = None,
    ) -> torch.Tensor:
        """Return the branch's terms, (4,) in the order of `TERMS`, on teacher features of all modalities."""
        target = self.branch.target
        teacher = features[target]
        # no cache: each weight is read once, and a captured graph must not read a copy that was made outside it
        with torch.autocast(teacher[0].device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=False):
            out = self.branch(features, present)
        counted = counted_samples(present, target)
        losses = branch_losses(teacher, out, kind=self.kind, counted=counted, weights=weights, compare=self.compare)
        return torch.stack([losses[term] for term in TERMS])


def build_objectives(model: CRD, config: TrainingConfig) -> dict[str, nn.Module]:
    """Return the objective of every modality."""
    options: dict[str, Any] = {"bf16": uses_bf16(config, model.device), "fused": config.fused_loss == "on"}
    return {name: Objective(model.branch(name), kind=config.loss, **options) for name in model.modalities}


def build_optimizers(model: CRD, config: TrainingConfig, *, capturable: bool = False) -> list[torch.optim.Optimizer]:
    """Return one Adam per branch, in the order of the modalities.

    On a GPU its learning rate lies on the device, and ``capturable`` allows its step in a CUDA graph.
    """
    device = model.device

    def options() -> dict[str, Any]:
        if device.type != "cuda":
            return {"lr": config.learning_rate, "fused": True}
        return {"lr": torch.tensor(config.learning_rate, device=device), "fused": True, "capturable": capturable}

    branches = (model.branch(name) for name in model.modalities)
    return [torch.optim.Adam(branch.parameters(), betas=config.betas, **options()) for branch in branches]


def set_learning_rate(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    """Set the rate of every group; one that lies on a device is overwritten there, where a captured graph reads it."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


def train_step(
    model: CRD,
    features: Mapping[str, Sequence[torch.Tensor]],
    optimizers: Sequence[torch.optim.Optimizer],
    config: TrainingConfig,
    *,
    present: Presence | None = None,
    weights: Mapping[str, TermWeights] | None = None,
    each_branch: BranchMap = map,
    objectives: Mapping[str, nn.Module] | None = None,
) -> torch.Tensor:
    """Run one step on a batch of teacher features and return its (modalities, terms) losses, detached.

    Branches share no trained parameter, so each is run forward and backward by itself: one branch's
    activations are freed before the next one's are made, unless ``each_branch`` runs them side by side. Where
    ``present`` hides a modality, other branches do without it and its own branch's loss skips the sample.

    Args:
        model: whose branches are trained.
        features: by modality.
        optimizers: of `build_optimizers`.
        config: of the training.
        present: which samples have each modality; None: all.
        weights: factors of the terms by modality; None: 1.
        each_branch: how branches are run.
        objectives: of `build_objectives`, kept between steps; built anew if None.
    """
    for optimizer in optimizers:
        # None, not zeros: backward then writes gradients instead of adding to them, in a replayed graph too
        optimizer.zero_grad(set_to_none=True)
    chosen = build_objectives(model, config) if objectives is None else objectives
    own = dict(zip(model.modalities, optimizers, strict=True))

    def train_branch(name: str) -> torch.Tensor:
        terms: torch.Tensor = chosen[name](features, present, None if weights is None else weights[name])
        terms.sum().backward()
        own[name].step()
        return terms.detach()

    return torch.stack(list(each_branch(train_branch, model.modalities)))
