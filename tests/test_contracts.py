"""One contract per kind, over every registered name: a new entry is tested without a new test."""

from __future__ import annotations

import pytest
import torch
from example_sensors import example_sensors

from crdkit.aggregations import aggregations
from crdkit.amplifiers import amplifiers
from crdkit.catalogue import REGISTRIES, catalogue
from crdkit.filters import filters
from crdkit.layers import FeatureSpec
from crdkit.modalities import modalities

SPECS = {
    "cnn": FeatureSpec(channels=(4, 6, 10), sizes=(16, 8, 4), signed=False),
    "tokens": FeatureSpec(channels=(7, 7), sizes=(9, 9), signed=True),
}
PARTS = [(registry, name) for registry in (filters, amplifiers) for name in registry]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, registry in REGISTRIES.items() for name in registry])
def test_entry_describes_itself_and_its_options_round_trip(kind, name):
    cls = REGISTRIES[kind].get(name)
    assert cls.Config(name=name).name == name
    config = REGISTRIES[kind].build_config(name)
    assert REGISTRIES[kind].build_config(config.model_dump(mode="json")) == config
    (entry,) = [entry for entry in catalogue(kind)[kind] if entry.name == name]
    assert entry.summary
    assert set(entry.options) == set(cls.Config.model_fields) - {"name"}


@pytest.mark.parametrize(("registry", "name"), PARTS, ids=[f"{registry.kind}-{name}" for registry, name in PARTS])
@pytest.mark.parametrize("source", SPECS)
@pytest.mark.parametrize("target", SPECS)
def test_edge_part_maps_source_to_target(registry, name, source, target):
    source, target = SPECS[source], SPECS[target]
    part = registry.get(name)(registry.build_config(name), source=source, target=target)
    levels = [torch.randn(2, c, s, s) for c, s in zip(source.channels, source.sizes, strict=True)]
    out = part(levels)
    assert [tuple(level.shape) for level in out] == [
        (2, channels, size, size) for channels, size in zip(target.channels, target.sizes, strict=True)
    ]
    assert target.signed or all(bool((level >= 0).all()) for level in out)
    sum(level.sum() for level in out).backward()
    assert all(parameter.grad is not None for parameter in part.parameters())
    restored = registry.get(name)(registry.build_config(name), source=source, target=target)
    restored.load_state_dict(part.state_dict())
    for mine, theirs in zip(restored.eval()(levels), part.eval()(levels), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("name", aggregations.names())
@pytest.mark.parametrize("count", [1, 2, 4])
def test_aggregation_fuses_calibrates_and_saves(name, count):
    names = [f"m{index}" for index in range(count)]
    part = aggregations.get(name)(aggregations.build_config(name), modalities=names)
    generator = torch.Generator().manual_seed(0)
    normals = {key: torch.rand(5, 8, 8, generator=generator) for key in names}
    part.calibrate(normals)
    fused = part(normals)
    assert fused.shape == (5, 8, 8)
    assert fused.dtype == torch.float32
    assert bool(torch.isfinite(fused).all())
    anomalous = {key: maps.clone() for key, maps in normals.items()}
    for maps in anomalous.values():
        maps[0, 2, 3] += 5
    assert part(anomalous)[0, 2, 3] > fused[0, 2, 3]
    constant = {key: torch.zeros(2, 8, 8) for key in names}
    part.calibrate(constant)
    assert bool(torch.isfinite(part(constant)).all())
    part.calibrate(normals)
    restored = aggregations.get(name)(aggregations.build_config(name), modalities=names)
    restored.load_state_dict(part.state_dict())
    torch.testing.assert_close(restored(normals), fused, rtol=0, atol=0)


@pytest.mark.parametrize("name", modalities.names())
@pytest.mark.parametrize("size", [32, 50])
def test_modality_gives_an_image_in_unit_range(name, size):
    view = modalities.get(name)(modalities.build_config(name))
    image = view(example_sensors(view.sensors), image_size=size)
    assert image.dtype == torch.float32
    assert image.shape[0] in (1, 3)
    assert image.shape[1:] == (size, size)
    assert 0 <= image.min() <= image.max() <= 1
