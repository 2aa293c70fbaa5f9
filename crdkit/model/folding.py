"""BatchNorm folded into the convolution before it: the same function with fewer passes over the maps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

M = TypeVar("M", bound=nn.Module)

_ROUNDING = 1e-4  # relative to the features' norm: rounding changes about 1e-6 of it, another order of calls far more


def fold_batch_norms(module: M) -> M:
    """Return a copy of ``module`` for inference in which each convolution includes the BatchNorm after it.

    A pair is a convolution and the BatchNorm that is registered right after it. Most networks call their parts in the
    order of registration, but not all do: compare the results of both. Folded weights are channels_last; every other
    tensor is shared with ``module``, which is not changed.
    """
    shared: dict[int, Any] = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}
    copied = copy.deepcopy(module, shared).eval()
    for part in list(copied.modules()):
        children = list(part.named_children())
        for (before, convolution), (after, norm) in pairwise(children):
            if isinstance(convolution, (nn.Conv2d, nn.ConvTranspose2d)) and _can_fold(norm, convolution):
                setattr(part, before, _fold(convolution, norm))
                setattr(part, after, _without_normalisation(norm))
    return copied


def fold_where_equal(part: M, run: Callable[[M], Sequence[torch.Tensor]]) -> M:
    """Return ``part`` with BatchNorm folded, or itself if it cannot be copied or ``run`` then gives other results."""
    try:
        candidate = fold_batch_norms(part)
        same = nearly_equal(run(candidate), run(part))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):  # a network of the user's own
        return part
    return candidate if same else part


def nearly_equal(now: Sequence[torch.Tensor], before: Sequence[torch.Tensor]) -> bool:
    """Return whether levels of features differ by no more than rounding."""
    return all(torch.dist(a, b) <= _ROUNDING * b.norm() for a, b in zip(now, before, strict=True))


def fold_teachers(teachers: Mapping[str, M], image: torch.Tensor) -> dict[str, M]:
    """Return the teachers by modality, each distinct one folded once and checked on a (B, 3, H, W) image."""
    distinct = {id(teacher): teacher for teacher in teachers.values()}
    folded = {key: fold_where_equal(teacher, lambda part: part(image)) for key, teacher in distinct.items()}
    return {name: folded[id(teacher)] for name, teacher in teachers.items()}


def random_images(size: int, *, count: int = 1) -> torch.Tensor:
    """Return (count, 3, size, size) images in [0, 1] to try networks on, always the same."""
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def _can_fold(norm: nn.Module, convolution: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    return (
        isinstance(norm, nn.BatchNorm2d)
        and norm.num_features == convolution.out_channels
        and norm.running_mean is not None
        and (type(norm) is nn.BatchNorm2d or _has_activation(norm))
    )


def _fold(convolution: Any, norm: Any) -> nn.Module:
    folded: nn.Module = fuse_conv_bn_eval(convolution, norm, isinstance(convolution, nn.ConvTranspose2d))
    return folded.requires_grad_(False).to(memory_format=torch.channels_last)


def _has_activation(norm: nn.Module) -> bool:
    """Return whether this is timm's BatchNorm that ends in an activation."""
    return all(isinstance(getattr(norm, name, None), nn.Module) for name in ("drop", "act"))


def _without_normalisation(norm: Any) -> nn.Module:
    """Return what remains of a BatchNorm once its normalisation is folded away."""
    return nn.Sequential(norm.drop, norm.act) if _has_activation(norm) else nn.Identity()
