"""Surface normals: known surfaces, holes, the published recipe, and images of normals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crdkit.data.images import resize_image
from crdkit.data.synthetic import OBJECT_KINDS, make_scene, render_normals, render_xyz, sample_key, scanner_camera
from crdkit.errors import ConfigError, DataError
from crdkit.testing import example_sensors
from crdkit.views import views
from crdkit.views._background import foreground
from crdkit.views.normals import Normals, metric_normals

GOLDEN = Path(__file__).parent / "data" / "preprocessing.npz"


def view(sensors: dict[str, np.ndarray], image_size: int = 64, **options: object) -> np.ndarray:
    """Return a view with ``options`` as (S, S, 3)."""
    return Normals(Normals.Config.model_validate(options))(sensors, image_size=image_size).numpy().transpose(1, 2, 0)


def grid(height: int = 60, width: int = 80, pitch: tuple[float, float] = (0.0004, 0.0004)) -> tuple[np.ndarray, ...]:
    """Return X and Y, metres, of points ``pitch`` apart along rows' and columns' axes."""
    rows, columns = np.mgrid[:height, :width]
    return (columns - width / 2) * pitch[1], (rows - height / 2) * pitch[0]


def angles(normals: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the angle between unit vectors (..., 3), degrees."""
    return np.degrees(np.arccos(np.clip((normals * expected).sum(axis=-1), -1, 1)))


def towards_camera(slope_x: np.ndarray | float, slope_y: np.ndarray | float) -> np.ndarray:
    """Return the unit normal, (right, up, towards the camera), of z = slope_x x + slope_y y seen along +Z, Y down."""
    normal = np.stack(np.broadcast_arrays(slope_x, -np.asarray(slope_y), 1.0), axis=-1)
    return normal / np.linalg.norm(normal, axis=-1, keepdims=True)


# --- metric normals of known surfaces


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    direction=st.floats(0, 2 * np.pi),
    steepness=st.floats(0, 2),
    pitch=st.tuples(st.floats(0.0002, 0.002), st.floats(0.0002, 0.002)),
    scale=st.floats(0.0003, 0.003),
    holes=st.floats(0, 0.6),
)
def test_planes_have_their_normal_whatever_slope_pitch_scale_and_holes(
    direction: float, steepness: float, pitch: tuple[float, float], scale: float, holes: float
) -> None:
    x, y = grid(pitch=pitch)
    a, b = steepness * np.cos(direction), steepness * np.sin(direction)  # turns about the camera's axis
    xyz = np.stack([x, y, 0.6 + a * x + b * y], axis=-1)
    lost = np.random.default_rng(0).random(x.shape) < holes
    xyz[lost] = 0
    normals = metric_normals(xyz, np.ones(x.shape, bool), scale=scale)
    found = normals.any(axis=2)
    assert angles(normals[found], towards_camera(a, b)).max() < 0.1
    assert found[~lost].mean() > 0.95
    np.testing.assert_allclose(np.linalg.norm(normals[found], axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("pitch", [(0.0004, 0.0004), (0.0003, 0.0006)])
@pytest.mark.parametrize("holes", [0.0, 0.4])
def test_spheres_have_radial_normals(pitch: tuple[float, float], holes: float) -> None:
    radius, distance = 0.02, 0.5
    x, y = grid(140, 140, pitch)
    r2 = x**2 + y**2
    inside = r2 < (0.8 * radius) ** 2
    rise = np.sqrt(np.maximum(radius**2 - r2, 0))
    xyz = np.where(inside[..., None], np.stack([x, y, distance - rise], axis=-1), 0)
    xyz[np.random.default_rng(1).random(x.shape) < holes] = 0
    normals = metric_normals(xyz, inside, scale=0.0008)
    expected = np.stack([x, -y, rise], axis=-1) / radius
    found = normals.any(axis=2)
    assert not found[~inside].any()
    assert found[inside].mean() > 0.999  # holes are bridged
    error = angles(normals, expected)[inside & found]
    assert np.median(error) < 0.5
    assert error[r2[inside & found] < (0.6 * radius) ** 2].max() < 2


def test_turning_the_scan_turns_the_image_of_normals() -> None:
    x, y = grid()
    xyz = np.stack([x, y, 0.5 + 3 * x**2 + 40 * x * y + 0.2 * y], axis=-1)
    inside = np.random.default_rng(0).random(x.shape) > 0.2
    normals = metric_normals(xyz, inside, scale=0.001)
    turned = metric_normals(np.rot90(xyz).copy(), np.rot90(inside).copy(), scale=0.001)
    np.testing.assert_allclose(turned, np.rot90(normals), atol=1e-5)


def test_scans_along_plus_and_minus_z_show_the_same_normals() -> None:
    x, y = grid()
    xyz = np.stack([x, y, 0.5 + 3 * x**2 + 40 * x * y + 0.2 * y], axis=-1)
    inside = np.ones(x.shape, bool)
    flipped = metric_normals(xyz * (1, -1, -1), inside, scale=0.001)  # X right, Y up, Z towards the camera
    np.testing.assert_allclose(flipped, metric_normals(xyz, inside, scale=0.001), atol=1e-6)


def test_the_far_side_of_an_edge_does_not_count_if_it_is_background() -> None:
    x, y = grid()
    inside = x < 0
    xyz = np.stack([x, y, np.where(inside, 0.5, 0.55)], axis=-1)
    normals = metric_normals(xyz, inside, scale=0.001)
    np.testing.assert_allclose(normals[inside], np.broadcast_to((0, 0, 1), (inside.sum(), 3)), atol=1e-6)
    assert not normals[~inside].any()


def test_points_far_apart_still_have_normals() -> None:
    x, y = grid(20, 20, (0.005, 0.005))
    xyz = np.stack([x, y, 0.5 + 0.5 * x], axis=-1)
    normals = metric_normals(xyz, np.ones(x.shape, bool), scale=0.0005)
    assert angles(normals, towards_camera(0.5, 0.0)).max() < 0.1


@pytest.mark.parametrize("kept", [np.s_[7, :], np.s_[:, 7], np.s_[7, 7], np.s_[0:0]])
def test_a_line_or_a_point_has_no_normal(kept: object) -> None:
    x, y = grid(20, 20)
    xyz = np.zeros((20, 20, 3))
    xyz[kept] = np.stack([x, y, 0.5 + x], axis=-1)[kept]
    assert not metric_normals(xyz, np.ones(x.shape, bool), scale=0.001).any()


@pytest.mark.parametrize(("kind", "limit"), [("biscuit", 5.0), ("gear", 9.0), ("capsule", 4.5)])
def test_normals_of_a_noisy_scan_are_near_the_true_ones(kind: str, limit: float) -> None:
    scene = make_scene(kind, camera=scanner_camera(256), key=sample_key(0, kind, "train", "good", 0))
    xyz = render_xyz(scene)
    normals = metric_normals(xyz, foreground(xyz), scale=Normals.Config().scale)
    found = normals.any(axis=2)
    assert set(OBJECT_KINDS) == {"biscuit", "gear", "capsule"}
    assert angles(normals, render_normals(scene))[found].mean() < limit


# --- the view of a scan


def test_view_is_zero_on_the_background_and_unit_vectors_on_the_object() -> None:
    sensors = example_sensors(["xyz"], size=(96, 128), kind="capsule")
    image = view(sensors, image_size=64)
    empty = ~image.any(axis=2)
    assert 0.3 < empty.mean() < 0.8
    vectors = image[~empty] * 2 - 1
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[:, 2].min() > 0  # towards the camera


def test_view_agrees_with_an_image_of_normals_in_its_axes() -> None:
    sensors = example_sensors(["xyz", "normals"], size=(128, 128), kind="capsule")
    scan, image = view(sensors), view(sensors, sensor="normals", decode=True)
    inside = scan.any(axis=2)
    assert np.median(angles(scan[inside] * 2 - 1, image[inside] * 2 - 1)) < 5


@pytest.mark.parametrize(("columns", "expected"), [(29, 7), (31, 8)])
def test_a_pixel_has_a_normal_if_half_of_it_has(columns: int, expected: int) -> None:
    x, y = grid(64, 64)
    xyz = np.stack([x, y, 0.5 + 0.3 * x], axis=-1)
    xyz[:, columns:] = 0
    image = view({"xyz": xyz}, image_size=16, plane="none", closing=0)  # four columns of the scan to one of the image
    assert np.flatnonzero(image.any(axis=(0, 2))).tolist() == list(range(expected))
    assert angles(image[:, :expected] * 2 - 1, towards_camera(0.3, 0.0)).max() < 0.1


def test_an_empty_table_has_no_normals() -> None:
    x, y = grid()
    assert not view({"xyz": np.stack([x, y, 0.6 + 0.1 * x], axis=-1)}).any()
    assert view({"xyz": np.stack([x, y, 0.6 + 0.1 * x], axis=-1)}, plane="none").all()


# --- the published recipe


@pytest.mark.parametrize("case", [0, 1])
def test_trd_is_the_published_code(case: int) -> None:
    with np.load(GOLDEN) as archive:
        xyz, expected = archive[f"xyz/{case}"], archive[f"normals/{case}"]
    tensor = Normals(Normals.Config(mode="trd", plane="published"))({"xyz": xyz}, image_size=256)
    np.testing.assert_allclose(tensor[:, ::2, ::2], expected, atol=1e-5)


SOBEL_X = {  # written out: Pascal's triangle across, its difference along
    3: np.outer([1, 2, 1], [-1, 0, 1]),
    5: np.outer([1, 4, 6, 4, 1], [-1, -2, 0, 2, 1]),
    7: np.outer([1, 6, 15, 20, 15, 6, 1], [-1, -4, -5, 0, 5, 4, 1]),
}


def slow_trd(xyz: np.ndarray, *, kernel: int, size: int) -> np.ndarray:
    """Compute the recipe pixel by pixel, (size, size, 3)."""
    inside, z = foreground(xyz), xyz[..., 2].astype(np.float64)
    height, width = z.shape
    measured = z[inside & (z != 0)]
    depth = np.where(inside & (z != 0), (z - measured.min()) / (measured.max() - measured.min()), 0)
    for _ in range(2):
        filled = depth.copy()
        for i, j in np.argwhere(depth == 0):
            window = depth[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            filled[i, j] = window[window != 0].mean() if window.any() else 0
        depth = filled
    padded = np.pad(depth, kernel // 2, mode="reflect")
    encoded = np.zeros((height, width, 3))
    for i in range(height):
        for j in range(width):
            window = padded[i : i + kernel, j : j + kernel]
            normal = np.array([-(window * SOBEL_X[kernel]).sum(), -(window * SOBEL_X[kernel].T).sum(), 1])
            encoded[i, j] = (normal / np.linalg.norm(normal) + 1) / 2 * inside[i, j]
    resized = np.zeros((size, size, 3))
    for i in range(size):
        for j in range(size):
            row, column = (np.clip((k + 0.5) * n / size - 0.5, 0, n - 1) for k, n in ((i, height), (j, width)))
            top, left = int(row), int(column)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = encoded[top, left] * (1 - column + left) + encoded[top, right] * (column - left)
            lower = encoded[bottom, left] * (1 - column + left) + encoded[bottom, right] * (column - left)
            resized[i, j] = upper * (1 - row + top) + lower * (row - top)
    return resized


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_trd_is_its_recipe_computed_pixel_by_pixel(kernel: int) -> None:
    xyz = example_sensors(["xyz"], size=(40, 56), kind="gear")["xyz"][:, :32]
    assert foreground(xyz)[:, -1].any()  # so that the border of the image counts
    image = view({"xyz": xyz}, image_size=24, mode="trd", kernel=kernel)
    np.testing.assert_allclose(image, slow_trd(xyz, kernel=kernel, size=24), atol=2e-5)


# --- images of normals


def test_an_image_is_read_like_a_colour_image_unless_decoded() -> None:
    sensors = example_sensors(["normals"], size=(50, 70))
    as_colours = view(sensors, sensor="normals")
    np.testing.assert_array_equal(as_colours, resize_image(sensors["normals"], 64) / np.float32(255))
    rgb = views.get("rgb")(views.build_config({"name": "rgb", "sensor": "normals"}))
    torch.testing.assert_close(torch.from_numpy(as_colours.transpose(2, 0, 1)), rgb(sensors, image_size=64))


def test_decoding_resizes_unit_vectors() -> None:
    image = np.full((32, 32, 3), (128, 128, 255), np.uint8)
    image[:, 1::2] = (255, 128, 128)  # columns alternate between two directions 90 degrees apart
    vectors = view({"normals": image}, image_size=16, sensor="normals", decode=True) * 2 - 1
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=2), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[8, 8], np.array([1, 0, 1]) / np.sqrt(2), atol=0.01)
    assert np.linalg.norm(view({"normals": image}, image_size=16, sensor="normals")[8, 8] * 2 - 1) < 0.8


def test_decoding_gives_short_vectors_their_full_weight() -> None:
    image = np.full((32, 32, 3), (128, 128, 191), np.uint8)  # half as long as it should be
    image[:, 1::2] = (255, 128, 128)
    vectors = view({"normals": image}, image_size=16, sensor="normals", decode=True) * 2 - 1
    np.testing.assert_allclose(vectors[8, 8], np.array([1, 0, 1]) / np.sqrt(2), atol=0.01)


# --- what is refused


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((9, 9, 3), np.uint16),
            r"sensor 'xyz': expected uint8 \(H, W, 3\) normals or a float \(H, W, 3\) scan, f",
        ),
        (
            np.zeros((9, 9), np.uint8),
            r"found uint8 \(9, 9\); convert the image to 8-bit RGB, or give X, Y and Z in metres",
        ),
        (
            np.zeros((9, 9), np.float32),
            r"expected float \(H, W, 3\), found float32 \(9, 9\); give X, Y and Z in metres",
        ),
        (np.full((9, 9, 3), np.nan), "no pixel holds a measurement"),
        (
            np.eye(9)[..., None] * np.eye(3)[2],
            "no background plane can be fit: .* or set the view's plane fit to 'none'",
        ),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        view({"xyz": array})


@pytest.mark.parametrize("options", [{"kernel": 4}, {"scale": 0}, {"mode": "sobel"}, {"plane": "corner"}, {"size": 1}])
def test_options_are_strict(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        views.build_config({"name": "normals"} | options)
