"""Where the object is, from views whose background is 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from crdkit.views import View


def outlined_by(views: Mapping[str, View]) -> frozenset[str]:
    """Return the modalities whose views show where the object is.

    Examples:
        >>> from crdkit.config import RunConfig
        >>> from crdkit.config.build import build_views
        >>> outlined_by(build_views(RunConfig.preset("quick")))
        frozenset({'depth'})
    """
    return frozenset(name for name, view in views.items() if view.background_is_zero)


def join_foregrounds(inside: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """Return the pixels that any of several (B, S, S) bool masks marks; all pixels of a sample that none marks any of.

    Examples:
        >>> depth = torch.tensor([[[True, False]], [[False, False]]])
        >>> join_foregrounds([depth])
        tensor([[[ True, False]],
        <BLANKLINE>
                [[ True,  True]]])
        >>> join_foregrounds([]) is None
        True
    """
    if not inside:
        return None
    union = torch.stack(list(inside)).any(dim=0)
    return union | ~union.flatten(1).any(dim=1)[:, None, None]


def is_foreground(view: torch.Tensor) -> torch.Tensor:
    """Return where a (B, C, S, S) view is not 0 in some channel, (B, S, S) bool.

    Examples:
        >>> is_foreground(torch.tensor([[[[0.0, 0.5]]]]))
        tensor([[[False,  True]]])
    """
    return (view != 0).any(dim=1)
