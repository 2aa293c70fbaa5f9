"""Image scores: against plain NumPy, what they do to maps that are high everywhere, and in a detector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crdkit.config import RunConfig
from crdkit.config.build import build_scorer
from crdkit.errors import ConfigError
from crdkit.scoring.levels import mean_level, top_mean
from crdkit.scoring.scores import FusedMaps, ImageScore, scores
from crdkit.views.foreground import is_foreground, join_foregrounds

SIZE = 12


def build(name: str, **options: object) -> ImageScore:
    return scores.build(scores.build_config({"name": name, **options}), sigma=1.0, size=SIZE)


def random_maps(seed: int, count: int = 5) -> FusedMaps:
    generator = torch.Generator().manual_seed(seed)
    raw = torch.rand(count, SIZE, SIZE, generator=generator)
    inside = torch.rand(count, SIZE, SIZE, generator=generator) < 0.4
    inside[:, 5, 5] = True
    return FusedMaps(raw=raw, smoothed=raw * 0.9, foreground=inside)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.001, 1))
def test_the_top_mean_is_that_of_sorted_pixels(seed: int, share: float) -> None:
    maps = random_maps(seed)
    assert maps.foreground is not None
    for inside in (None, maps.foreground):
        found = top_mean(maps.smoothed, inside, share=share)
        for row, values in enumerate(maps.smoothed.numpy()):
            pixels = np.sort(values[inside[row].numpy()] if inside is not None else values.ravel())[::-1]
            count = max(round(np.float32(share) * np.float32(len(pixels))), 1)
            assert found[row].item() == pytest.approx(pixels[:count].mean(), rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_the_relative_maximum_is_its_formula(seed: int, power: float) -> None:
    normals, maps = random_maps(seed), random_maps(seed + 1)
    assert maps.foreground is not None
    assert normals.foreground is not None
    part = build("relative_maximum", power=power)
    part.calibrate(normals)
    means = [values[inside].mean() for values, inside in zip(normals.raw, normals.foreground, strict=True)]
    level = float(torch.stack(means).mean())
    for row, (raw, smoothed, inside) in enumerate(zip(maps.raw, maps.smoothed, maps.foreground, strict=True)):
        expected = smoothed.max() / (raw[inside].mean() / level) ** power
        assert part(maps)[row].item() == pytest.approx(expected.item(), rel=1e-4)


def test_negative_maps_are_counted_from_their_smallest_normal_value() -> None:
    normals = random_maps(0)
    shifted = FusedMaps(raw=normals.raw - 3, smoothed=normals.smoothed - 3)
    part = build("relative_maximum", over="all")
    part.calibrate(shifted)
    expected = (shifted.smoothed.amax((1, 2)) - shifted.raw.min()) / torch.sqrt(
        (shifted.raw - shifted.raw.min()).mean((1, 2)) / (shifted.raw - shifted.raw.min()).mean()
    )
    torch.testing.assert_close(part(shifted), expected)


def test_a_map_that_is_high_everywhere_stands_out_less_relative_to_its_mean() -> None:
    normals = random_maps(0)
    high = FusedMaps(raw=normals.raw * 4, smoothed=normals.smoothed * 4, foreground=normals.foreground)
    for name, factor in (("maximum", 4.0), ("relative_maximum", 2.0), ("top_mean", 4.0)):
        part = build(name)
        part.calibrate(normals)
        torch.testing.assert_close(part(high), factor * part(normals))


def test_all_pixels_count_where_the_object_is_not_known() -> None:
    maps = random_maps(3)
    unknown = FusedMaps(raw=maps.raw, smoothed=maps.smoothed)
    everywhere = FusedMaps(raw=maps.raw, smoothed=maps.smoothed, foreground=torch.ones_like(maps.raw, dtype=torch.bool))
    for name in ("relative_maximum", "top_mean"):
        part = build(name, over="object")
        torch.testing.assert_close(part(unknown), part(everywhere))


def test_the_mean_over_a_foreground_ignores_the_background() -> None:
    maps = random_maps(4)
    assert maps.foreground is not None
    other = torch.where(maps.foreground, maps.raw, 99.0)
    floor = torch.tensor(0.0)
    torch.testing.assert_close(
        mean_level(other, maps.foreground, floor=floor), mean_level(maps.raw, maps.foreground, floor=floor)
    )


def test_a_sample_without_any_measured_object_is_all_foreground() -> None:
    depth = torch.zeros(2, 1, 4, 4)
    depth[0, 0, 1, 1] = 0.5
    normals = torch.zeros(2, 3, 4, 4)
    normals[0, 2, 2, 2] = 0.5
    inside = join_foregrounds([is_foreground(depth), is_foreground(normals)])
    assert inside is not None
    assert inside[0].nonzero().tolist() == [[1, 1], [2, 2]]
    assert bool(inside[1].all())


def test_the_configuration_names_the_score_and_its_options() -> None:
    run = RunConfig.preset("quick").with_overrides("scoring.score=top_mean")
    assert run.scoring.score.name == "top_mean"
    run = RunConfig.preset("quick").with_overrides("scoring.score.name=top_mean", "scoring.score.share=0.2")
    assert build_scorer(run).score.config == scores.build_config({"name": "top_mean", "share": 0.2})
    assert RunConfig.from_dict(run.model_dump(mode="json")) == run
    assert RunConfig.preset("crd-mvtec3d").scoring.score.name == "maximum"
    with pytest.raises(ConfigError, match="unknown score 'top_meen' - did you mean 'top_mean'"):
        RunConfig.preset("quick").with_overrides("scoring.score=top_meen")
    with pytest.raises(ConfigError, match=r"share.*greater than 0"):
        RunConfig.preset("quick").with_overrides("scoring.score={name: top_mean, share: 0}")
