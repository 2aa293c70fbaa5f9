"""Degree and angle of polarisation of light whose Stokes parameters are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdkit.data.synthetic import POLARISERS, make_scene, render_normals, sample_key, scanner_camera
from crdkit.data.synthetic.polarised import diffuse_degree
from crdkit.errors import ConfigError, DataError
from crdkit.testing import example_sensors
from crdkit.views import views
from crdkit.views.polarisation import Polarisation

ANGLES = (0.0, 45.0, 90.0, 135.0)


def light(
    total: object, degree: object, angle: object, *, angles: tuple[float, ...] = ANGLES, shape: tuple[int, int] = (8, 8)
) -> np.ndarray:
    """Return intensities (H, W, angles) behind polarisers of light that is polarised at ``angle`` degrees."""
    total, degree, angle = (
        np.broadcast_to(np.asarray(value, float), shape)[..., None] for value in (total, degree, angle)
    )
    return total / 2 * (1 + degree * np.cos(2 * np.radians(np.array(angles) - angle)))


def view(stack: np.ndarray, image_size: int = 8, **options: object) -> np.ndarray:
    """Return the view of a stack as (3, S, S)."""
    config = Polarisation.Config.model_validate({"sensors": ("stack",), **options})
    return Polarisation(config).array({"stack": stack}, image_size=image_size)


def expected(degree: float, angle: float) -> list[float]:
    """Return the channels of such light."""
    turned = 2 * np.radians(angle)
    return [degree, (1 + degree * np.cos(turned)) / 2, (1 + degree * np.sin(turned)) / 2]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    total=st.floats(0.01, 1e4),
    degree=st.floats(0, 1),
    angle=st.floats(-180, 180),
    angles=st.sampled_from([ANGLES, (0.0, 60.0, 120.0), (10.0, 50.0, 95.0, 140.0, 170.0)]),
)
def test_degree_and_angle_are_those_of_the_light_whatever_its_intensity(
    total: float, degree: float, angle: float, angles: tuple[float, ...]
) -> None:
    image = view(light(total, degree, angle, angles=angles), angles=angles)
    np.testing.assert_allclose(image[:, 4, 4], expected(degree, angle), atol=1e-4)


@pytest.mark.parametrize(
    ("angle", "channels"),
    [(0, [1, 1, 0.5]), (45, [1, 0.5, 1]), (90, [1, 0, 0.5]), (135, [1, 0.5, 0]), (180, [1, 1, 0.5])],
)
def test_the_angle_is_periodic(angle: float, channels: list[float]) -> None:
    np.testing.assert_allclose(view(light(1, 1, angle))[:, 0, 0], channels, atol=1e-6)


def test_four_sensors_and_their_stack_are_the_same_in_any_unit() -> None:
    stack = light(np.linspace(10_000, 40_000, 64).reshape(8, 8), 0.4, np.linspace(0, 170, 64).reshape(8, 8))
    counts = np.rint(stack).astype(np.uint16)
    sensors = {name: counts[..., place] for place, name in enumerate(POLARISERS)}
    four = Polarisation(Polarisation.Config()).array(sensors, image_size=8)
    np.testing.assert_array_equal(four, view(counts))
    with_axis = {name: array[..., None] for name, array in sensors.items()}
    np.testing.assert_array_equal(Polarisation(Polarisation.Config()).array(with_axis, image_size=8), four)
    np.testing.assert_allclose(view(counts / 65535), four, atol=1e-6)


def test_the_black_level_is_subtracted_and_the_range_can_be_narrowed() -> None:
    stack = light(1, 0.2, 30)
    np.testing.assert_allclose(view(stack + 0.25, black=0.25), view(stack), atol=1e-6)
    assert view(stack + 0.25)[0].max() < 0.15
    np.testing.assert_allclose(view(stack, largest=0.4)[:, 0, 0], expected(0.5, 30), atol=1e-6)
    np.testing.assert_array_equal(view(light(1, 0.5, 0), largest=0.4)[:, 0, 0], [1, 1, 0.5])


def test_faint_light_fades_to_unpolarised() -> None:
    stack = light([[10.0, 100.0]], 0.8, 0, shape=(1, 2))
    degrees = view(stack, image_size=2, faint=20)[0, 0]
    np.testing.assert_allclose(degrees, [0.4, 0.8], atol=1e-6)
    counts = np.rint(light(4, 0.8, 0)).astype(np.uint8)
    assert view(counts)[0].max() < view(counts, faint=0)[0].max()  # 2 % of 255 is 5.1


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_pixels_without_light_are_unpolarised_and_do_not_count_when_resizing(value: float) -> None:
    stack = light(1, 0.6, 20)
    assert view(np.full_like(stack, value)).reshape(3, -1).T.tolist() == [[0, 0.5, 0.5]] * 64
    stack[:, ::2, 0 if np.isnan(value) else slice(None)] = value
    image = view(stack, image_size=4)
    np.testing.assert_allclose(image, np.broadcast_to(np.array(expected(0.6, 20))[:, None, None], (3, 4, 4)), atol=1e-6)
    np.testing.assert_array_equal(view(stack)[:, 3, 0], [0, 0.5, 0.5])


def test_light_that_is_polarised_both_ways_is_unpolarised_when_it_is_averaged() -> None:
    stack = light(1, 1, np.where(np.arange(8) % 2, 90, 0))
    np.testing.assert_allclose(view(stack, image_size=1)[:, 0, 0], [0, 0.5, 0.5], atol=1e-6)


def test_noise_that_no_light_explains_stays_in_range() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 4)).astype(np.uint8)
    image = view(noise, image_size=32, faint=0)
    assert 0 <= image.min() < image.max() == 1


def test_synthetic_parts_are_polarised_along_their_slope() -> None:
    scene = make_scene("capsule", camera=scanner_camera(96), key=sample_key(0, "capsule", "test", "None", 0))
    image = Polarisation(Polarisation.Config()).array(
        example_sensors(tuple(POLARISERS), size=(96, 96), kind="capsule"), image_size=96
    )
    right, up, front = np.moveaxis(render_normals(scene), 2, 0)
    steep = scene.covered & (front > 0.3) & (front < 0.6)
    assert steep.sum() > 20
    np.testing.assert_allclose(np.median(image[0][steep] - diffuse_degree(front)[steep]), 0, atol=0.02)
    flat = right**2 + up**2
    along = image[1][steep] * 2 - 1, image[2][steep] * 2 - 1
    agreement = (
        (along[0] * (right**2 - up**2)[steep] + along[1] * (2 * right * up)[steep]) / flat[steep] / image[0][steep]
    )
    assert np.median(agreement) > 0.9


# --- what is refused


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sensors": ["a", "b"]}, r"2 for 4 angles; give one per angle, or one that holds all"),
        ({"angles": [0, 45]}, "angles"),
        ({"sensors": ["a"], "angles": [0, 90, 180]}, "polarisation needs three that differ, modulo 180 degrees"),
        ({"sensor": "a"}, "unknown key 'sensor' - did you mean 'sensors'"),
    ],
)
def test_options_that_do_not_fit_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        views.build_config({"name": "polarisation", **given})


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (
            np.zeros((9, 9)),
            r"sensor 'stack': expected integers or floats \(H, W, 4\), found float64 \(9, 9\); .*degree",
        ),
        (np.zeros((9, 9, 3)), r"found float64 \(9, 9, 3\)"),
        (np.zeros((9, 0, 4)), r"found float64 \(9, 0, 4\)"),
        (np.zeros(4), r"found float64 \(4,\)"),
        (np.zeros((9, 9, 4), bool), r"found bool \(9, 9, 4\)"),
        (np.full((9, 9, 4), np.inf), "sensor 'stack': holds infinite values"),
    ],
)
def test_other_stacks_are_refused(stack: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        view(stack)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (np.zeros((9, 9, 3), np.uint8), r"sensor 'b': expected integers or floats \(H, W\), found uint8 \(9, 9, 3\)"),
        (np.zeros((9, 8), np.uint8), r"found uint8 \(9, 8\), but sensor 'a' holds uint8 \(9, 9\); all angles must"),
        (np.zeros((9, 9), np.uint16), r"found uint16 \(9, 9\), but sensor 'a' holds uint8 \(9, 9\)"),
    ],
)
def test_images_that_do_not_match_are_refused(second: np.ndarray, message: str) -> None:
    config = Polarisation.Config(sensors=("a", "b", "c"), angles=(0, 60, 120))
    sensors = {"a": np.zeros((9, 9), np.uint8), "b": second, "c": np.zeros((9, 9), np.uint8)}
    with pytest.raises(DataError, match=message):
        Polarisation(config).array(sensors, image_size=8)
