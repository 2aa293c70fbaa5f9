"""Anomaly maps, their smoothing and the scorer against NumPy and SciPy, in 64-bit floats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from crdkit.scoring.aggregations import aggregations
from crdkit.scoring.maps import GaussianSmoothing, anomaly_map, anomaly_score
from crdkit.scoring.scorer import Scorer
from crdkit.scoring.scores import scores

LEVELS = ((3, 8), (5, 4), (2, 1))  # channels and size


def random_levels(seed, batch=2, levels=LEVELS):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, channels, size, size, generator=generator) for channels, size in levels]


def upsampled(values, size):
    """Stretch (n, n) bilinearly so that the corners stay in place: each axis by `numpy.interp`."""
    for _ in range(2):  # rows, then columns
        old, new = np.arange(len(values)), np.linspace(0, len(values) - 1, size)
        values = np.stack([np.interp(new, old, column) for column in values.T])
    return values


def expected_map(teacher, student, size):
    total = 0.0
    pairs = ([level.double().numpy() for level in levels] for levels in (teacher, student))
    for t, s in zip(*pairs, strict=True):
        cosine = (t * s).sum(1) / np.sqrt((t**2).sum(1) * (s**2).sum(1))
        total = total + np.stack([upsampled(1 - image, size) for image in cosine])
    return total


@pytest.mark.parametrize("size", [8, 11, 32])
def test_maps_are_the_sum_of_upsampled_distances(size):
    teacher, student = random_levels(0), random_levels(1)
    found = anomaly_map(teacher, student, size=size)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected_map(teacher, student, size), atol=1e-5)


def test_maps_of_half_precision_features_are_computed_in_32_bits():
    teacher, student = ([level.bfloat16() for level in random_levels(seed)] for seed in (0, 1))
    found = anomaly_map(teacher, student, size=16)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected_map(teacher, student, 16), atol=1e-5)


def test_a_map_needs_levels_and_as_many_of_the_student():
    with pytest.raises(ValueError, match=r"^an anomaly map needs at least one level$"):
        anomaly_map([], [], size=8)
    with pytest.raises(ValueError, match="zip"):
        anomaly_map(random_levels(0), random_levels(1)[:2], size=8)


@pytest.mark.parametrize("sigma", [0, 0.3, 1, 2.5, 4, 12])  # 12: the radius is longer than the map
@pytest.mark.parametrize("size", [20, 33])
def test_smoothing_is_that_of_scipy(sigma, size):
    maps = torch.rand(3, size, size, generator=torch.Generator().manual_seed(0))
    maps[0] = 0
    maps[0, 0, 3] = 1  # at the border, where the filter is mirrored
    found = GaussianSmoothing(sigma, size=size)(maps)
    expected = ndimage.gaussian_filter(maps.double().numpy(), (0, sigma, sigma), truncate=4, mode="reflect")
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    if sigma == 0:
        torch.testing.assert_close(found, maps, rtol=0, atol=0)


def test_smoothing_is_rebuilt_and_not_saved():
    assert GaussianSmoothing(2.0, size=16).state_dict() == {}


def test_the_score_is_the_maximum_of_each_map():
    maps = torch.tensor([[[1.0, 5.0], [2.0, 3.0]], [[-4.0, -1.0], [-2.0, -3.0]]])
    assert anomaly_score(maps).tolist() == [5.0, -1.0]


# --- the scorer


def build_scorer(names=("rgb", "depth"), *, sigma=1.5, size=16):
    part = aggregations.get("normalised_sum")(aggregations.build_config("normalised_sum"), modalities=names)
    return Scorer(part, scores.build(scores.build_config("maximum"), sigma=sigma, size=size))


def random_maps(seed, names=("rgb", "depth"), batch=3):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(batch, 16, 16, generator=generator) * (1 + rank) for rank, name in enumerate(names)}


def gaussian(maps):
    return ndimage.gaussian_filter(np.asarray(maps, dtype=float), (0, 1.5, 1.5))


def test_raw_maps_compare_each_teacher_with_its_own_student():
    teacher, output = ({"rgb": random_levels(seed), "depth": random_levels(seed + 1)} for seed in (0, 5))
    asked = []

    def each_branch(function, names):
        asked.append(list(names))
        return [function(name) for name in asked[-1]]

    raw = build_scorer().raw_maps(teacher, output, each_branch=each_branch)
    assert asked == [["rgb", "depth"]]
    assert list(raw) == ["rgb", "depth"]
    for name, found in raw.items():
        np.testing.assert_allclose(found.numpy(), expected_map(teacher[name], output[name], 16), atol=1e-5)
    torch.testing.assert_close(build_scorer().raw_maps(teacher, output), raw, rtol=0, atol=0)


def test_maps_are_fused_unsmoothed_and_smoothed_once():
    scorer, normals, raw = build_scorer(), random_maps(0), random_maps(1)
    scorer.aggregation.calibrate(normals)
    maps = scorer(raw)
    fused = sum((raw[name].numpy() - normals[name].numpy().mean()) / normals[name].numpy().std() for name in raw)
    np.testing.assert_allclose(maps.anomaly_map.numpy(), gaussian(fused), atol=1e-5)
    np.testing.assert_allclose(maps.pred_score.numpy(), gaussian(fused).max((1, 2)), atol=1e-5)
    assert maps.present is None
    assert list(maps.branches) == ["rgb", "depth"]
    for name, found in maps.branches.items():  # smoothed, in the units of 1 - cosine
        np.testing.assert_allclose(found.numpy(), gaussian(raw[name]), atol=1e-5)


def test_a_missing_modality_has_a_map_of_zeros_and_no_share_in_the_score():
    scorer, normals, raw = build_scorer(), random_maps(0), random_maps(1)
    scorer.aggregation.calibrate(normals)
    present = {"rgb": torch.tensor([True, True, False]), "depth": torch.tensor([True, False, True])}
    asked = []

    def each_branch(function, names):
        asked.append(list(names))
        return [function(name) for name in asked[-1]]

    maps = scorer(raw, present, each_branch=each_branch)
    assert asked == [["rgb", "depth"]]
    assert maps.present is present
    z = {name: (raw[name].numpy() - normals[name].numpy().mean()) / normals[name].numpy().std() for name in raw}
    expected = [z["rgb"][0] + z["depth"][0], 2 * z["rgb"][1], 2 * z["depth"][2]]  # a sum is scaled by its share
    np.testing.assert_allclose(maps.anomaly_map.numpy(), gaussian(expected), atol=1e-4)
    np.testing.assert_allclose(maps.pred_score.numpy(), gaussian(expected).max((1, 2)), atol=1e-4)
    for name, has in present.items():
        expected = np.where(has[:, None, None], gaussian(raw[name]), 0)
        np.testing.assert_allclose(maps.branches[name].numpy(), expected, atol=1e-5)


def test_the_scorer_is_where_its_aggregation_is():
    assert build_scorer().device == torch.device("cpu")
    assert build_scorer().to("meta").device == torch.device("meta")
