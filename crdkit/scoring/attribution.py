"""Which modality raised an alarm, measured by taking contributions away.

A contribution goes two ways. A modality's *own branch* lifts the fused map: its share is the branch's Shapley value,
what the fused map loses when the branch's map is put back to its normal level, averaged over all orders of branches.
And a source's *amplifier* lifts the map of another branch: the part of that branch's rise that goes away with the
amplifier is the source's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import factorial

import torch

from crdkit.scoring.aggregations import Aggregation

MAX_EXACT = 6
"""Branches up to which all 2^M coalitions are fused; of more, each branch is left out alone."""


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Which modalities raised an alarm, in shares that sum to 1.

    Examples:
        >>> found = Attribution(paths={"rgb": {"rgb": 0.5, "depth": 0.25}, "depth": {"depth": 0.25}})
        >>> found.modalities
        {'rgb': 0.75, 'depth': 0.25}
        >>> found.sensors({"rgb": ["rgb"], "depth": ["xyz"]})
        {'rgb': 0.75, 'xyz': 0.25}
    """

    paths: dict[str, dict[str, float]]
    """By modality, through which branch; a source reaches another branch through its amplifier."""

    @property
    def modalities(self) -> dict[str, float]:
        """By modality: its share through all branches."""
        return {name: sum(through.values()) for name, through in self.paths.items()}

    def sensors(self, read_by: Mapping[str, Sequence[str]]) -> dict[str, float]:
        """Return the shares by sensor: those of all modalities that see the same sensors, added up.

        Args:
            read_by: by modality, the sensors that its view reads. Several are one entry, joined by "+": which of them a
                view owes its share to is not measured.
        """
        found: dict[str, float] = {}
        for name, share in self.modalities.items():
            key = "+".join(read_by[name])
            found[key] = found.get(key, 0.0) + share
        return found


def attribute(
    aggregation: Aggregation,
    maps: Mapping[str, torch.Tensor],
    *,
    without_amplifier: Mapping[str, Mapping[str, torch.Tensor]],
    place: torch.Tensor,
) -> Attribution:
    """Return which modalities raised one sample's fused map at a place.

    With x_i the map of branch i, its normal level the mean of the calibration maps, and v(S) the fused value at the
    place where only the branches in S have their maps and the others are at their normal level:

        own_i = Shapley value of i in v, 0 if negative; of more than `MAX_EXACT` branches v(all) - v(all but i)
        f_ij  = (x_i - x_i without the amplifier of j) / (x_i - normal level), 0 if negative; over all j at most 1

    Of own_i, j gets the part f_ij and i the rest. Shares are divided by their sum; if nothing lifts the map, they are
    equal. What a source does through its *filter* counts as the branch's own.

    Args:
        aggregation: calibrated.
        maps: by modality that the sample has, its unsmoothed (S, S) map.
        without_amplifier: by target and source, the target's map without the source's amplifier.
        place: (S, S) weights of the pixels, smoothed as the fused map is. Maps are fused pixel by pixel, and only where
            these are not 0.
    """
    rows, columns = (place.sum(dim=axis).nonzero().flatten() for axis in (1, 0))
    crop = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    weights = place[crop].double() / place[crop].double().sum()
    own = _own_contributions(aggregation, {name: values[crop] for name, values in maps.items()}, weights)
    paths: dict[str, dict[str, float]] = {name: {name: 0.0} for name in maps}
    for target, amount in own.items():
        level = aggregation.mean[aggregation.modalities.index(target)].item()

        def at_place(values: torch.Tensor) -> float:
            return float((values[crop] * weights).sum())

        rise = at_place(maps[target]) - level
        moved = {
            source: max(at_place(maps[target]) - at_place(values), 0.0) / rise if rise > 0 else 0.0
            for source, values in without_amplifier.get(target, {}).items()
        }
        scale = max(sum(moved.values()), 1.0)
        for source, part in moved.items():
            paths[source][target] = amount * part / scale
        paths[target][target] = amount * (1 - sum(moved.values()) / scale)
    return Attribution(paths=_shares(paths))


def _own_contributions(
    aggregation: Aggregation, maps: Mapping[str, torch.Tensor], weights: torch.Tensor
) -> dict[str, float]:
    """Return what each branch gives to the fused value, 0 where it would lower it."""
    names = list(maps)
    count = len(names)
    everything = (1 << count) - 1
    exact = count <= MAX_EXACT
    coalitions = list(range(1 << count)) if exact else [everything, *(everything ^ 1 << at for at in range(count))]
    fused = _fuse(aggregation, maps, [[bool(members >> at & 1) for at in range(count)] for members in coalitions])
    value = dict(zip(coalitions, (fused * weights).sum(dim=(1, 2)).tolist(), strict=True))
    if not exact:
        return {name: max(value[everything] - value[everything ^ 1 << at], 0.0) for at, name in enumerate(names)}
    found = {}
    for at, name in enumerate(names):
        others = [members for members in coalitions if not members >> at & 1]
        total = sum(
            factorial(members.bit_count())
            * factorial(count - members.bit_count() - 1)
            * (value[members | 1 << at] - value[members])
            for members in others
        )
        found[name] = max(total / factorial(count), 0.0)
    return found


def _fuse(aggregation: Aggregation, maps: Mapping[str, torch.Tensor], kept: Sequence[Sequence[bool]]) -> torch.Tensor:
    """Return the fused (C, h, w) maps of C coalitions: a branch that is not in one is at its normal level."""
    like = next(iter(maps.values()))
    chosen = torch.tensor(kept, device=like.device)
    given: dict[str, torch.Tensor] = {}
    for name, level in zip(aggregation.modalities, aggregation.mean.float(), strict=True):
        if name in maps:
            stays = chosen[:, list(maps).index(name), None, None]
            given[name] = torch.where(stays, maps[name], level)
        else:
            given[name] = torch.zeros_like(like).expand(len(kept), -1, -1)
    if len(maps) == len(given):
        return aggregation.fuse(given)
    has = {name: torch.full((len(kept),), name in maps, device=like.device) for name in aggregation.modalities}
    return aggregation.fuse(given, has)


def _shares(paths: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    total = sum(sum(through.values()) for through in paths.values())
    if not total > 0:
        return {name: {name: 1 / len(paths)} for name in paths}
    return {name: {branch: part / total for branch, part in through.items()} for name, through in paths.items()}
