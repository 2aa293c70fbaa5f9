"""Losses and weights that are not finite: found without waiting for the device, and named by step, branch and term."""

from __future__ import annotations

import torch
from torch import nn

from crdkit.errors import CrdkitError
from crdkit.model.crd import CRD
from crdkit.training.config import TrainingConfig
from crdkit.training.losses import TERMS
from crdkit.training.step import uses_bf16


class StepLosses:
    """Keeps the losses of each step of an epoch on the device, to say afterwards where they stopped being finite.

    Args:
        model: whose branches are trained.
        config: of the training.
        epoch: counted from 1.
        first: of the epoch's steps that is kept, counted from 0.
        steps: of the whole epoch.
    """

    def __init__(self, model: CRD, config: TrainingConfig, *, epoch: int, first: int, steps: int) -> None:
        self._model, self._config = model, config
        self._epoch, self._first, self._steps = epoch, first, steps
        self._kept = torch.zeros(steps - first, len(model.modalities), len(TERMS), device=model.device)

    def keep(self, step: int, losses: torch.Tensor) -> None:
        """Keep the (modalities, terms) losses of ``step``, counted from 0; they may be overwritten afterwards."""
        self._kept[step - self._first].copy_(losses)

    def error(self) -> CrdkitError:
        """Return the error that says in which step, branch and terms a loss was not finite, and what to do."""
        bad = ~self._kept.cpu().isfinite()
        if not bad.any():  # another rank's
            return CrdkitError(f"a loss is not finite in epoch {self._epoch}; {self._remedy(untouched=False)}")
        step = int(bad.flatten(1).any(1).nonzero()[0])
        branches = [
            f"branch {name!r} ({', '.join(term for term, is_bad in zip(TERMS, row, strict=True) if is_bad)})"
            for name, row in zip(self._model.modalities, bad[step].tolist(), strict=True)
            if any(row)
        ]
        value = self._kept.cpu()[step][bad[step]][0].item()
        untouched = self._epoch == 1 and self._first + step == 0
        return CrdkitError(
            f"the loss is {value} in epoch {self._epoch}, step {self._first + step + 1} of {self._steps}: "
            f"{', '.join(branches)}; {self._remedy(untouched=untouched)}"
        )

    def _remedy(self, *, untouched: bool) -> str:
        if untouched:
            return (
                "no weight had been changed yet, so views or teacher features are not finite: "
                "look for the cause with `crdkit data check`, and check the modality's encoder"
            )
        return _remedy(self._config, self._model.device)


def require_finite_weights(model: CRD, config: TrainingConfig) -> None:
    """Refuse students that the last step of the training has ruined, before they are kept.

    Raises:
        CrdkitError: some weight or statistic is not finite; the message names the branch and the first tensor.
    """
    for name in model.modalities:
        bad = first_not_finite(model.branch(name))
        if bad is not None:
            raise CrdkitError(
                f"branch {name!r}: {bad} is not finite after the last epoch; {_remedy(config, model.device)}"
            )


def first_not_finite(module: nn.Module) -> str | None:
    """Return the name of the first tensor of a module that is not finite, waiting once for the device.

    Examples:
        >>> part = nn.Linear(2, 1)
        >>> first_not_finite(part)
        >>> _ = nn.init.constant_(part.bias, float("nan"))
        >>> first_not_finite(part)
        'bias'
    """
    tensors = {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
    if not tensors:
        return None
    finite = torch.stack([value.isfinite().all() for value in tensors.values()]).tolist()
    return next((name for name, is_finite in zip(tensors, finite, strict=True) if not is_finite), None)


def _remedy(config: TrainingConfig, device: torch.device) -> str:
    precision = ", or set training.precision=fp32" if uses_bf16(config, device) else ""
    return f"lower training.learning_rate (={config.learning_rate:g}){precision}"
