"""Regions of a mask: compared with a flood fill, sorted, with their peaks and the modality that is most surprised."""

from __future__ import annotations

import numpy as np
import pytest

from crdkit.scoring import regions
from crdkit.scoring.regions import find_regions


def flood(mask):
    """Yield each 8-connected region as a mask of its own."""
    left = {(int(row), int(column)) for row, column in zip(*np.nonzero(mask), strict=True)}
    while left:
        inside, edge = np.zeros_like(mask), [left.pop()]
        while edge:
            row, column = edge.pop()
            inside[row, column] = True
            around = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= around
            edge += around
        yield inside


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_as_a_flood_fill_finds_them(seed, share):
    rng = np.random.default_rng(seed)
    mask = rng.random((23, 31)) < share
    fused = rng.normal(size=mask.shape).astype(np.float32)
    surprise = {name: rng.random(mask.shape) for name in ("rgb", "depth", "infrared")}
    expected = {}
    for inside in flood(mask):
        rows, columns = np.nonzero(inside)
        box = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        peak = np.unravel_index(np.where(inside, fused, -np.inf).argmax(), mask.shape)
        means = {name: values[inside].mean() for name, values in surprise.items()}
        expected[box, len(rows)] = (peak, fused[peak], max(means, key=means.get), inside)
    found = find_regions(mask, fused, surprise)
    assert len(found) == len(expected)
    assert [region.score for region in found] == sorted((region.score for region in found), reverse=True)
    for region in found:
        peak, score, modality, inside = expected[region.box, region.area]
        assert (region.peak, region.score, region.modality) == (peak, score, modality)
        np.testing.assert_array_equal(region.inside(mask), inside)


def test_of_an_empty_mask_nothing_is_labelled(monkeypatch):
    monkeypatch.setattr("scipy.ndimage.label", None)
    assert find_regions(np.zeros((5, 6), bool), np.zeros((5, 6)), {}) == []


def test_a_region_may_be_everything_or_one_corner():
    fused = np.arange(12.0).reshape(3, 4)
    (whole,) = find_regions(np.ones((3, 4), bool), fused, {"rgb": fused})
    assert (whole.box, whole.area, whole.peak, whole.score) == ((0, 0, 3, 4), 12, (2, 3), 11.0)
    (corner,) = find_regions(fused == 3, fused, {"rgb": fused})
    assert (corner.box, corner.area, corner.peak) == ((0, 3, 1, 4), 1, (0, 3))


def test_of_equal_peaks_the_first_in_reading_order():
    mask = np.ones((3, 3), bool)
    (region,) = find_regions(mask, np.ones((3, 3)), {"depth": mask, "rgb": mask})
    assert (region.peak, region.modality) == ((0, 0), "depth")


def test_a_region_within_the_box_of_another_stays_apart():
    ring = np.ones((7, 7), bool)
    ring[1:6, 1:6] = False
    ring[3, 3] = True
    fused = np.zeros((7, 7))
    fused[3, 3] = 1
    inner, outer = find_regions(ring, fused, {"rgb": fused})
    assert (inner.area, outer.area) == (1, 24)
    assert not (inner.inside(ring) & outer.inside(ring)).any()
    assert isinstance(outer, regions.Region)
