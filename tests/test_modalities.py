"""Modalities: what the published code computes, and a background plane that real scans cannot break."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crdkit.data.images import resize_nearest
from crdkit.errors import ConfigError, DataError
from crdkit.views import views
from crdkit.views._background import corner_plane, foreground, robust_plane
from crdkit.views.depth import Depth
from crdkit.views.geometry import fill_holes, scale_inside
from crdkit.views.rgb import RGB

GOLDEN = Path(__file__).parent / "data" / "preprocessing.npz"
EMPTY_CORNER = 2


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as archive:
        return {name: archive[name] for name in archive.files if not name.startswith("normals")}


def scene(
    *,
    height: int = 96,
    width: int = 120,
    slopes: tuple[float, float] = (0.0, 0.0),
    distance: float = 0.6,
    noise: float = 0.0003,
    seed: int = 0,
    box: tuple[int, int, int, int] = (30, 60, 40, 80),
    thickness: float = 0.03,
) -> tuple[np.ndarray, np.ndarray]:
    """Return a scan (H, W, 3) of a tilted table with a flat-topped box on it, metres, and the box's (H, W) mask."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    x, y = (columns - width / 2) * 0.002, (rows - height / 2) * 0.002
    xyz = np.stack([x, y, distance + slopes[0] * x + slopes[1] * y], axis=-1)
    to_camera = np.array([slopes[0], slopes[1], -1.0]) / np.linalg.norm([*slopes, 1.0])
    top, bottom, left, right = box
    solid = np.zeros((height, width), bool)
    solid[top:bottom, left:right] = True
    xyz[solid] += thickness * to_camera
    return (xyz + rng.normal(0, noise, xyz.shape)).astype(np.float32), solid


def test_modalities_are_registered_and_their_options_are_strict() -> None:
    assert views.get("rgb") is RGB
    assert views.get("depth") is Depth
    assert views.build_config("depth") == Depth.Config()
    assert Depth(Depth.Config(sensor="scan")).sensors == ("scan",)
    assert RGB(RGB.Config(sensor="left")).sensors == ("left",)
    wrong: list[dict[str, Any]] = [
        {"mode": "ransac"},
        {"background_distance": 0},
        {"background_distance": 2},
        {"closing": -1},
        {"fil": 1},
    ]
    for options in wrong:
        with pytest.raises(ConfigError):
            views.build_config({"name": "depth"} | options)


# --- rgb


def test_rgb_is_what_the_published_code_feeds_before_normalisation(golden: dict[str, np.ndarray]) -> None:
    image = RGB(RGB.Config())({"rgb": golden["rgb/image"]}, image_size=256)
    assert image.shape == (3, 256, 256)
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = ((image - mean[:, None, None]) / std[:, None, None])[:, ::4, ::4]
    torch.testing.assert_close(normalised, torch.from_numpy(golden["rgb/tensor"]), atol=1e-6, rtol=0)


def test_rgb_spans_zero_to_one_and_owns_its_memory() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[0, 0] = 255
    view = RGB(RGB.Config())({"rgb": image}, image_size=16)
    assert (float(view.min()), float(view.max())) == (0.0, 1.0)
    view.zero_()
    assert image[0, 0, 0] == 255


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((9, 8), np.uint8), r"uint8 \(9, 8\)"),
        (np.zeros((9, 8, 4), np.uint8), r"uint8 \(9, 8, 4\)"),
        (np.zeros((9, 8, 3), np.uint16), r"uint16 \(9, 8, 3\)"),
        (np.zeros((9, 8, 3), np.float32), r"float32 \(9, 8, 3\)"),
        (np.zeros((3, 9, 8), np.uint8), r"uint8 \(3, 9, 8\)"),
    ],
)
def test_rgb_refuses_other_images(image: np.ndarray, found: str) -> None:
    with pytest.raises(DataError, match=rf"sensor 'rgb': expected uint8 \(H, W, 3\), found {found}; convert it"):
        RGB(RGB.Config())({"rgb": image}, image_size=16)


# --- depth: the published recipe


@pytest.mark.parametrize("case", [0, 1, 2])
def test_published_mode_is_the_published_code(golden: dict[str, np.ndarray], case: int) -> None:
    xyz = golden[f"xyz/{case}"]
    mask = foreground(resize_nearest(xyz, 256), mode="published")
    np.testing.assert_array_equal(mask, golden[f"foreground/{case}"] > 0)
    view = Depth(Depth.Config(mode="published"))({"xyz": xyz}, image_size=256)
    assert view.shape == (1, 256, 256)
    assert view.dtype == torch.float32
    np.testing.assert_allclose(view[0].numpy(), golden[f"depth/{case}"], atol=1e-6)


@pytest.mark.parametrize("case", [0, 1])
def test_robust_mode_agrees_where_the_published_plane_is_sound(golden: dict[str, np.ndarray], case: int) -> None:
    xyz = golden[f"xyz/{case}"]
    mask = foreground(resize_nearest(xyz, 256))
    published = golden[f"foreground/{case}"] > 0
    assert mask.mean() == pytest.approx(published.mean(), abs=0.01)
    assert (mask != published).mean() < 0.001
    view = Depth(Depth.Config())({"xyz": xyz}, image_size=256)[0].numpy()
    assert np.abs(view - golden[f"depth/{case}"]).mean() < 1e-3


def test_robust_mode_survives_an_empty_corner(golden: dict[str, np.ndarray]) -> None:
    xyz = golden[f"xyz/{EMPTY_CORNER}"]
    assert foreground(resize_nearest(xyz, 256), mode="published").mean() > 0.8
    assert foreground(resize_nearest(xyz, 256)).mean() == pytest.approx(0.204, abs=0.02)
    assert foreground(xyz).mean() == pytest.approx(0.204, abs=0.02)  # at the scan's own resolution


@pytest.mark.parametrize("mode", ["robust", "published"])
def test_depth_is_deterministic_and_leaves_its_input_alone(golden: dict[str, np.ndarray], mode: str) -> None:
    xyz = golden["xyz/0"]
    before = xyz.copy()
    depth = Depth(Depth.Config.model_validate({"mode": mode}))
    torch.testing.assert_close(depth({"xyz": xyz}, image_size=64), depth({"xyz": xyz}, image_size=64), rtol=0, atol=0)
    np.testing.assert_array_equal(xyz, before)


# --- depth: the robust plane


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_robust_plane_finds_the_table_behind_anything(data: st.DataObject) -> None:
    height, width = data.draw(st.sampled_from([(96, 120), (128, 128), (150, 100)]))
    slopes = data.draw(st.tuples(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4)))
    top = data.draw(st.integers(0, height - 10))
    left = data.draw(st.integers(0, width - 10))
    box = (top, data.draw(st.integers(top + 5, height)), left, data.draw(st.integers(left + 5, width)))
    xyz, solid = scene(
        height=height,
        width=width,
        slopes=slopes,
        distance=data.draw(st.floats(0.3, 1.5)),
        noise=data.draw(st.sampled_from([0.0, 0.0001, 0.0005])),
        seed=data.draw(st.integers(0, 1000)),
        box=box,
        thickness=data.draw(st.floats(0.012, 0.08)),
    )
    empty = np.zeros_like(solid)
    size = data.draw(st.integers(0, 30))
    for row, column in data.draw(st.sets(st.sampled_from([(0, 0), (0, -1), (-1, 0), (-1, -1)]))):
        rows = slice(0, size) if row == 0 else slice(height - size, height)
        columns = slice(0, size) if column == 0 else slice(width - size, width)
        empty[rows, columns] = True
    holes = np.random.default_rng(data.draw(st.integers(0, 1000))).random(solid.shape)
    empty |= holes < data.draw(st.floats(0, 0.4))
    xyz[empty] = 0
    rim = np.ones_like(solid)
    rim[6:-6, 6:-6] = False
    assume((solid & ~empty)[rim].sum() < 0.55 * (~empty)[rim].sum())  # the table shows on most of the border
    mask = foreground(xyz, closing=0)
    assert (mask != (solid & ~empty)).mean() < 0.002


@pytest.mark.parametrize("box", [(8, 88, 8, 112), (0, 96, 20, 100), (40, 96, 0, 120), (0, 60, 0, 90)])
def test_large_flat_objects_are_not_taken_for_the_table(box: tuple[int, int, int, int]) -> None:
    xyz, solid = scene(box=box, slopes=(0.1, -0.2))
    assert (foreground(xyz, closing=0) != solid).mean() < 0.001


@pytest.mark.parametrize(("top", "slopes"), [(43, (0.0, 0.0)), (41, (0.0, -0.2)), (42, (-0.1, 0.1))])
def test_a_plane_from_table_to_top_loses_after_least_squares_too(top: int, slopes: tuple[float, float]) -> None:
    # thin, over half of the border: most of the border is near a plane that few points are behind before the refit
    xyz, solid = scene(box=(top, 96, 0, 120), slopes=slopes, thickness=0.013, distance=1.1)
    assert (foreground(xyz, closing=0) != solid).mean() < 0.001


def test_stray_points_behind_the_table_do_not_pull_the_plane() -> None:
    xyz, solid = scene(slopes=(0.2, 0.1))
    stray = np.random.default_rng(3).random(solid.shape) < 0.1
    xyz[stray] *= 1.3
    mask = foreground(xyz, closing=0)
    np.testing.assert_array_equal(mask[~stray], solid[~stray])


def test_plane_is_found_when_half_of_the_scan_is_empty() -> None:
    xyz, solid = scene(slopes=(0.2, 0.1))
    xyz[:, :50] = 0
    solid[:, :50] = False
    assert (foreground(xyz, closing=0) != solid).mean() < 0.001


def test_robust_plane_has_its_normal_and_offset_in_metres() -> None:
    xyz, _ = scene(slopes=(0.3, 0.0), distance=0.7, noise=0.0)
    normal, offset = robust_plane(xyz, tolerance=0.002)
    expected = np.array([-0.3, 0, 1]) / np.hypot(0.3, 1)
    sign = np.sign(normal[2])
    np.testing.assert_allclose(normal * sign, expected, atol=1e-6)
    assert offset * sign == pytest.approx(0.7 / np.hypot(0.3, 1), abs=1e-6)


@pytest.mark.parametrize("turned", [(1, 1, 1), (1, -1, -1)])  # cameras that look along Z, and against it
def test_the_table_behind_the_object_wins_whichever_way_z_points(turned: tuple[int, int, int]) -> None:
    xyz, solid = scene(box=(0, 50, 0, 120), slopes=(0.1, -0.2))  # the object holds most of the border
    assert (foreground(xyz * np.float32(turned), closing=0) != solid).mean() < 0.001


def test_a_scan_in_which_every_plane_has_points_behind_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdkit.views._background._MAX_BEHIND", (0.0,))
    with pytest.raises(DataError, match="has too many measured points behind it; leave the sample out"):
        foreground(scene()[0])


def test_a_border_without_a_plane_gives_way_to_the_whole_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdkit.views._background._MAX_BEHIND", (0.001,))
    xyz, _ = scene(noise=0.0, thickness=0.0)
    rim = np.ones(xyz.shape[:2], bool)
    rim[4:-4, 4:-4] = False
    xyz[rim, 2] -= np.random.default_rng(0).uniform(0.05, 0.3, rim.sum()).astype(np.float32)
    np.testing.assert_array_equal(foreground(xyz, closing=0), rim)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_scans_with_too_few_points_are_refused(count: int) -> None:
    xyz = np.zeros((20, 20, 3), np.float32)
    xyz.reshape(-1, 3)[7 : 7 + count] = scene()[0].reshape(-1, 3)[:count]
    with pytest.raises(DataError, match=rf"no background plane can be fit: {count} of 400 pixels hold a measurement"):
        foreground(xyz)


def test_points_on_one_line_are_refused() -> None:
    xyz = np.zeros((20, 20, 3), np.float32)
    xyz[5, :, 0] = np.arange(20) * 0.001
    xyz[5, :, 2] = 0.5
    with pytest.raises(DataError, match="lie on one line"):
        foreground(xyz)
    xyz[5] = (0.1, 0.1, 0.5)
    with pytest.raises(DataError, match="lie on one line"):
        foreground(xyz)


def test_outermost_points_on_one_line_are_not_the_last_word() -> None:
    xyz = np.zeros((16, 16, 3), np.float32)
    rows, columns = np.mgrid[:16, :16]
    xyz[10:, 3:13] = np.stack([columns, rows, rows * 0 + 250], axis=-1)[10:, 3:13] * 0.002
    assert not foreground(xyz).any()
    xyz[11:14, 6:9, 2] -= 0.03
    expected = np.zeros((16, 16), bool)
    expected[11:14, 6:9] = True
    np.testing.assert_array_equal(foreground(xyz, closing=0), expected)


def test_three_measured_points_are_a_plane() -> None:
    xyz = np.zeros((20, 20, 3), np.float32)
    xyz[[2, 2, 15], [2, 15, 2]] = [(0, 0, 0.5), (0.1, 0, 0.5), (0, 0.1, 0.5)]
    assert not foreground(xyz).any()


def test_published_plane_needs_two_corners() -> None:
    xyz, _ = scene()
    xyz[:5, :5] = 0
    assert foreground(xyz, mode="published").mean() > 0.5  # the published defect
    xyz[:5, -5:] = 0
    with pytest.raises(DataError, match="three image corners lie on one line or are empty; mode=robust"):
        corner_plane(xyz)


# --- depth: the parts of the recipe


def test_closing_bridges_gaps_and_ignores_what_is_outside() -> None:
    xyz, solid = scene(box=(0, 50, 0, 60))
    xyz[20:23, 20:23] = 0
    mask = foreground(xyz, closing=3)
    np.testing.assert_array_equal(mask, solid)
    assert not foreground(xyz, closing=0)[21, 21]


def test_scaling_spans_the_foreground_only() -> None:
    z = np.array([[0.5, 0.6], [0.0, 0.9]], np.float32)
    mask = np.array([[True, True], [True, False]])
    expected = np.array([[0.1, 0.9], [0.0, 0.0]])
    np.testing.assert_allclose(scale_inside(z, mask, low=0.1, high=0.9), expected, atol=1e-6)


def test_scaling_a_constant_or_empty_foreground_is_finite() -> None:
    z, everywhere = np.full((3, 3), 0.5, np.float32), np.ones((3, 3), bool)
    np.testing.assert_array_equal(scale_inside(z, everywhere, low=0.1, high=0.9), np.full((3, 3), 0.5))
    np.testing.assert_array_equal(scale_inside(z, ~everywhere, low=0.1, high=0.9), np.zeros((3, 3)))
    np.testing.assert_array_equal(scale_inside(0 * z, everywhere, low=0.1, high=0.9), np.zeros((3, 3)))


def test_an_empty_table_is_all_zero() -> None:
    xyz, _ = scene(thickness=0.0)
    view = Depth(Depth.Config())({"xyz": xyz}, image_size=64)
    assert not view.any()


def test_filling_takes_the_mean_of_known_neighbours_only() -> None:
    depth = np.zeros((3, 5), np.float32)
    depth[1, 0], depth[0, 1] = 0.2, 0.4
    once = fill_holes(depth, passes=1)
    expected = np.array([[0.3, 0.4, 0.4, 0.0], [0.2, 0.3, 0.4, 0.0], [0.2, 0.2, 0.0, 0.0]])
    np.testing.assert_allclose(once[:, :4], expected, atol=1e-6)
    np.testing.assert_array_equal(fill_holes(depth, passes=0), depth)
    assert fill_holes(depth, passes=4).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), holes=st.floats(0, 0.9), size=st.sampled_from([16, 50, 64]))
def test_depth_is_finite_and_within_zero_and_one(seed: int, holes: float, size: int) -> None:
    xyz, _ = scene(seed=seed)
    xyz[np.random.default_rng(seed).random(xyz.shape[:2]) < holes] = 0
    view = Depth(Depth.Config())({"xyz": xyz}, image_size=size)
    assert view.shape == (1, size, size)
    assert bool(view.isfinite().all())
    assert float(view.min()) >= 0
    assert float(view.max()) <= 1


def test_depth_takes_float64_and_refuses_the_rest() -> None:
    xyz, _ = scene()
    depth = Depth(Depth.Config())
    torch.testing.assert_close(
        depth({"xyz": xyz.astype(np.float64)}, image_size=64), depth({"xyz": xyz}, image_size=64)
    )
    cases: list[tuple[np.ndarray, str]] = [
        (xyz[..., :2], r"expected float \(H, W, 3\), found float32 \(96, 120, 2\)"),
        (xyz[0, :, 2], r"expected float \(H, W, 3\), found float32 \(120,\)"),
        (np.zeros((9, 9, 3), np.uint8), r"expected float \(H, W, 3\), found uint8"),
        (np.where(xyz > 0.5, np.inf, xyz), "holds infinite values; set pixels without a measurement to NaN"),
        (np.zeros_like(xyz), "no pixel holds a measurement"),
    ]
    for wrong, message in cases:
        with pytest.raises(DataError, match=message):
            depth({"xyz": wrong}, image_size=64)
