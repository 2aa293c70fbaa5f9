from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from crdkit.errors import ConfigError, UnknownNameError
from crdkit.model.graph import (
    CrossmodalGraph,
    Edge,
    EdgeConfig,
    GraphConfig,
    build_projections,
    topology_pairs,
)
from crdkit.model.layers import FeatureSpec
from crdkit.model.projections import projections

NAMES = ["rgb", "depth", "normals", "infrared", "xyz", "lights"]


@pytest.mark.parametrize("count", range(1, 7))
def test_number_of_edges(count):
    names = NAMES[:count]
    assert len(topology_pairs("none", names)) == 0
    assert len(topology_pairs("full", names)) == count * (count - 1)
    assert len(topology_pairs("star", names)) == 2 * (count - 1)
    assert len(topology_pairs("ring", names)) == (count if count > 1 else 0)


@given(st.sampled_from(["none", "full", "star", "ring"]), st.permutations(NAMES), st.integers(1, 6))
def test_pairs_are_distinct_and_join_two(topology, names, count):
    pairs = topology_pairs(topology, names[:count])
    assert len(set(pairs)) == len(pairs)
    assert all(source != target for source, target in pairs)
    assert {name for pair in pairs for name in pair} <= set(names[:count])


def test_at_two_modalities_star_ring_and_full_agree():
    expected = sorted([("rgb", "depth"), ("depth", "rgb")])
    assert all(sorted(topology_pairs(topology, NAMES[:2])) == expected for topology in ("full", "star", "ring"))


def test_hub_must_be_a_modality():
    with pytest.raises(UnknownNameError, match=r"graph\.hub: 'detph' - did you mean 'depth'"):
        topology_pairs("star", NAMES, hub="detph")
    assert all("depth" in pair for pair in topology_pairs("star", NAMES, hub="depth"))


def test_pairs_of_each_topology_in_their_order():
    names = NAMES[:3]
    assert topology_pairs("none", names) == []
    assert topology_pairs("full", names) == [
        ("depth", "rgb"),
        ("normals", "rgb"),
        ("rgb", "depth"),
        ("normals", "depth"),
        ("rgb", "normals"),
        ("depth", "normals"),
    ]
    assert topology_pairs("ring", names) == [("rgb", "depth"), ("depth", "normals"), ("normals", "rgb")]
    from_the_first = [("rgb", "depth"), ("depth", "rgb"), ("rgb", "normals"), ("normals", "rgb")]
    assert topology_pairs("star", names) == topology_pairs("star", names, hub="rgb") == from_the_first
    assert topology_pairs("star", names, hub="depth") == [
        ("depth", "rgb"),
        ("rgb", "depth"),
        ("depth", "normals"),
        ("normals", "depth"),
    ]


# --- edges and the graph

FILTER = projections.build_config({"name": "bottleneck", "size": 2})
AMPLIFIER = projections.build_config("identity")


def edge(source, target, *, filter=FILTER, amplifier=AMPLIFIER):  # noqa: A002
    return Edge(source=source, target=target, filter=filter, amplifier=amplifier)


def test_incoming_edges_are_those_that_end_at_the_target():
    edges = (edge("depth", "rgb"), edge("rgb", "depth"), edge("normals", "rgb"))
    graph = CrossmodalGraph(modalities=("rgb", "depth", "normals"), edges=edges)
    assert graph.incoming("rgb") == (edges[0], edges[2])
    assert graph.incoming("depth") == (edges[1],)
    assert graph.incoming("normals") == ()
    assert CrossmodalGraph(modalities=("rgb",)).edges == ()


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([edge("dept", "rgb")], r"^unknown modality in edge 'dept -> rgb': 'dept' - did you mean 'depth'\?"),
        ([edge("rgb", "dept")], r"^unknown modality in edge 'rgb -> dept': 'dept' - did you mean 'depth'\?"),
        ([edge("rgb", "rgb")], r"^edge 'rgb -> rgb' starts where it ends; an edge joins two different modalities$"),
        (
            [edge("depth", "rgb", filter=None, amplifier=None)],
            r"^edge 'depth -> rgb' has neither filter nor amplifier; give it one or remove the edge$",
        ),
        (
            [edge("depth", "rgb"), edge("rgb", "depth"), edge("depth", "rgb", filter=None)],
            r"^edge 'depth -> rgb' is given twice; give each direction once$",
        ),
    ],
)
def test_wrong_edges_are_named(edges, message):
    with pytest.raises(ConfigError, match=message):
        CrossmodalGraph(modalities=("rgb", "depth"), edges=tuple(edges))


def test_one_part_is_enough_for_an_edge():
    for parts in ({"filter": None}, {"amplifier": None}):
        assert len(CrossmodalGraph(modalities=("rgb", "depth"), edges=(edge("depth", "rgb", **parts),)).edges) == 1


def test_an_edge_takes_the_parts_of_the_graph_unless_it_names_its_own():
    graph = GraphConfig(
        topology="edges",
        filter=FILTER,
        amplifier=AMPLIFIER,
        edges=(
            {"source": "depth", "target": "rgb"},
            {"source": "rgb", "target": "depth", "amplifier": None},
            {"source": "normals", "target": "rgb", "filter": {"name": "bottleneck", "size": 5}},
        ),
    )
    assert graph.build(("rgb", "depth", "normals")) == CrossmodalGraph(
        modalities=("rgb", "depth", "normals"),
        edges=(
            edge("depth", "rgb"),
            edge("rgb", "depth", amplifier=None),
            edge("normals", "rgb", filter=projections.build_config({"name": "bottleneck", "size": 5})),
        ),
    )


@pytest.mark.parametrize("topology", ["none", "full", "star", "ring"])
def test_a_named_topology_joins_its_pairs_with_the_parts_of_the_graph(topology):
    graph = GraphConfig(topology=topology, hub="depth" if topology == "star" else None, filter=FILTER, amplifier=None)
    pairs = topology_pairs(topology, NAMES[:3], hub="depth")
    assert graph.build(tuple(NAMES[:3])) == CrossmodalGraph(
        modalities=tuple(NAMES[:3]), edges=tuple(edge(*pair, amplifier=None) for pair in pairs)
    )
    nothing = GraphConfig(topology=topology, filter=None, amplifier=None).build(tuple(NAMES[:3]))
    assert nothing == CrossmodalGraph(modalities=tuple(NAMES[:3]))


def test_the_defaults_are_those_of_the_paper():
    graph = GraphConfig()
    assert (graph.topology, graph.hub, graph.edges, graph.merge) == ("full", None, (), "concat")
    assert graph.filter == projections.build_config("bottleneck")
    assert graph.amplifier == projections.build_config("inverted_bottleneck")


@pytest.mark.parametrize(
    ("topology", "edges"), [("edges", ()), ("full", ({"source": "depth", "target": "rgb"},))], ids=["none", "one"]
)
def test_edges_come_with_their_topology_only(topology, edges):
    expected = (
        rf"graph\.topology={topology} with {len(edges)} graph\.edges: list edges if, and only if, the topology is"
    )
    with pytest.raises(ValidationError, match=expected + " 'edges' "):
        GraphConfig(topology=topology, edges=edges)


def test_null_and_not_given_stay_different_when_an_edge_is_written():
    given = {"source": "depth", "target": "rgb", "filter": None}
    assert EdgeConfig(**given).model_dump() == given
    assert EdgeConfig(**EdgeConfig(**given).model_dump()).model_fields_set == set(given)
    assert "filter" not in EdgeConfig(source="depth", target="rgb").model_dump()


def random_levels(spec):
    return [torch.rand(2, channels, size, size) for channels, size in zip(spec.channels, spec.sizes, strict=True)]


def test_projections_are_built_from_the_source_to_the_target():
    specs = {
        "rgb": FeatureSpec(channels=(4, 8), sizes=(8, 4), signed=True),
        "depth": FeatureSpec(channels=(2, 6), sizes=(8, 4), signed=False),
        "normals": FeatureSpec(channels=(3, 5), sizes=(8, 4), signed=False),
    }
    edges = [edge("depth", "rgb", amplifier=None), edge("normals", "rgb")]
    filters, amplifiers = (build_projections(edges, role, specs) for role in ("filter", "amplifier"))
    assert list(filters) == ["depth", "normals"]
    assert list(amplifiers) == ["normals"]
    bottleneck, identity = projections.get("bottleneck"), projections.get("identity")
    assert [type(part) for part in (*filters.values(), *amplifiers.values())] == [bottleneck, bottleneck, identity]
    for source, part in (*filters.items(), *amplifiers.items()):
        found = part(random_levels(specs[source]))
        assert [level.shape for level in found] == [level.shape for level in random_levels(specs["rgb"])]
