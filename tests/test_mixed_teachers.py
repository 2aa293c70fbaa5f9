"""Teachers that differ in channels, strides, number of levels and input size, one model over all of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crdkit.config import RunConfig
from crdkit.config.build import build_model, build_scorer
from crdkit.detector import Detector
from crdkit.model import CRD
from crdkit.model.graph import CrossmodalGraph, Edge, topology_pairs
from crdkit.model.layers import FeatureSpec
from crdkit.model.projections import matching_levels, projections
from crdkit.model.student import StudentConfig
from crdkit.training.losses import crd_losses

VIEWS = {"lite": "rgb", "tokens": "depth", "own": "rgb", "four": "depth"}
RANDOM = {"name": "timm", "pretrained": False}
TEACHERS = {
    "lite": {"name": "efficientnet_lite0", "image_size": 128},
    "tokens": {**RANDOM, "model": "test_vit", "layers": [1, 3, 5], "image_size": 48},
    "own": {"name": "module", "target": "teachers:build"},
    "four": {**RANDOM, "model": "resnet10t", "layers": [1, 2, 3, 4], "image_size": 90},
}
SPECS = {
    "lite": FeatureSpec(channels=(24, 40, 112), sizes=(32, 16, 8), signed=True),
    "tokens": FeatureSpec(channels=(64, 64, 64), sizes=(3, 3, 3), signed=True),
    "own": FeatureSpec(channels=(5, 9), sizes=(16, 8), signed=True),
    "four": FeatureSpec(channels=(64, 128, 256, 512), sizes=(23, 12, 6, 3), signed=False),
}


@st.composite
def pyramids(draw):
    """A CNN's pyramid, a transformer's stack of equal maps, or anything in between that runs from fine to coarse."""
    levels = draw(st.integers(1, 4))
    sizes = draw(st.lists(st.integers(1, 20), min_size=levels, max_size=levels))
    if draw(st.booleans()):
        sizes = sizes[:1] * levels
    return FeatureSpec(
        channels=tuple(draw(st.lists(st.integers(1, 6), min_size=levels, max_size=levels))),
        sizes=tuple(sorted(sizes, reverse=True)),
        signed=draw(st.booleans()),
    )


def features_of(spec, seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)
    shapes = zip(spec.channels, spec.sizes, strict=True)
    levels = [torch.randn(batch, channels, size, size, generator=generator) for channels, size in shapes]
    return levels if spec.signed else [level.relu() for level in levels]


def assert_fit(levels, spec):
    expected = [(2, channels, size, size) for channels, size in zip(spec.channels, spec.sizes, strict=True)]
    assert [tuple(level.shape) for level in levels] == expected
    assert all(bool(torch.isfinite(level).all()) for level in levels)
    assert spec.signed or all(bool((level >= 0).all()) for level in levels)


def assert_trained(parameters):
    for parameter in parameters:
        assert parameter.grad is not None
        assert bool(torch.isfinite(parameter.grad).all())


@settings(deadline=None, derandomize=True)
@given(source=pyramids(), target=pyramids())
def test_levels_are_matched_in_order_from_end_to_end(source, target):
    matched = matching_levels(source, target)
    assert len(matched) == len(target.sizes)
    assert list(matched) == sorted(matched)
    assert matched[0] == 0
    assert len(matched) == 1 or matched[-1] == len(source.sizes) - 1
    assert matching_levels(target, target) == tuple(range(len(target.sizes)))


@pytest.mark.parametrize("name", list(projections))
@settings(deadline=None, max_examples=40, derandomize=True)
@given(source=pyramids(), target=pyramids())
def test_edge_parts_map_any_pyramid_to_any_other(name, source, target):
    part = projections.build(projections.build_config(name), source=source, target=target)
    inputs = [level.requires_grad_() for level in features_of(source)]
    outputs = part(inputs)
    assert_fit(outputs, target)
    sum((level * torch.randn_like(level)).sum() for level in outputs).backward()
    assert_trained(part.parameters())
    used = set(matching_levels(source, target))
    assert {level for level, features in enumerate(inputs) if features.grad is not None} == used


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    specs=st.lists(pyramids(), min_size=1, max_size=4),
    filter_=st.sampled_from([None, *projections.names()]),
    amplifier=st.sampled_from([None, *projections.names()]),
    merge=st.sampled_from(["concat", "mean"]),
)
def test_a_model_takes_zero_to_three_helpers_of_any_shape(specs, filter_, amplifier, merge):
    named = {f"m{index}": spec for index, spec in enumerate(specs)}
    filter_, amplifier = (name and projections.build_config(name) for name in (filter_, amplifier))
    pairs = topology_pairs("full" if filter_ or amplifier else "none", list(named))
    edges = tuple(Edge(source=s, target=t, filter=filter_, amplifier=amplifier) for s, t in pairs)
    graph = CrossmodalGraph(modalities=tuple(named), edges=edges)
    model = CRD(specs=named, graph=graph, merge=merge, student=StudentConfig(embedding_blocks=1))
    out = model.distill({name: features_of(spec) for name, spec in named.items()})
    for name, spec in named.items():
        for levels in (
            out.decoder[name],
            out.output[name],
            *out.filtered[name].values(),
            *out.amplified[name].values(),
        ):
            assert_fit(levels, spec)
    sum(sum(terms.values()) for terms in crd_losses(out).values()).backward()
    assert_trained(model.student_parameters())


def run_of(names, tiny):
    values = tiny.model_dump(mode="json")
    values["modalities"] = {name: {"name": VIEWS[name], "encoder": TEACHERS[name]} for name in names}
    values["student"] = {"depths": 1, "embedding_blocks": 1}
    return RunConfig.from_dict(values)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("first", [0, 1])
def test_teachers_of_four_kinds_train_score_save_and_load(count, first, tiny, tmp_path):
    names = (list(TEACHERS) * 2)[first : first + count]
    run = run_of(names, tiny)
    model = build_model(run)
    assert model.specs == {name: SPECS[name] for name in names}
    generator = torch.Generator().manual_seed(0)
    images = {name: torch.rand(2, 1 + 2 * (index % 2), 64, 64, generator=generator) for index, name in enumerate(names)}
    out = model(images)
    for name in names:
        for levels in (out.teacher[name], out.decoder[name], out.output[name]):
            assert_fit(levels, SPECS[name])
    sum(sum(terms.values()) for terms in crd_losses(out).values()).backward()
    assert_trained(model.student_parameters())
    assert all(parameter.grad is None for parameter in model.teachers.parameters())

    detector = Detector(config=run, model=model, scorer=build_scorer(run))
    with torch.no_grad():
        maps = score(detector, images)
        assert maps.anomaly_map.shape == (2, 64, 64)
        assert bool(torch.isfinite(maps.anomaly_map).all())
        detector.save(tmp_path / "detector")
        loaded = Detector.load(tmp_path / "detector", device="cpu")
        again = score(loaded, images)
    torch.testing.assert_close(again.anomaly_map, maps.anomaly_map)


def score(detector, images):
    out = detector.model(images)
    return detector.scorer(detector.scorer.raw_maps(out.teacher, out.output))
