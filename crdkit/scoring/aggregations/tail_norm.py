"""A p-norm of how surprising each branch is, in units of its own normal tail: no branch drowns out another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from crdkit.scoring.aggregations import AggregationConfig, aggregations, min_scale
from crdkit.scoring.surprise import SurpriseAggregation


class TailNormConfig(AggregationConfig):
    """Options of the tail norm.

    Examples:
        >>> TailNormConfig(quantile=0.999, power=None)
        TailNormConfig(name='tail_norm', scale='tail', quantile=0.999, power=None)
    """

    name: Literal["tail_norm"] = "tail_norm"
    scale: Literal["tail", "std"] = Field(
        "tail", description="unit of a branch: mean excess of its normal tail, or standard deviation around the mean"
    )
    quantile: float = Field(0.99, ge=0.5, lt=1, description="with scale tail: where the tail of normal pixels begins")
    power: float | None = Field(2.0, ge=1, le=64, description="of the norm: 1 is the sum; null: the largest branch")


@aggregations.register("tail_norm")
class TailNorm(SurpriseAggregation):
    """The p-norm over branches of each pixel's surprise, -log of its tail probability among normal pixels.

    Of each branch's n validation pixels the k = (1 - quantile) n largest are its tail: u is the value below them, and
    s their mean excess over u, the maximum-likelihood scale of an exponential tail, P(X > x) = k/n exp(-(x - u) / s).
    With that, and a soft floor at 0 (softplus(t) = log(1 + exp(t))):

        surprise = softplus(-log P(X > x)) = softplus((x - c) / s),   c = u + s log(k/n)
        fused    = (sum over branches of surprise^power)^(1/power)

    A branch with a heavy normal tail has a large s and grows slowly, whatever its standard deviation: noise that
    normal samples show as well stays as unsurprising as theirs. The larger ``power``, the less a branch adds where
    another stands out: 1 sums log-probabilities (Fisher's method of combining tests), null takes the largest
    (Tippett's). With ``scale: std``, c and s are mean and standard deviation. Only normal samples decide c and s.

    Examples:
        >>> generator = torch.Generator().manual_seed(0)
        >>> normals = {name: torch.rand(4, 16, 16, generator=generator) for name in ("rgb", "xyz")}
        >>> fuse = TailNorm(TailNormConfig(), modalities=["rgb", "xyz"])
        >>> fuse.calibrate(normals)
        >>> tuple(fuse(normals).shape)
        (4, 16, 16)
        >>> bool(fuse({**normals, "xyz": normals["xyz"] + 2}).amin() > fuse(normals).amax())
        True
    """

    Config = TailNormConfig
    config: TailNormConfig
    location: torch.Tensor
    scale: torch.Tensor

    def __init__(self, config: TailNormConfig, *, modalities: Sequence[str]) -> None:
        super().__init__(config, modalities=modalities)
        self.register_buffer("location", torch.zeros_like(self.mean))
        self.register_buffer("scale", torch.ones_like(self.std))

    def calibrate(self, maps: Mapping[str, torch.Tensor]) -> None:
        """Learn c and s of every branch from the unsmoothed (N, H, W) maps of anomaly-free samples."""
        super().calibrate(maps)
        self.location.copy_(self.mean)
        self.scale.copy_(self.std)
        if self.config.scale == "std":
            return
        for index, name in enumerate(self.modalities):
            values = maps[name].flatten()
            count = max(min(round((1 - self.config.quantile) * len(values)), len(values) - 1), 1)
            tail = values.topk(min(count + 1, len(values))).values.double()
            excess = (tail[:-1] - tail[-1]).mean()
            share = torch.tensor(count / len(values), dtype=torch.float64, device=excess.device)
            # ties leave no excess: mean and standard deviation stay
            self.scale[index] = torch.where(excess > 0, excess, self.scale[index])
            self.location[index] = torch.where(excess > 0, tail[-1] + excess * share.log(), self.location[index])

    @property
    def power(self) -> float | None:
        """The power of the norm: without some branches, it is at most (M/K)^(1/power) times that of all M."""
        return self.config.power

    def units(self, maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the branches' (M, B, H, W) surprises, at least 0."""
        location, scale = (
            values.float().view(-1, 1, 1, 1) for values in (self.location, self.scale.maximum(min_scale(self.location)))
        )
        return F.softplus((self.stacked(maps) - location) / scale)

    def combine(self, units: torch.Tensor) -> torch.Tensor:
        """Fuse the (M, B, H, W) surprises to (B, H, W), at least 0."""
        power = self.power
        if power == 1:
            return units.sum(dim=0)
        largest = units.amax(dim=0)
        if power is None:
            return largest
        # relative to the largest, so that no power overflows
        relative = units / largest.clamp_min(torch.finfo(torch.float32).tiny)
        return largest * relative.pow(power).sum(dim=0).pow(1 / power)
