"""The synthetic scenes: physically consistent, repeatable, and each defect visible where it should be."""

from __future__ import annotations

import numpy as np
import pytest

from crdkit.data.synthetic import (
    DEFECTS,
    INFRARED_DEFECTS,
    LIGHT_TENT,
    OBJECT_KINDS,
    POLARISERS,
    SENSORS,
    SIX_LIGHTS,
    Scene,
    make_scene,
    render_depth,
    render_infrared,
    render_lights,
    render_normals,
    render_rgb,
    render_sensors,
    render_xyz,
    sample_key,
    scanner_camera,
)
from crdkit.errors import UnknownNameError

CAMERA = scanner_camera(128)
COLOUR_ONLY = ("stain", "fade")
SHAPE_ONLY = ("dent", "bump")
KINDS = tuple(OBJECT_KINDS)


def with_twin(kind: str, defect: str, index: int = 0) -> tuple[Scene, Scene]:
    """Draw a defective scene and the same scene without its defect."""
    key = sample_key(0, kind, "test", defect, index)
    return make_scene(kind, camera=CAMERA, key=key, defect=defect), make_scene(kind, camera=CAMERA, key=key)


@pytest.mark.parametrize("kind", KINDS)
def test_object_covers_a_good_part_of_the_image(kind: str) -> None:
    scene, _ = with_twin(kind, "stain")
    assert 0.25 <= scene.covered.mean() <= 0.5
    assert 0.010 <= scene.height.max() <= 0.030


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("defect", COLOUR_ONLY)
def test_colour_defects_leave_geometry_bit_identical(kind: str, defect: str) -> None:
    scene, twin = with_twin(kind, defect)
    assert np.array_equal(render_xyz(scene), render_xyz(twin))
    assert np.array_equal(render_normals(scene), render_normals(twin))
    change = np.abs(render_rgb(scene).astype(float) - render_rgb(twin)).max(axis=2)
    assert change[scene.mask].mean() > 25.0
    assert change[~scene.mask].mean() < 0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("defect", SHAPE_ONLY)
def test_shape_defects_change_millimetres_but_hardly_the_colour(kind: str, defect: str) -> None:
    colour_changes = []
    for index in range(3):
        scene, twin = with_twin(kind, defect, index)
        z, twin_z = render_xyz(scene)[..., 2], render_xyz(twin)[..., 2]
        change = np.abs(z - twin_z)[scene.mask & (z > 0) & (twin_z > 0)]
        assert change.max() > 2.5e-3  # the scanner's noise is 0.1 mm
        assert np.array_equal(scene.albedo, twin.albedo)
        colour_changes.append(np.abs(render_rgb(scene).astype(float) - render_rgb(twin))[scene.mask].mean())
    assert np.mean(colour_changes) < 5.0  # of 255; the camera's noise has a standard deviation of 2.2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("defect", [*DEFECTS, *INFRARED_DEFECTS])
def test_mask_is_where_the_scene_changes(kind: str, defect: str) -> None:
    for index in range(4):
        scene, twin = with_twin(kind, defect, index)
        assert not twin.mask.any()
        assert 0.004 < scene.mask.mean() < 0.05
        grown = np.zeros_like(scene.mask)
        for rows in (-1, 0, 1):
            for columns in (-1, 0, 1):
                grown |= np.roll(twin.covered, (rows, columns), axis=(0, 1))
        assert not (scene.mask & ~grown).any()
        assert np.abs(scene.height - twin.height)[~scene.mask].max() <= 0.3e-3
        assert np.abs(scene.albedo - twin.albedo)[:, ~scene.mask].max() <= 0.04


@pytest.mark.parametrize("kind", KINDS)
def test_a_void_is_colder_in_infrared_and_nowhere_else(kind: str) -> None:
    for index in range(3):
        scene, twin = with_twin(kind, "void", index)
        seen, intact = render_sensors(scene), render_sensors(twin)
        assert [name for name in SENSORS if not np.array_equal(seen[name], intact[name])] == ["infrared"]
        colder = intact["infrared"].astype(float) - seen["infrared"]
        assert colder[scene.mask].mean() > 100  # 1 kelvin; the camera's noise is 0.06
        assert colder[~scene.mask].mean() < 5
        assert np.abs(scene.heat - twin.heat)[~scene.mask].max() <= 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("defect", DEFECTS)
def test_infrared_sees_material_that_is_missing_not_colour_or_pressure(kind: str, defect: str) -> None:
    scene, twin = with_twin(kind, defect)
    same = np.array_equal(render_infrared(scene), render_infrared(twin))
    assert same == (defect in COLOUR_ONLY + SHAPE_ONLY)


def test_sensors_are_measured_as_one_by_one_and_in_any_order() -> None:
    scene, _ = with_twin("gear", "crack")
    together = render_sensors(scene, SENSORS[::-1])
    assert tuple(together) == SENSORS[::-1]
    assert all(np.array_equal(render_sensors(scene, [name])[name], together[name]) for name in SENSORS)
    kinds = {name: (array.dtype.name, array.shape[2:]) for name, array in together.items()}
    colour = ("uint8", (3,))
    assert kinds == {
        "rgb": colour,
        "xyz": ("float32", (3,)),
        "depth": ("float32", ()),
        "normals": colour,
        "infrared": ("uint16", ()),
        **dict.fromkeys(POLARISERS, ("uint16", ())),
        **{f"image_{number}": colour for number in range(6)},
    }
    measured = together["xyz"][..., 2] > 0
    assert np.abs(together["depth"] - together["xyz"][..., 2])[measured].max() < 0.6e-3
    with pytest.raises(UnknownNameError, match=r"unknown synthetic sensor 'xzy' - did you mean 'xyz'\?"):
        render_sensors(scene, ["xzy"])


def test_crack_shows_in_both_sensors() -> None:
    scene, twin = with_twin("biscuit", "crack")
    assert np.abs(render_rgb(scene).astype(float) - render_rgb(twin))[scene.mask].mean() > 25.0
    assert np.abs(scene.height - twin.height).max() > 2e-3


def test_normal_scenes_differ_in_both_sensors() -> None:
    first, second = (
        make_scene("biscuit", camera=CAMERA, key=sample_key(0, "biscuit", "train", "good", index)) for index in range(2)
    )
    both = first.covered & second.covered
    assert np.abs(first.height - second.height)[both].mean() > 0.2e-3
    assert np.abs(render_rgb(first).astype(float) - render_rgb(second))[both].mean() > 5.0


@pytest.mark.parametrize("size", [128, (96, 128), (128, 96)])
def test_points_lie_on_the_pixel_rays_and_holes_are_zero(size: int | tuple[int, int]) -> None:
    camera = scanner_camera(size)
    points = render_xyz(make_scene("capsule", camera=camera, key=(1,)))
    missing = points[..., 2] == 0
    assert 0.001 < missing.mean() < 0.2
    assert not points[missing].any()
    rows, columns = np.nonzero(~missing)
    x, y, z = points[~missing].T
    np.testing.assert_allclose(x, (columns - (camera.width - 1) / 2) / camera.focal_length * z, atol=1e-6)
    np.testing.assert_allclose(y, (rows - (camera.height - 1) / 2) / camera.focal_length * z, atol=1e-6)
    assert 0.55 < z.min() < z.max() < 0.62


def test_scanner_noise_is_a_tenth_of_a_millimetre() -> None:
    scene = make_scene("gear", camera=CAMERA, key=(2,))
    z = render_xyz(scene)[..., 2]
    assert 0.05e-3 < (z - scene.depth())[z > 0].std() < 0.15e-3


def test_normals_are_unit_length_and_face_the_light_of_their_side() -> None:
    normals = render_normals(make_scene("capsule", camera=CAMERA, key=(3,)))
    np.testing.assert_allclose(np.linalg.norm(normals, axis=2), 1.0, atol=1e-9)
    assert normals[..., 2].min() > 0.0
    top, bottom = normals[30:60, 50:78], normals[68:98, 50:78]
    assert top[..., 1].mean() > 0.1 > -0.1 > bottom[..., 1].mean()  # the far side of the capsule looks up


def test_six_lights_come_from_their_sides() -> None:
    scene = make_scene("capsule", camera=CAMERA, key=(3,))
    names = [f"image_{number}" for number in range(6)]
    images = [image.astype(float).mean(axis=2) for image in render_lights(scene, SIX_LIGHTS, names=names)]
    _, bottom, right, top, left, everything = images
    assert top[:64].mean() > bottom[:64].mean()
    assert left[:, :64].mean() > right[:, :64].mean()
    assert everything[scene.covered].mean() > left[scene.covered].mean()


def test_depth_range_and_infrared() -> None:
    scene = make_scene("biscuit", camera=CAMERA, key=(4,))
    depth, nearest, farthest = render_depth(scene)
    assert depth.dtype == np.uint16
    np.testing.assert_allclose(depth / 65535 * (farthest - nearest) + nearest, scene.depth(), atol=1e-6)
    infrared = render_infrared(scene)
    assert infrared.dtype == np.uint16
    assert infrared[scene.covered].mean() - infrared[~scene.covered].mean() > 300  # 3 kelvin


def test_renders_repeat_and_leave_the_scene_alone() -> None:
    scene = make_scene("gear", camera=CAMERA, key=(5,))
    before = scene.height.copy(), scene.albedo.copy()
    first, xyz = render_rgb(scene, LIGHT_TENT), render_xyz(scene)
    assert np.array_equal(first, render_rgb(scene))
    assert np.array_equal(xyz, render_xyz(scene))
    assert np.array_equal(before[0], scene.height)
    assert np.array_equal(before[1], scene.albedo)
