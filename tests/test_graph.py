from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdkit.errors import UnknownNameError
from crdkit.model.graph import topology_pairs

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
