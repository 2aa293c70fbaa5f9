"""Normals and albedo from known lights, directions of lights that are not known, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdkit.errors import ConfigError, DataError
from crdkit.testing import example_sensors
from crdkit.views import views
from crdkit.views.light_directions import estimate_directions
from crdkit.views.photometric import Albedo, PhotometricNormals

SIDE = 96
RIGHT, UP = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(1, -1, SIDE))
INSIDE = np.hypot(RIGHT, UP) < 0.8
BALL = np.where(INSIDE[..., None], np.stack([RIGHT, UP, np.sqrt(np.maximum(1 - RIGHT**2 - UP**2, 0))], axis=-1), 0)
AZIMUTHS = np.radians([10, 70, 130, 190, 250, 310])
RING = np.stack([0.6 * np.cos(AZIMUTHS), 0.6 * np.sin(AZIMUTHS), np.full(6, 0.8)], axis=1)


def photographs(
    lights: np.ndarray = RING, *, albedo: object = 0.8, noise: float = 0.0, gamma: float = 1.0, exposure: float = 1.0
) -> dict[str, np.ndarray]:
    """Return a matt ball under each light, (96, 96) uint16, or (96, 96, 3) if its albedo has three channels."""
    rng, stack = np.random.default_rng(0), {}
    for number, light in enumerate(lights):
        shade = np.maximum(BALL @ light, 0)
        colour = exposure * (shade * albedo if np.ndim(albedo) != 1 else shade[..., None] * np.array(albedo))
        linear = np.clip(colour + rng.normal(0, noise, colour.shape) * (noise > 0), 0, 1)
        stack[f"light {number}"] = np.rint(65535 * linear ** (1 / gamma)).astype(np.uint16)
    return stack


def options(lights: np.ndarray = RING, **others: object) -> dict[str, object]:
    """Return options of both views for these lights."""
    return {"sensors": [f"light {n}" for n in range(len(lights))], "directions": lights.tolist(), "gamma": 1, **others}


def normals(sensors: dict[str, np.ndarray], lights: np.ndarray = RING, **others: object) -> np.ndarray:
    """Return the normals as unit vectors (96, 96, 3)."""
    view = PhotometricNormals(PhotometricNormals.Config.model_validate(options(lights, **others)))
    return view.array(sensors, image_size=SIDE).transpose(1, 2, 0) * 2 - 1


def least_squares(sensors: dict[str, np.ndarray], lights: np.ndarray = RING) -> np.ndarray:
    """Return the normals (96, 96, 3), not of unit length, without any weights."""
    brightness = np.stack(list(sensors.values())).reshape(len(lights), -1) / 65535
    return np.linalg.lstsq(lights, brightness, rcond=None)[0].T.reshape(BALL.shape)


def albedo(sensors: dict[str, np.ndarray], lights: np.ndarray = RING, **others: object) -> np.ndarray:
    """Return the albedo (3, 96, 96)."""
    view = Albedo(Albedo.Config.model_validate(options(lights, **others)))
    return view.array(sensors, image_size=SIDE)


def angles(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the angle between vectors (..., 3), degrees."""
    lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    return np.degrees(np.arccos(np.clip((found * expected).sum(axis=-1) / np.maximum(lengths, 1e-9), -1, 1)))


# --- known lights


@pytest.mark.parametrize(("chosen", "limit"), [([0, 2, 4], 1.5), ([0, 1, 3, 4], 0.4), (range(6), 0.4)])
def test_a_ball_has_radial_normals_and_one_albedo(chosen: list[int], limit: float) -> None:
    lights = RING[list(chosen)]
    everywhere = INSIDE & ((BALL @ lights.T).min(axis=2) > 0.05)  # that all lights reach
    sensors = photographs(lights)
    assert angles(normals(sensors, lights), BALL)[everywhere].max() < limit
    np.testing.assert_allclose(albedo(sensors, lights)[:, everywhere], 0.8, atol=0.01)


def test_noise_of_one_percent_turns_normals_by_one_degree() -> None:
    sensors = photographs(noise=0.01)
    error = angles(normals(sensors), BALL)[INSIDE]
    assert error.mean() < 1.5
    assert albedo(sensors)[0, INSIDE].std() < 0.02


def test_attached_shadows_do_not_count() -> None:
    low = np.stack([0.9 * np.cos(AZIMUTHS), 0.9 * np.sin(AZIMUTHS), np.full(6, 0.436)], axis=1)
    lit = (BALL @ low.T > 0.02).sum(axis=2)
    assert ((lit < 6) & INSIDE).mean() > 0.2
    error = angles(normals(photographs(low), low), BALL)
    assert error[INSIDE & (lit >= 3)].max() < 0.5
    assert angles(least_squares(photographs(low), low), BALL)[INSIDE].max() > 10


def test_cast_shadows_and_gloss_hardly_turn_normals() -> None:
    sensors = photographs(albedo=0.5)
    sensors["light 0"][:, 40:52] //= 12  # in a shadow that some light still reaches
    sensors["light 3"][70:78] = 65535  # gloss that saturates
    sensors["light 2"][20:28] += 20_000  # gloss that does not
    error, plain = angles(normals(sensors), BALL), angles(least_squares(sensors), BALL)
    for region, limit in ((np.s_[30:66, 40:52], 1), (np.s_[70:78, 40:60], 1), (np.s_[20:28, 36:60], 12)):
        assert error[region].mean() < limit < plain[region].mean()
    shade = albedo(sensors)[0]
    np.testing.assert_allclose(shade[30:66, 40:52], 0.5, atol=0.03)


def test_exposure_changes_the_albedo_alone_and_noise_is_no_relief() -> None:
    bright, dim = photographs(), photographs(exposure=0.5)
    np.testing.assert_allclose(normals(bright, noise=0), normals(dim, noise=0), atol=2e-3)
    np.testing.assert_allclose(albedo(bright, noise=0), 2 * albedo(dim, noise=0), atol=2e-3)
    black = {name: np.random.default_rng(len(name)).integers(0, 30, (SIDE, SIDE)).astype(np.uint16) for name in bright}
    assert angles(normals(black), np.array([0, 0, 1])).max() < 1


def test_print_shows_in_the_albedo_and_not_in_the_normals() -> None:
    printed = np.where((RIGHT * 4).astype(int) % 2 == 0, 0.8, 0.4)
    found, plain = photographs(albedo=printed), photographs()
    np.testing.assert_allclose(normals(found)[INSIDE], normals(plain)[INSIDE], atol=0.01)
    np.testing.assert_allclose(albedo(found)[0][INSIDE], printed[INSIDE], atol=0.01)


def test_colour_gamma_white_and_the_lights_strength() -> None:
    colour = (0.6, 0.3, 0.1)
    sensors = photographs(albedo=colour, gamma=2.2)
    shown = albedo(sensors, gamma=2.2, white=0.6)[:, INSIDE].T
    np.testing.assert_allclose(shown, np.broadcast_to((np.array(colour) / 0.6) ** (1 / 2.2), shown.shape), atol=0.01)
    strong = RING * np.array([1, 0.5, 1.2, 0.7, 1, 0.9])[:, None]
    assert angles(normals(photographs(strong), strong), BALL)[INSIDE].max() < 1
    np.testing.assert_allclose(albedo(photographs(strong), strong)[0][INSIDE], 0.8, atol=0.01)


def test_grey_photographs_beside_colour_ones_are_read() -> None:
    colour, grey = photographs(albedo=(0.8, 0.8, 0.8)), photographs()
    mixed = {**colour, "light 1": grey["light 1"], "light 4": grey["light 4"][..., None]}
    np.testing.assert_allclose(normals(mixed), normals(colour), atol=1e-6)
    np.testing.assert_allclose(albedo(mixed), albedo(colour), atol=1e-6)


def test_black_images_face_the_camera_and_bytes_do_as_well_as_words() -> None:
    black = {name: np.zeros((SIDE, SIDE, 3), np.uint8) for name in photographs()}
    assert np.array_equal(normals(black), np.broadcast_to((0, 0, 1), BALL.shape))
    assert not albedo(black).any()
    coarse = {name: (image >> 8).astype(np.uint8) for name, image in photographs().items()}
    assert angles(normals(coarse), BALL)[INSIDE].mean() < 1


@settings(max_examples=8, deadline=None, derandomize=True)
@given(turn=st.floats(0, 2 * np.pi), order=st.permutations(range(6)))
def test_turning_lights_and_part_turns_normals_and_the_order_does_not_matter(turn: float, order: list[int]) -> None:
    rotation = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    turned = (RING @ rotation)[order]  # the ball looks the same when it is turned
    assert angles(normals(photographs(turned), turned), BALL)[INSIDE].max() < 0.5


@pytest.mark.parametrize("kind", ["gear", "biscuit", "capsule"])
def test_synthetic_parts_have_the_normals_of_their_scene(kind: str) -> None:
    view = PhotometricNormals(PhotometricNormals.Config())
    sensors = example_sensors([*view.sensors, "normals"], size=(96, 96), kind=kind)
    found = view.array(sensors, image_size=96).transpose(1, 2, 0) * 2 - 1
    assert np.median(angles(found, sensors["normals"] / 127.5 - 1)) < 5


# --- unknown lights


@pytest.mark.parametrize("chosen", [[0, 2, 4], [0, 1, 3, 4], range(6)])
def test_directions_are_found_up_to_a_rotation_or_reflection(chosen: list[int]) -> None:
    lights = RING[list(chosen)] * np.linspace(0.9, 1.1, len(list(chosen)))[:, None]
    sensors = photographs(lights, noise=0.003, exposure=0.8)
    found = np.array(estimate_directions([sensors], sensors=list(sensors), gamma=1))
    np.testing.assert_allclose(found @ found.T, lights @ lights.T, atol=0.03)


def test_without_a_hint_the_convention_fixes_the_axes() -> None:
    mirrored = RING[[3, 2, 1, 0, 5, 4]]  # the other way round
    for lights in (RING, mirrored):
        sensors = photographs(lights)
        found = np.array(estimate_directions([sensors], sensors=list(sensors), gamma=1))
        np.testing.assert_allclose(found[0], [0.6, 0, 0.8], atol=0.01)
        assert found[1, 1] > 0.1


def test_opposite_lights_leave_above_to_the_next_one() -> None:
    lights = RING[[0, 3, 1]]
    sensors = photographs(lights)
    found = np.array(estimate_directions([sensors], sensors=list(sensors), gamma=1))
    assert abs(found[1, 1]) < 0.05
    assert found[2, 1] > 0.1


def test_with_rough_directions_they_are_found_and_normals_agree() -> None:
    sensors = photographs(noise=0.003)
    near = np.round(RING, 0) + np.array([0, 0, 0.5])
    found = np.array(estimate_directions([sensors, sensors], sensors=list(sensors), gamma=1, near=near.tolist()))
    np.testing.assert_allclose(found @ found.T, RING @ RING.T, atol=0.01)
    assert angles(found, RING).max() < 4  # all of them turned alike, as the rough ones are
    assert angles(normals(sensors, found), BALL)[INSIDE].mean() < 4


def test_a_minority_of_another_colour_hardly_skews_them() -> None:
    spots = np.where((np.sin(9 * RIGHT) * np.sin(7 * UP)) > 0.6, 0.8, 0.5)
    sensors = photographs(albedo=spots)
    found = np.array(estimate_directions([sensors], sensors=list(sensors), gamma=1, near=RING.tolist()))
    assert angles(found, RING).max() < 2


def test_what_directions_cannot_be_told_from_is_said() -> None:
    ball, names = photographs(RING[:3]), ["light 0", "light 1", "light 2"]
    for samples, sensors, near in ([], names, None), ([ball], names[:2], None), ([ball], names, [(0.0, 0.0, 1.0)]):
        with pytest.raises(DataError, match=r"directions cannot be told from [01] samples of [23] lights.*: give"):
            estimate_directions(samples, sensors=sensors, gamma=1, near=near)
    with pytest.raises(ConfigError, match="unknown sensor 'light 3' - did you mean 'light "):
        estimate_directions([ball], sensors=[*names, "light 3"], gamma=1)


def test_flat_and_dark_and_striped_parts_do_not_tell_directions() -> None:
    names = [f"light {n}" for n in range(6)]
    flat = {name: np.full((40, 40), 30_000 + 1000 * n, np.uint16) for n, name in enumerate(names)}
    with pytest.raises(DataError, match="from 1600 pixels that all of 6 lights reach: their normals are too few"):
        estimate_directions([flat], sensors=names)
    black = {name: np.zeros((40, 40), np.uint8) for name in names}
    with pytest.raises(DataError, match="cannot be told from 0 pixels"):
        estimate_directions([black], sensors=names)
    rng = np.random.default_rng(0)
    cone = rng.dirichlet((1, 1, 1), 1600) @ np.array([[1, 0.0, 0.3], [-0.5, 0.8, 0.3], [-0.5, -0.8, 0.3]])
    odd = cone / rng.uniform(0.2, 1, 1600)[:, None]
    shade = np.clip(20_000 + 12_000 * (RING @ odd.T), 1, 60_000)
    chaos = {name: row.reshape(40, 40).astype(np.uint16) for name, row in zip(names, shade, strict=True)}
    with pytest.raises(DataError, match="no choice of them gives most pixels one reflectance"):
        estimate_directions([chaos], sensors=names, gamma=1)


# --- what is refused


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sensors": ["a", "b", "c"]}, "sensors need directions: give one"),
        ({"sensors": ["a", "b"], "directions": [[0, 0, 1], [1, 0, 1]]}, "sensors"),
        ({"directions": [[0, 0, 1], [1, 0, 1], [0, 1, 1]]}, "3 for 4 sensors; give one per sensor"),
        ({"directions": [[1, 0, 1], [-1, 0, 1], [0, 0, 1], [2, 0, 1]]}, "directions lie in one plane"),
    ],
)
@pytest.mark.parametrize("name", ["photometric_normals", "albedo"])
def test_options_that_do_not_fit_are_refused(name: str, given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        views.build_config({"name": name, **given})


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            np.zeros((9, 9), np.float32),
            r"sensor 'light 1': expected uint8 or uint16 \(H, W\) or \(H, W, 3\), found float32",
        ),
        (np.zeros((9, 9, 4), np.uint8), r"found uint8 \(9, 9, 4\); convert it to RGB or grey"),
        (np.zeros((0, 9), np.uint8), r"found uint8 \(0, 9\)"),
        (np.zeros(9, np.uint8), r"found uint8 \(9,\)"),
        (np.zeros((9, 8), np.uint8), r"found uint8 \(9, 8\), but sensor 'light 0' holds uint8 \(9, 9\)"),
    ],
)
def test_other_photographs_are_refused(second: np.ndarray, message: str) -> None:
    lights = RING[:3]
    sensors = {"light 0": np.zeros((9, 9), np.uint8), "light 1": second, "light 2": np.zeros((9, 9), np.uint8)}
    with pytest.raises(DataError, match=message):
        normals(sensors, lights)
