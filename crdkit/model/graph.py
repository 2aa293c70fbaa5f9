"""Directed edges between modalities: which source helps which target, and with what projections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from crdkit._core.registry import StrictConfig
from crdkit.errors import ConfigError, unknown_name
from crdkit.model.layers import FeatureSpec
from crdkit.model.modality_names import require_modality_name
from crdkit.model.projections import Projection, ProjectionConfig, projections

Topology = Literal["none", "full", "star", "ring", "edges"]
Merge = Literal["concat", "mean"]
AnyProjection = Annotated[ProjectionConfig, projections]


@dataclass(frozen=True, kw_only=True)
class Edge:
    """``source`` helps ``target`` through a filter, an amplifier or both (None: without that part).

    Examples:
        >>> edge = Edge(source="depth", target="rgb", filter=projections.build_config("bottleneck"), amplifier=None)
        >>> str(edge), edge.filter.size
        ('depth -> rgb', 8)
    """

    source: str
    target: str
    filter: ProjectionConfig | None
    amplifier: ProjectionConfig | None

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}"


@dataclass(frozen=True, kw_only=True)
class CrossmodalGraph:
    """Modalities in their fixed order, and the directed edges between them.

    Raises:
        ConfigError: an edge repeats, starts where it ends, has neither part, or names an unknown modality; or a
            modality's name cannot be used.

    Examples:
        >>> edge = Edge(source="depth", target="rgb", filter=projections.build_config("bottleneck"), amplifier=None)
        >>> graph = CrossmodalGraph(modalities=("rgb", "depth"), edges=(edge,))
        >>> [str(edge) for edge in graph.incoming("rgb")], graph.incoming("depth")
        (['depth -> rgb'], ())
    """

    modalities: tuple[str, ...]
    edges: tuple[Edge, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in self.modalities:
            require_modality_name(name)
        seen: set[tuple[str, str]] = set()
        for edge in self.edges:
            for end in (edge.source, edge.target):
                if end not in self.modalities:
                    raise unknown_name(f"modality in edge '{edge}':", end, self.modalities)
            if edge.source == edge.target:
                raise ConfigError(f"edge '{edge}' starts where it ends; an edge joins two different modalities")
            if edge.filter is None and edge.amplifier is None:
                raise ConfigError(f"edge '{edge}' has neither filter nor amplifier; give it one or remove the edge")
            if (edge.source, edge.target) in seen:
                raise ConfigError(f"edge '{edge}' is given twice; give each direction once")
            seen.add((edge.source, edge.target))

    def incoming(self, target: str) -> tuple[Edge, ...]:
        """Return the edges that end at ``target``, in the graph's order."""
        return tuple(edge for edge in self.edges if edge.target == target)


class EdgeConfig(StrictConfig):
    """One directed edge; a part that is not given is the graph's, null leaves it out."""

    source: str = Field(description="modality that helps")
    target: str = Field(description="modality that is helped")
    filter: AnyProjection | None = Field(None, description="graph.filter if not given; null: none")
    amplifier: AnyProjection | None = Field(None, description="graph.amplifier if not given; null: none")

    @model_serializer(mode="wrap")
    def _serialise_given_keys(self, serialise: SerializerFunctionWrapHandler) -> dict[str, object]:
        # "not given" and null mean different things, also when they are read back
        return {key: value for key, value in serialise(self).items() if key in self.model_fields_set}


class GraphConfig(StrictConfig):
    """Which modalities help which, and with what.

    Examples:
        >>> graph = GraphConfig(topology="star", hub="rgb").build(("rgb", "depth", "infrared"))
        >>> [str(edge) for edge in graph.edges]
        ['rgb -> depth', 'depth -> rgb', 'rgb -> infrared', 'infrared -> rgb']
    """

    topology: Topology = Field("full", description="none, full, star (hub <-> each), ring (i -> i+1) or edges")
    hub: str | None = Field(None, description="centre of the star; the first modality if null")
    edges: tuple[EdgeConfig, ...] = Field((), description="with topology: edges")
    filter: AnyProjection | None = Field(
        default_factory=lambda: projections.build_config("bottleneck"),
        description="what every edge projects for the target's bottleneck, with its options; null: nothing",
    )
    amplifier: AnyProjection | None = Field(
        default_factory=lambda: projections.build_config("inverted_bottleneck"),
        description="what every edge projects for the target's decoder, with its options; null: nothing",
    )
    merge: Merge = Field("concat", description="how several filters reach the bottleneck")

    @model_validator(mode="after")
    def _edges_fit_topology(self) -> GraphConfig:
        if bool(self.edges) != (self.topology == "edges"):
            raise ValueError(
                f"graph.topology={self.topology} with {len(self.edges)} graph.edges: "
                "list edges if, and only if, the topology is 'edges'"
            )
        return self

    def build(self, names: tuple[str, ...]) -> CrossmodalGraph:
        """Return the graph over the modalities ``names``.

        Raises:
            ConfigError: an edge repeats, starts where it ends, or names an unknown modality.
        """
        own = {"filter": self.filter, "amplifier": self.amplifier}
        if self.topology == "edges":
            given = ({**own, **{key: getattr(edge, key) for key in edge.model_fields_set}} for edge in self.edges)
            return CrossmodalGraph(modalities=names, edges=tuple(Edge(**parts) for parts in given))
        pairs = topology_pairs(self.topology, names, hub=self.hub) if any(own.values()) else []
        edges = tuple(Edge(source=source, target=target, **own) for source, target in pairs)
        return CrossmodalGraph(modalities=names, edges=edges)


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


def build_projections(
    edges: Sequence[Edge], role: Literal["filter", "amplifier"], specs: Mapping[str, FeatureSpec]
) -> dict[str, Projection]:
    """Build the projection in the ``role`` on every edge that has one, by source."""
    return {
        edge.source: projections.build(config, source=specs[edge.source], target=specs[edge.target])
        for edge in edges
        if (config := getattr(edge, role)) is not None
    }
