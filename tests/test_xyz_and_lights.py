"""XYZ as three channels in one fixed window, and several lights as one image."""

from __future__ import annotations

import numpy as np
import pytest

from crdkit.errors import ConfigError, DataError
from crdkit.testing import example_sensors
from crdkit.views.lights import Lights
from crdkit.views.rgb import RGB
from crdkit.views.xyz import XYZ

LIGHTS = tuple(f"image_{number}" for number in range(6))


def box_on_table(*, shift: tuple[float, float] = (0.0, 0.0), thickness: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    """Return a scan (64, 64, 3) of a level table with a box, metres, and the box's mask."""
    rows, columns = np.mgrid[:64, :64]
    xyz = np.stack([columns * 0.002 + shift[0], rows * 0.002 + shift[1], np.full((64, 64), 0.6)], axis=-1)
    solid = (np.abs(rows - 32) <= 10) & (np.abs(columns - 30) <= 15)
    xyz[solid, 2] -= thickness
    return xyz, solid


# --- xyz


def test_coordinates_are_metres_in_a_fixed_window_around_the_object() -> None:
    xyz, solid = box_on_table()
    view = XYZ(XYZ.Config())({"xyz": xyz}, image_size=64).numpy()
    rows, columns = np.mgrid[:64, :64]
    np.testing.assert_allclose(view[0][solid], 0.5 + (columns - 30)[solid] * 0.002 / 0.3, atol=1e-6)
    np.testing.assert_allclose(view[1][solid], 0.5 + (rows - 32)[solid] * 0.002 / 0.3, atol=1e-6)
    np.testing.assert_allclose(view[2][solid], 0.03 / 0.1, atol=1e-6)
    assert not view[:, ~solid].any()


def test_moving_the_scan_changes_nothing_and_a_taller_part_looks_taller() -> None:
    first, moved, taller = (
        XYZ(XYZ.Config())({"xyz": box_on_table(**options)[0]}, image_size=64).numpy()
        for options in ({}, {"shift": (0.1, -0.2)}, {"thickness": 0.04})
    )
    np.testing.assert_allclose(moved, first, atol=1e-5)
    assert taller[2].max() - first[2].max() == pytest.approx(0.01 / 0.1, abs=1e-5)


def test_holes_are_zero_and_what_leaves_the_window_is_clipped() -> None:
    xyz, solid = box_on_table(thickness=0.2)
    xyz[30:34, 28:32] = 0
    view = XYZ(XYZ.Config(width=0.02))({"xyz": xyz}, image_size=64).numpy()
    assert not view[:, 30:34, 28:32].any()
    assert view[0][solid & (xyz[..., 2] != 0)].max() == 1
    assert view[2].max() == 1


def test_without_a_plane_height_counts_from_the_farthest_point() -> None:
    xyz, solid = box_on_table()
    view = XYZ(XYZ.Config(plane="none"))({"xyz": xyz}, image_size=64).numpy()
    np.testing.assert_allclose(view[2], np.where(solid, 0.3, 0), atol=1e-6)


def test_the_window_does_not_depend_on_where_z_points() -> None:
    xyz, _ = box_on_table()
    view, flipped = (XYZ(XYZ.Config())({"xyz": scan}, image_size=64).numpy() for scan in (xyz, xyz * (1, 1, -1)))
    np.testing.assert_allclose(flipped, view, atol=1e-6)


def test_other_scans_are_refused() -> None:
    with pytest.raises(DataError, match=r"sensor 'xyz': expected float \(H, W, 3\), found float64 \(64, 64\)"):
        XYZ(XYZ.Config())({"xyz": box_on_table()[0][..., 2]}, image_size=64)
    with pytest.raises(DataError, match="sensor 'xyz': no pixel holds a measurement"):
        XYZ(XYZ.Config())({"xyz": np.full((9, 9, 3), np.nan)}, image_size=64)


# --- lights


def test_channels_are_mean_spread_and_maximum_over_the_lights() -> None:
    greys = {"left": 51, "right": 153}
    stack = {name: np.full((20, 20), grey, np.uint8) for name, grey in greys.items()}
    view = Lights(Lights.Config(sensors=("left", "right")))(stack, image_size=16).numpy()
    np.testing.assert_allclose(view[:, 5, 5], [0.4, 2 * 0.2, 0.6], atol=1e-6)
    coloured = {name: np.repeat(image[..., None], 3, axis=2) for name, image in stack.items()}
    np.testing.assert_allclose(
        Lights(Lights.Config(sensors=("left", "right")))(coloured, image_size=16).numpy(), view, atol=1e-6
    )


def test_the_greatest_spread_is_one() -> None:
    stack = {"off": np.zeros((16, 16), np.uint8), "on": np.full((16, 16), 255, np.uint8)}
    view = Lights(Lights.Config(sensors=("off", "on")))(stack, image_size=16)
    assert view[:, 0, 0].tolist() == [0.5, 1.0, 1.0]


def test_the_order_of_the_lights_does_not_matter() -> None:
    sensors = example_sensors(LIGHTS)
    view = Lights(Lights.Config())(sensors, image_size=32)
    reverse = Lights(Lights.Config(sensors=LIGHTS[::-1]))(sensors, image_size=32)
    np.testing.assert_allclose(view, reverse, atol=1e-6)


def test_relief_shows_in_the_spread_more_than_in_the_mean() -> None:
    changes = np.zeros(3)
    for index in range(4):
        dented, intact = (
            Lights(Lights.Config())(
                example_sensors(LIGHTS, size=(96, 96), kind="capsule", defect=defect, keyed_by="dent", index=index),
                image_size=96,
            ).numpy()
            for defect in ("dent", None)
        )
        changes += np.abs(dented - intact).mean(axis=(1, 2))
    assert changes[1] > 1.5 * changes[0]


def test_six_lights_are_six_modalities_by_name() -> None:
    sensors = example_sensors(LIGHTS)
    views = [RGB(RGB.Config(sensor=name)) for name in LIGHTS]
    assert [view.sensors for view in views] == [(name,) for name in LIGHTS]
    assert len({view(sensors, image_size=32).numpy().tobytes() for view in views}) == 6


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            np.zeros((9, 9), np.uint16),
            r"sensor 'b': expected uint8 \(H, W\) or \(H, W, 3\), found uint16 \(9, 9\); convert",
        ),
        (
            np.zeros((9, 9, 4), np.uint8),
            r"found uint8 \(9, 9, 4\); convert it to 8-bit RGB or grey \(no alpha channel\)",
        ),
        (np.zeros((0, 9), np.uint8), r"found uint8 \(0, 9\)"),
        (np.zeros(9, np.uint8), r"found uint8 \(9,\)"),
        (
            np.zeros((9, 8), np.uint8),
            r"found uint8 \(9, 8\), but sensor 'a' holds uint8 \(9, 9\); all lights must show",
        ),
    ],
)
def test_other_stacks_are_refused(second: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Lights(Lights.Config(sensors=("a", "b")))({"a": np.zeros((9, 9), np.uint8), "b": second}, image_size=16)


def test_one_light_is_no_stack() -> None:
    from crdkit.views import views

    with pytest.raises(ConfigError, match="sensors"):
        views.build_config({"name": "lights", "sensors": ["image_0"]})
