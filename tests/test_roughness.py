"""Roughness of surfaces whose roughness is known, at outlines and holes, and as a view."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from surfaces import grid, scan, within

from crdkit.errors import DataError
from crdkit.testing import example_sensors
from crdkit.views.roughness import Roughness, texture

EVERYWHERE = np.ones((120, 120), bool)


def view(sensors: dict[str, np.ndarray], image_size: int = 60, **options: object) -> np.ndarray:
    """Return a view with ``options`` as (3, S, S)."""
    return Roughness(Roughness.Config.model_validate(options)).array(sensors, image_size=image_size)


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (0.5, -0.3), (1.0, 1.0)])
def test_noise_along_the_normal_has_its_standard_deviation_whatever_the_slope(a: float, b: float) -> None:
    x, y = grid()
    xyz = scan(x, y, 0.5 + a * x + b * y, noise=1e-4 * np.sqrt(1 + a * a + b * b))
    height, arithmetic, quadratic, found = texture(xyz, EVERYWHERE, scale=0.002)
    assert found.all()
    middle = within(EVERYWHERE, 15)
    assert np.sqrt((height[middle] ** 2).mean()) == pytest.approx(1e-4, rel=0.03)
    assert quadratic[middle].mean() == pytest.approx(1e-4, rel=0.03)
    assert arithmetic[middle].mean() == pytest.approx(1e-4 * np.sqrt(2 / np.pi), rel=0.03)


def test_a_fine_wave_has_the_roughness_of_a_sine() -> None:
    x, y = grid(pitch=0.0002)
    xyz = scan(x, y, 0.5 + 5e-5 * np.sin(2 * np.pi * x / 0.0017))
    _, arithmetic, quadratic, _ = texture(xyz, EVERYWHERE, scale=0.002)
    np.testing.assert_allclose(quadratic[60, 60], 5e-5 / np.sqrt(2), rtol=0.03)
    np.testing.assert_allclose(arithmetic[60, 60], 5e-5 * 2 / np.pi, rtol=0.03)


def test_a_long_wave_is_form() -> None:
    x, y = grid()
    _, _, quadratic, _ = texture(scan(x, y, 0.5 + 5e-5 * np.sin(2 * np.pi * x / 0.04)), EVERYWHERE, scale=0.001)
    assert quadratic[60, 60] < 2e-6


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    direction=st.floats(0, 2 * np.pi),
    steepness=st.floats(0, 2),
    holes=st.floats(0, 0.6),
    cut=st.integers(0, 30),
    scale=st.floats(0.0005, 0.004),
)
def test_planes_are_smooth_up_to_their_outline_and_around_holes(
    direction: float, steepness: float, holes: float, cut: int, scale: float
) -> None:
    x, y = grid(40, 50)
    xyz = scan(x, y, 0.6 + steepness * (np.cos(direction) * x + np.sin(direction) * y))
    xyz[np.random.default_rng(0).random(x.shape) < holes] = 0
    inside = np.add(*np.indices(x.shape)) >= cut
    height, _, quadratic, found = texture(xyz, inside, scale=scale)
    assert not found[~inside].any()
    assert np.abs(height).max() < 1e-9
    assert quadratic.max() < 1e-9


@pytest.mark.parametrize("away", [1, -1])
def test_a_spike_towards_the_camera_is_high_and_a_scratch_is_low(away: int) -> None:
    x, y = grid()
    z = np.full(x.shape, 0.5)
    z[60, 60] -= 3e-4
    z[30, :] += 2e-4
    height, arithmetic, quadratic, _ = texture(scan(x, y, z) * (1, away, away), EVERYWHERE, scale=0.001)
    assert 2.5e-4 < height[60, 60] < 3e-4
    assert -2e-4 < height[30, 60] < -1.2e-4
    assert quadratic[60, 60] > 2 * arithmetic[60, 60]  # one point in many
    assert quadratic[90, 60] < 1e-9


def test_a_curved_surface_is_above_its_planes_by_curvature_times_scale_squared() -> None:
    x, y = grid()
    height, *_ = texture(scan(x, y, 0.5 + 20 * (x**2 + y**2) / 2), EVERYWHERE, scale=0.002)
    np.testing.assert_allclose(height[60, 60], 20 * 0.002**2, rtol=0.15)  # the window ends at 2.5 deviations


def test_turning_a_part_turns_its_roughness_and_another_unit_scales_it() -> None:
    x, y = grid()
    xyz = scan(x, y, 0.5 + 3 * x**2 + 0.2 * y, noise=1e-4)
    inside = np.random.default_rng(0).random(x.shape) > 0.2
    expected = texture(xyz, inside, scale=0.001)
    turned = texture(np.rot90(xyz).copy(), np.rot90(inside).copy(), scale=0.001)
    tenfold = texture(10 * xyz, inside, scale=0.01)
    for field, other, larger in zip(expected[:3], turned[:3], tenfold[:3], strict=True):
        np.testing.assert_allclose(other, np.rot90(field), atol=1e-10)
        np.testing.assert_allclose(larger, 10 * field, atol=1e-10)


def test_nothing_measured_has_no_roughness() -> None:
    assert not any(field.any() for field in texture(np.zeros((20, 20, 3)), EVERYWHERE[:20, :20], scale=0.001))


# --- the view


def test_channels_are_height_sa_and_sq_in_a_fixed_range() -> None:
    x, y = grid()
    xyz = scan(x, y, 0.5 + 0.2 * x, noise=1e-4)
    image = view({"xyz": xyz}, image_size=120, plane="none", scale=0.002, largest=4e-4)
    middle = image[:, 20:100, 20:100]
    np.testing.assert_allclose(middle.mean(axis=(1, 2)), [0.5, 0.25 * np.sqrt(2 / np.pi), 0.25], atol=0.01)
    assert middle[0].std() == pytest.approx(0.125, rel=0.1)


def test_a_hole_has_no_height_and_its_neighbours_roughness() -> None:
    x, y = grid()
    xyz = scan(x, y, np.full(x.shape, 0.5), noise=1e-4)
    xyz[50:53, 50:53] = np.nan
    xyz[80:110, 80:110] = 0
    image = view({"xyz": xyz}, image_size=120, plane="none", closing=2)
    np.testing.assert_array_equal(image[0, 50:53, 50:53], 0.5)
    assert image[2, 51, 51] > 0.1
    assert not image[:, 90:100, 90:100].any()


def test_the_background_is_zero_and_a_crack_is_rough() -> None:
    sensors = example_sensors(["xyz"], size=(128, 128), kind="biscuit", defect="crack")
    intact = example_sensors(["xyz"], size=(128, 128), kind="biscuit", keyed_by="crack")
    cracked, whole = view(sensors, 128), view(intact, 128)
    assert 0.3 < (whole == 0).all(axis=0).mean() < 0.8
    assert np.percentile(cracked[2], 99) > 1.5 * np.percentile(whole[2], 99)


@pytest.mark.parametrize(
    ("xyz", "message"),
    [
        (np.zeros((9, 9)), r"sensor 'xyz': expected float \(H, W, 3\), found float64 \(9, 9\)"),
        (np.full((9, 9, 3), np.nan), "sensor 'xyz': no pixel holds a measurement"),
    ],
)
def test_other_scans_are_refused(xyz: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        view({"xyz": xyz})
