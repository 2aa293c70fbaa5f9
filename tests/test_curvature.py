"""Curvature of surfaces whose curvature is known, at outlines and holes, and as a view."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from surfaces import grid, scan, within

from crdkit.errors import DataError
from crdkit.testing import example_sensors
from crdkit.views.curvature import Curvature, curvatures

RADIUS = 0.03
EVERYWHERE = np.ones((120, 120), bool)


def view(sensors: dict[str, np.ndarray], image_size: int = 60, **options: object) -> np.ndarray:
    """Return a view with ``options`` as (3, S, S)."""
    return Curvature(Curvature.Config.model_validate(options)).array(sensors, image_size=image_size)


def ball(reach: float = 0.7, *, hollow: bool = False, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return a cap of a sphere up to a share of its radius, (160, 160, 3), and its mask."""
    x, y = grid(160, 160)
    r2 = x**2 + y**2
    rise = np.sqrt(np.maximum(RADIUS**2 - r2, 0))
    inside = r2 < (reach * RADIUS) ** 2
    xyz = scan(x, y, 0.5 + (rise if hollow else -rise), noise=noise)
    return np.where(inside[..., None], xyz, 0), inside


@pytest.mark.parametrize(("noise", "error"), [(0.0, 0.015), (0.00005, 0.03)])
@pytest.mark.parametrize("hollow", [False, True])
def test_a_sphere_is_as_curved_everywhere_as_its_radius_says(hollow: bool, noise: float, error: float) -> None:
    xyz, inside = ball(0.5, hollow=hollow, noise=noise)
    mean, gaussian, found = curvatures(xyz, inside, scale=0.002)
    assert np.array_equal(found, inside)
    middle = np.hypot(*grid(160, 160)) < 0.3 * RADIUS
    np.testing.assert_allclose(mean[middle] * RADIUS, -1 if hollow else 1, atol=3 * error)
    np.testing.assert_allclose(mean[middle].mean() * RADIUS, -1 if hollow else 1, atol=0.015)
    np.testing.assert_allclose(gaussian[middle].mean() * RADIUS**2, 1, atol=0.03)


@pytest.mark.parametrize("away", [1, -1])
@pytest.mark.parametrize(("along_x", "along_y"), [(30.0, 10.0), (-20.0, -20.0), (25.0, -25.0), (40.0, 0.0), (0.0, 0.0)])
def test_quadrics_have_their_principal_curvatures(along_x: float, along_y: float, away: int) -> None:
    x, y = grid()
    z = 0.5 + (along_x * x**2 + along_y * y**2) / 2  # falls away from the camera: a bump
    mean, gaussian, found = curvatures(scan(x, y, z) * (1, away, away), EVERYWHERE, scale=0.002)
    assert found.all()
    middle = np.s_[55:65, 55:65]
    np.testing.assert_allclose(mean[middle], (along_x + along_y) / 2, atol=0.3)
    np.testing.assert_allclose(gaussian[middle], along_x * along_y, atol=0.02 * 30**2)


def test_a_cylinder_bends_one_way_only() -> None:
    x, y = grid()
    inside = np.abs(x) < 0.7 * RADIUS
    mean, gaussian, _ = curvatures(scan(x, y, 0.5 - np.sqrt(RADIUS**2 - np.minimum(x**2, 1e-4))), inside, scale=0.001)
    middle = np.abs(x) < 0.005
    np.testing.assert_allclose(mean[middle] * RADIUS, 0.5, atol=0.01)
    assert np.abs(gaussian).max() * RADIUS**2 < 1e-6


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    direction=st.floats(0, 2 * np.pi),
    steepness=st.floats(0, 2),
    holes=st.floats(0, 0.6),
    cut=st.integers(0, 30),
    scale=st.floats(0.0005, 0.004),
)
def test_planes_are_flat_up_to_their_outline_and_around_holes(
    direction: float, steepness: float, holes: float, cut: int, scale: float
) -> None:
    x, y = grid(40, 50)
    xyz = scan(x, y, 0.6 + steepness * (np.cos(direction) * x + np.sin(direction) * y))
    xyz[np.random.default_rng(0).random(x.shape) < holes] = 0
    inside = np.add(*np.indices(x.shape)) >= cut  # a slanted outline
    mean, gaussian, found = curvatures(xyz, inside, scale=scale)
    assert not found[~inside].any()
    assert np.abs(mean).max() < 1e-5
    assert np.abs(gaussian).max() < 1e-5


def test_curvature_near_an_outline_is_too_low_never_too_high() -> None:
    xyz, inside = ball()
    mean, _, _ = curvatures(xyz, inside, scale=0.002)
    assert 0.85 < mean[inside].min() * RADIUS < mean[inside].max() * RADIUS < 1.02
    xyz[~inside] = (0, 0, 0.55)  # the table, 3 cm below
    np.testing.assert_array_equal(curvatures(xyz, inside, scale=0.002).mean, mean)


def test_holes_are_bridged_and_large_ones_are_not_found() -> None:
    xyz, inside = ball(0.6)
    xyz[np.random.default_rng(1).random(inside.shape) < 0.3] = 0
    xyz[60:100, 60:100] = 0
    mean, _, found = curvatures(xyz, inside, scale=0.001)
    assert not found[75:85, 75:85].any()
    x, y = grid(160, 160)
    rim = within(found, 40) & (np.hypot(x, y) < 0.4 * RADIUS) & (np.maximum(np.abs(x), np.abs(y)) > 26 * 0.0004)
    np.testing.assert_allclose(mean[rim] * RADIUS, 1, atol=0.15)


def test_turning_a_part_turns_its_curvature_and_another_unit_scales_it() -> None:
    x, y = grid()
    xyz = scan(x, y, 0.5 + 3 * x**2 + 40 * x * y + 0.2 * y)
    inside = np.random.default_rng(0).random(x.shape) > 0.2
    mean, gaussian, _ = curvatures(xyz, inside, scale=0.001)
    turned = curvatures(np.rot90(xyz).copy(), np.rot90(inside).copy(), scale=0.001)
    np.testing.assert_allclose(turned.mean, np.rot90(mean), atol=1e-5)
    np.testing.assert_allclose(turned.gaussian, np.rot90(gaussian), atol=1e-3)
    tenfold = curvatures(10 * xyz, inside, scale=0.01)
    np.testing.assert_allclose(10 * tenfold.mean, mean, atol=1e-5)
    np.testing.assert_allclose(100 * tenfold.gaussian, gaussian, atol=1e-3)


def test_tilting_a_part_hardly_changes_its_curvature() -> None:
    xyz, inside = ball(0.4)
    points = xyz[inside] - (0, 0, 0.5)
    tilt = np.radians(20)
    turn = np.array([[np.cos(tilt), 0, -np.sin(tilt)], [0, 1, 0], [np.sin(tilt), 0, np.cos(tilt)]])
    xyz[inside] = points @ turn.T + (0, 0, 0.5)
    middle = np.hypot(*grid(160, 160)) < 0.25 * RADIUS
    np.testing.assert_allclose(curvatures(xyz, inside, scale=0.001).mean[middle] * RADIUS, 1, atol=0.02)


def test_nothing_measured_has_no_curvature() -> None:
    for xyz, inside in (
        (np.zeros((20, 20, 3)), EVERYWHERE[:20, :20]),
        (np.ones((20, 20, 3)), np.zeros((20, 20), bool)),
    ):
        assert not any(field.any() for field in curvatures(xyz, inside, scale=0.001))


# --- the view


def test_channels_are_mean_gaussian_and_curvedness_in_a_fixed_range() -> None:
    xyz, _ = ball(0.5)
    image = view({"xyz": xyz}, image_size=80, plane="none", closing=0, largest=50)
    bend = 1 / RADIUS / 50
    np.testing.assert_allclose(image[:, 40, 40], [0.5 + bend / 2, 0.5 + bend / 2, bend], atol=0.01)
    assert not image[:, 0, 0].any()
    x, y = grid()
    saddle = view({"xyz": scan(x, y, 0.5 + 20 * x**2 - 20 * y**2)}, plane="none", largest=100)
    np.testing.assert_allclose(saddle[:, 30, 30], [0.5, 0.5 - 0.2, 0.4], atol=0.01)


def test_beyond_the_range_it_is_clipped() -> None:
    xyz, _ = ball(0.5)
    image = view({"xyz": xyz}, image_size=80, plane="none", largest=10)
    np.testing.assert_array_equal(image[:, 40, 40], 1)


def test_the_scale_may_be_in_pixels() -> None:
    sensors = example_sensors(["xyz"], size=(96, 128), kind="capsule")
    pitch = 0.13 / 96 * 0.96  # of the camera, at the height of the part
    metres, pixels = view(sensors, scale=2 * pitch), view(sensors, scale=2, unit="pixels")
    assert np.abs(metres - pixels)[:, pixels.any(axis=0)].mean() < 0.01


def test_the_background_is_zero_and_a_dent_is_hollow() -> None:
    sensors = example_sensors(["xyz"], size=(128, 128), kind="capsule", defect="dent")
    intact = example_sensors(["xyz"], size=(128, 128), kind="capsule", keyed_by="dent")
    dented, whole = view(sensors, 128), view(intact, 128)
    assert 0.3 < (whole == 0).all(axis=0).mean() < 0.8
    lowest = np.unravel_index(np.argmin(np.where(dented[0] > 0, dented[0] - whole[0], 0)), (128, 128))
    assert dented[0][lowest] < 0.45
    assert whole[0][lowest] > 0.5


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
