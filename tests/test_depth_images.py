"""Depth from an image without X and Y: the background is found whatever the camera, or there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_modalities import scene

from crdkit.data.images import resize_nearest
from crdkit.errors import DataError
from crdkit.views._background import foreground
from crdkit.views.depth import Depth


def depth_image(*, focal_length: float, tilt: tuple[float, float], thickness: float) -> tuple[np.ndarray, np.ndarray]:
    """Return what a pin-hole camera sees of a tilted table with a box on it, (80, 120) metres, and the box's mask."""
    rows, columns = np.mgrid[:80, :120]
    u, v = (columns - 59.5) / focal_length, (rows - 39.5) / focal_length
    depth = 0.7 / (1 - tilt[0] * u - tilt[1] * v)
    solid = (np.abs(columns - 40) < 20) & (np.abs(rows - 45) < 15)
    return (depth - thickness * solid).astype(np.float32), solid


@pytest.mark.parametrize("focal_length", [60.0, 166.7, 900.0])
@pytest.mark.parametrize("tilt", [(0.0, 0.0), (0.3, -0.2)])
def test_the_table_of_a_depth_image_is_found_whatever_the_focal_length(
    focal_length: float, tilt: tuple[float, float]
) -> None:
    depth, solid = depth_image(focal_length=focal_length, tilt=tilt, thickness=0.02)
    depth += np.random.default_rng(0).normal(0, 0.0002, depth.shape).astype(np.float32)
    options = {"sensor": "depth", "closing": 0, "fill_passes": 0}
    view = Depth(Depth.Config.model_validate(options))({"depth": depth}, image_size=120)[0].numpy()
    np.testing.assert_array_equal(view > 0, resize_nearest(solid, 120))


def test_a_depth_image_is_scaled_as_a_scan_is() -> None:
    xyz, _ = scene(slopes=(0.1, 0.0))
    from_scan = Depth(Depth.Config())({"xyz": xyz}, image_size=64)
    from_image = Depth(Depth.Config())({"xyz": xyz[..., 2]}, image_size=64)
    torch.testing.assert_close(from_image, from_scan, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", ["dome", "bowl", "ramp", "noise"])
@pytest.mark.parametrize("mode", ["robust", "none"])
def test_a_depth_image_without_background_survives(shape: str, mode: str) -> None:
    rows, columns = np.mgrid[-1:1:48j, -1:1:64j]
    depth = {
        "dome": 0.5 + 0.05 * (rows**2 + columns**2),
        "bowl": 0.6 - 0.05 * (rows**2 + columns**2),
        "ramp": 0.5 + 0.1 * columns,
        "noise": np.random.default_rng(0).uniform(0.5, 0.6, rows.shape),
    }[shape]
    view = Depth(Depth.Config.model_validate({"sensor": "depth", "mode": mode}))({"depth": depth}, image_size=48)
    assert bool(view.isfinite().all())
    if mode == "none":  # all that was measured is kept
        assert (float(view.min()), float(view.max())) == pytest.approx((0.1, 0.9))


def test_without_a_plane_holes_alone_are_background() -> None:
    xyz, _ = scene(thickness=0.0)
    xyz[:40] = 0
    assert (foreground(xyz, mode="none", closing=0) == (xyz[..., 2] != 0)).all()
    xyz[:] = 0
    with pytest.raises(DataError, match="sensor 'xyz': no pixel holds a measurement"):
        Depth(Depth.Config(mode="none"))({"xyz": xyz}, image_size=64)


def test_depth_images_of_integers_or_without_a_measurement_are_refused() -> None:
    depth = Depth(Depth.Config(sensor="depth"))
    with pytest.raises(
        DataError, match=r"sensor 'depth': expected float \(H, W\) in metres, found uint16 \(9, 9\); for"
    ):
        depth({"depth": np.ones((9, 9), np.uint16)}, image_size=32)
    with pytest.raises(DataError, match="sensor 'depth': no pixel holds a measurement"):
        depth({"depth": np.full((9, 9), np.nan)}, image_size=32)
