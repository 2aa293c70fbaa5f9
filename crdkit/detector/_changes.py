"""Whether the weights that thresholds were set with are still the same."""

from __future__ import annotations

from itertools import chain

from torch import nn


class Changes:
    """Counts changes of a model's and a scorer's tensors; detectors that share them share this.

    Whatever writes into a tensor in place counts (`Tensor._version`), as loading weights, calibrating and training do;
    writes through ``.data`` cannot be seen. Moving to another device is no change if `moved` is called after it.

    Examples:
        >>> import torch
        >>> model, scorer = nn.Linear(2, 2), nn.BatchNorm1d(2)
        >>> changes = Changes(model, scorer)
        >>> _ = model.weight.data_ptr(), scorer.eval()(torch.zeros(1, 2))
        >>> changes.count(), changes.count(model=True)
        (0, 0)
        >>> model.load_state_dict(model.state_dict())
        <All keys matched successfully>
        >>> changes.count(model=True), changes.count(model=True)
        (1, 1)
    """

    def __init__(self, model: nn.Module, scorer: nn.Module) -> None:
        self._modules = (scorer, model)
        self._count = 0
        self.moved()

    def moved(self) -> None:
        """Take the tensors that are there now for the same as before."""
        self._seen = [_versions(module) for module in self._modules]

    def count(self, *, model: bool = False) -> int:
        """Return how often the scorer was seen to change, and with ``model`` (a millisecond) look at the model too."""
        now = [_versions(module) for module in (self._modules if model else self._modules[:1])]
        if now != self._seen[: len(now)]:
            self._count += 1
            self._seen[: len(now)] = now
        return self._count


def _versions(module: nn.Module) -> list[tuple[int, int]]:
    return [
        (tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version)
        for tensor in chain(module.parameters(), module.buffers())
        if not tensor.is_meta
    ]
