"""Attribution: Shapley values by brute force, amplifiers taken away by hand, and what is true of every result."""

from __future__ import annotations

from copy import deepcopy
from itertools import permutations
from math import factorial

import pytest
import torch

from crdkit.model import CRD
from crdkit.model.graph import CrossmodalGraph, Edge
from crdkit.model.layers import FeatureSpec
from crdkit.model.paths import without_amplifiers
from crdkit.model.projections import projections
from crdkit.scoring.aggregations import aggregations
from crdkit.scoring.attribution import Attribution, attribute
from crdkit.scoring.maps import GaussianSmoothing

NAMES = ("rgb", "depth", "infrared", "normals", "lights", "xyz", "thermal")
SIZE = 20


def calibrated(name, modalities, generator):
    options = {"name": name}
    if name == "weighted":
        options["weights"] = {modality: 1.0 + index for index, modality in enumerate(modalities)}
    fuse = aggregations.build(aggregations.build_config(options), modalities=modalities)
    fuse.calibrate({modality: torch.rand(6, SIZE, SIZE, generator=generator) for modality in modalities})
    return fuse


def place_of(rows, columns, *, sigma=2.0):
    """Return the smoothed weights of a rectangle, and its mask."""
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    inside[rows, columns] = True
    return GaussianSmoothing(sigma, size=SIZE)(inside.float() / inside.sum()), inside


def shapley(fuse, maps, value_of):
    """Return Shapley values from all orders, each coalition fused on its own, at full size."""
    level = dict(zip(fuse.modalities, fuse.mean.float(), strict=True))

    def value(members):
        given = {
            name: values if name in members else torch.full_like(values, level[name]) for name, values in maps.items()
        }
        return value_of(fuse.fuse({name: values[None] for name, values in given.items()})[0])

    found = dict.fromkeys(maps, 0.0)
    for order in permutations(maps):
        for place, name in enumerate(order):
            found[name] += (value(order[: place + 1]) - value(order[:place])) / factorial(len(maps))
    return found


@pytest.mark.parametrize("name", aggregations.names())
@pytest.mark.parametrize("count", [1, 2, 4])
def test_own_shares_are_shapley_values_of_the_smoothed_map(name, count):
    generator = torch.Generator().manual_seed(count)
    names = NAMES[:count]
    fuse = calibrated(name, names, generator)
    maps = {modality: 3 * torch.rand(SIZE, SIZE, generator=generator) for modality in names}
    place, inside = place_of(slice(0, 5), slice(12, 15))
    smooth = GaussianSmoothing(2.0, size=SIZE)
    expected = shapley(fuse, maps, lambda fused: float(smooth(fused[None])[0][inside].mean()))
    expected = {modality: max(value, 0.0) for modality, value in expected.items()}
    found = attribute(fuse, maps, without_amplifier={}, place=place)
    assert found.modalities == pytest.approx(
        {modality: value / sum(expected.values()) for modality, value in expected.items()}, abs=1e-4
    )
    assert all(list(through) == [modality] for modality, through in found.paths.items())


def test_branches_that_saw_the_same_share_the_alarm():
    fuse = calibrated("max", ("rgb", "depth"), torch.Generator().manual_seed(0))
    high = torch.full((SIZE, SIZE), 9.0)
    fuse.mean.fill_(0.5)
    fuse.std.fill_(1.0)
    place, _ = place_of(slice(4, 7), slice(4, 7))
    found = attribute(fuse, {"rgb": high, "depth": high.clone()}, without_amplifier={}, place=place)
    assert found.modalities == pytest.approx({"rgb": 0.5, "depth": 0.5})  # leaving out either one changes nothing


def test_of_more_than_six_branches_each_is_left_out_alone():
    fuse = calibrated("sum", NAMES, torch.Generator().manual_seed(0))
    rises = dict(zip(NAMES, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -7.0), strict=True))
    maps = {
        name: torch.full((SIZE, SIZE), float(level) + rises[name]) for name, level in zip(NAMES, fuse.mean, strict=True)
    }
    place, _ = place_of(slice(4, 7), slice(4, 7))
    found = attribute(fuse, maps, without_amplifier={}, place=place)
    assert found.modalities == pytest.approx({name: max(rise, 0.0) / 21 for name, rise in rises.items()}, abs=1e-5)


def flat(fuse, **rises):
    """Return constant maps above the normal level."""
    return {
        name: torch.full((SIZE, SIZE), float(fuse.mean[fuse.modalities.index(name)]) + rise)
        for name, rise in rises.items()
    }


def test_what_goes_with_an_amplifier_is_its_sources():
    fuse = calibrated("sum", ("rgb", "depth"), torch.Generator().manual_seed(0))
    maps = flat(fuse, rgb=2.0, depth=6.0)
    place, _ = place_of(slice(4, 7), slice(4, 7))
    without = {"depth": {"rgb": maps["depth"] - 4.5}, "rgb": {"depth": maps["rgb"] + 1.0}}
    found = attribute(fuse, maps, without_amplifier=without, place=place)
    # depth's branch makes 6/8 of the map; three quarters of that came from rgb. What rises without an amplifier is 0
    assert found.paths["rgb"] == pytest.approx({"rgb": 2 / 8, "depth": 4.5 / 8}, abs=1e-5)
    assert found.paths["depth"] == pytest.approx({"rgb": 0.0, "depth": 1.5 / 8}, abs=1e-5)
    assert found.modalities == pytest.approx({"rgb": 6.5 / 8, "depth": 1.5 / 8}, abs=1e-5)


def test_amplifiers_cannot_move_more_than_there_is():
    fuse = calibrated("sum", NAMES[:3], torch.Generator().manual_seed(0))
    maps = flat(fuse, rgb=2.0, depth=0.0, infrared=0.0)
    place, _ = place_of(slice(4, 7), slice(4, 7))
    without = {"rgb": {"depth": maps["rgb"] - 3.0, "infrared": maps["rgb"] - 1.0}}
    found = attribute(fuse, maps, without_amplifier=without, place=place)
    assert found.modalities == pytest.approx({"rgb": 0.0, "depth": 0.75, "infrared": 0.25}, abs=1e-5)


@pytest.mark.parametrize("name", aggregations.names())
def test_shares_are_not_negative_and_sum_to_one(name):
    generator = torch.Generator().manual_seed(1)
    fuse = calibrated(name, NAMES[:3], generator)
    place, _ = place_of(slice(9, 10), slice(9, 10), sigma=0.0)
    for _ in range(20):
        maps = {key: 2 * torch.rand(SIZE, SIZE, generator=generator) for key in NAMES[:3]}
        without = {
            target: {key: 2 * torch.rand(SIZE, SIZE, generator=generator) for key in maps if key != target}
            for target in maps
        }
        found = attribute(fuse, maps, without_amplifier=without, place=place)
        parts = [part for through in found.paths.values() for part in through.values()]
        assert min(parts) >= 0
        assert sum(found.modalities.values()) == pytest.approx(1)


def test_where_nothing_rises_shares_are_equal():
    fuse = calibrated("sum", ("rgb", "depth"), torch.Generator().manual_seed(0))
    place, _ = place_of(slice(4, 7), slice(4, 7))
    found = attribute(fuse, flat(fuse, rgb=-1.0, depth=-2.0), without_amplifier={}, place=place)
    assert found.paths == {"rgb": {"rgb": 0.5}, "depth": {"depth": 0.5}}


@pytest.mark.parametrize("name", aggregations.names())
def test_a_modality_that_the_sample_lacks_has_no_share(name):
    fuse = calibrated(name, NAMES[:3], torch.Generator().manual_seed(0))
    place, _ = place_of(slice(4, 7), slice(4, 7))
    found = attribute(fuse, flat(fuse, rgb=3.0, infrared=0.0), without_amplifier={}, place=place)
    assert list(found.modalities) == ["rgb", "infrared"]
    assert found.modalities["rgb"] > 0.9


def test_sensors_that_several_modalities_see_add_up():
    found = Attribution(paths={"depth": {"depth": 0.25}, "normals": {"normals": 0.25}, "lights": {"lights": 0.5}})
    read_by = {"depth": ("xyz",), "normals": ("xyz",), "lights": ("left", "right")}
    assert found.sensors(read_by) == {"xyz": 0.5, "left+right": 0.5}


@pytest.mark.parametrize("missing", [(), ("b",)])
def test_an_amplifier_taken_away_is_one_of_no_weight(missing):
    torch.manual_seed(0)
    specs = {name: FeatureSpec(channels=(4, 6), sizes=(8, 4), signed=True) for name in "abc"}
    filter_, amplifier = (projections.build_config(name) for name in ("bottleneck", "inverted_bottleneck"))
    edges = [Edge(source=source, target="a", filter=filter_, amplifier=amplifier) for source in "bc"]
    branch = CRD(specs=specs, graph=CrossmodalGraph(modalities=tuple(specs), edges=tuple(edges))).eval().branch("a")
    for weights in branch.student.decoder.merge_weights:
        weights.data.normal_()
    features = {name: [torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4)] for name in specs}
    present = {name: torch.tensor([name not in missing]) for name in specs} if missing else None
    with torch.no_grad():
        taken, output = without_amplifiers(branch, features, missing)
        assert taken == [name for name in "bc" if name not in missing]
        expected = [branch(features, present).output]
        for name in taken:
            other = deepcopy(branch)
            for weights in other.student.decoder.merge_weights:
                weights[1 + list(branch.amplifiers).index(name)] = -torch.inf
            expected.append(other(features, present).output)
    for level, found in enumerate(output):
        torch.testing.assert_close(found, torch.cat([levels[level] for levels in expected]), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(output[0][0], output[0][1])


def test_a_branch_without_amplifiers_is_run_as_it_is():
    specs = {"a": FeatureSpec(channels=(4, 6), sizes=(8, 4), signed=True)}
    branch = CRD(specs=specs, graph=CrossmodalGraph(modalities=("a",))).eval().branch("a")
    features = {"a": [torch.randn(1, 4, 8, 8), torch.randn(1, 6, 4, 4)]}
    with torch.no_grad():
        taken, output = without_amplifiers(branch, features)
        assert taken == []
        torch.testing.assert_close(output, branch(features).output)
