"""Directed edges between modalities: which source helps which target, and with what parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from crdkit.amplifiers import AmplifierConfig, CrossmodalAmplifier, amplifiers
from crdkit.errors import ConfigError, unknown_name
from crdkit.filters import CrossmodalFilter, FilterConfig, filters
from crdkit.layers import FeatureSpec

Topology = Literal["none", "full", "star", "ring", "edges"]


@dataclass(frozen=True, kw_only=True)
class Edge:
    """``source`` helps ``target`` through a filter, an amplifier or both (None: without that part)."""

    source: str
    target: str
    filter: FilterConfig | None
    amplifier: AmplifierConfig | None

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}"


@dataclass(frozen=True, kw_only=True)
class CrossmodalGraph:
    """Modalities in their fixed order, and the directed edges between them.

    Raises:
        ConfigError: an edge repeats, starts where it ends, has neither part, or names an unknown modality.
    """

    modalities: tuple[str, ...]
    edges: tuple[Edge, ...] = field(default=())

    def __post_init__(self) -> None:
        seen: set[tuple[str, str]] = set()
        for edge in self.edges:
            for end in (edge.source, edge.target):
                if end not in self.modalities:
                    raise unknown_name(f"modality in edge '{edge}':", end, self.modalities)
            if edge.source == edge.target:
                raise ConfigError(f"edge '{edge}' starts where it ends; an edge joins two different modalities")
            if edge.filter is None and edge.amplifier is None:
                raise ConfigError(f"edge '{edge}' has neither filter nor amplifier; give it one or leave it out")
            if (edge.source, edge.target) in seen:
                raise ConfigError(f"edge '{edge}' is given twice; give each direction once")
            seen.add((edge.source, edge.target))

    def incoming(self, target: str) -> tuple[Edge, ...]:
        """Return the edges that end at ``target``, in the graph's order."""
        return tuple(edge for edge in self.edges if edge.target == target)


def topology_pairs(topology: Topology, names: Sequence[str], *, hub: str | None = None) -> list[tuple[str, str]]:
    """Return the (source, target) pairs of a named topology.

    Examples:
        >>> topology_pairs("star", ["rgb", "depth", "infrared"])
        [('rgb', 'depth'), ('depth', 'rgb'), ('rgb', 'infrared'), ('infrared', 'rgb')]
        >>> topology_pairs("ring", ["rgb", "depth", "infrared"])
        [('rgb', 'depth'), ('depth', 'infrared'), ('infrared', 'rgb')]

    Raises:
        UnknownNameError: ``hub`` is not among ``names``.
    """
    if topology == "full":
        return [(source, target) for target in names for source in names if source != target]
    if topology == "ring":
        pairs = list(zip(names, [*names[1:], *names[:1]], strict=True))
        return [pair for pair in pairs if pair[0] != pair[1]]
    if topology == "star":
        centre = names[0] if hub is None else hub
        if centre not in names:
            raise unknown_name("modality in graph.hub:", centre, names)
        rays = [name for name in names if name != centre]
        return [pair for ray in rays for pair in ((centre, ray), (ray, centre))]
    return []


def build_filters(edges: Sequence[Edge], specs: Mapping[str, FeatureSpec]) -> dict[str, CrossmodalFilter]:
    """Build the filter of every edge that has one, by source."""
    return {
        edge.source: filters.get(edge.filter.name)(edge.filter, source=specs[edge.source], target=specs[edge.target])
        for edge in edges
        if edge.filter is not None
    }


def build_amplifiers(edges: Sequence[Edge], specs: Mapping[str, FeatureSpec]) -> dict[str, CrossmodalAmplifier]:
    """Build the amplifier of every edge that has one, by source."""
    return {
        edge.source: amplifiers.get(edge.amplifier.name)(
            edge.amplifier, source=specs[edge.source], target=specs[edge.target]
        )
        for edge in edges
        if edge.amplifier is not None
    }
