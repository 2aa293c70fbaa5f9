"""Every part that an exported file holds: aggregations and scores as operators, and views of tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from crdkit.data.synthetic import POLARISERS
from crdkit.detector._export_onnx import open_session
from crdkit.detector._export_plan import make_plan
from crdkit.detector._onnx import OLDEST_TORCH, export_network
from crdkit.detector.view_networks import Stored, as_network, bilinear_weights, resize_bytes, resize_floats
from crdkit.errors import ConfigError
from crdkit.scoring.aggregations import aggregations
from crdkit.scoring.scores import FusedMaps, scores
from crdkit.testing import example_sensors
from crdkit.testing.examples import EXAMPLES
from crdkit.views import views
from crdkit.views.geometry import resize_float

NAMES = ("rgb", "depth", "infrared")


class Everything(nn.Module):
    """All aggregations, with and without missing branches, and all scores."""

    def __init__(self):
        super().__init__()
        normals = {name: torch.rand(4, 16, 16) for name in NAMES}
        self.aggregations, self.scores = nn.ModuleList(), nn.ModuleList()
        for name in aggregations:
            options = EXAMPLES.get(("aggregation", name), {}).get("options", {})
            part = aggregations.build(aggregations.build_config({"name": name, **options}), modalities=NAMES)
            part.calibrate(normals)
            self.aggregations.append(part)
        for name in scores:
            for options in ({}, {"over": "object"}, {"over": "all"}):
                if not options or "over" in scores.get(name).Config.model_fields:
                    part = scores.build(scores.build_config({"name": name, **options}), sigma=1, size=16)
                    part.calibrate(FusedMaps(raw=normals["rgb"], smoothed=normals["rgb"]))
                    self.scores.append(part)

    def forward(self, inputs):
        maps, present = dict(zip(NAMES, inputs[:3], strict=True)), dict(zip(NAMES, inputs[3:], strict=True))
        fused = FusedMaps(raw=inputs[0], smoothed=inputs[1], foreground=inputs[2] > 0.5)
        found = [part.fuse(maps) for part in self.aggregations]
        found += [part.fuse(maps, present) for part in self.aggregations]
        return [*found, *(part(fused) for part in self.scores)]


@pytest.mark.skipif(torch.__version__ < OLDEST_TORCH, reason=f"exporting asks for torch {OLDEST_TORCH}")
@torch.no_grad()
def test_every_aggregation_and_score_can_be_exported(tmp_path):
    network = Everything().eval()

    def sample(count):
        present = [torch.tensor([True] * count), torch.arange(count) % 2 == 0, torch.arange(count) % 3 == 0]
        return [*(torch.rand(count, 16, 16) * 1.5 for _ in NAMES), *present]

    export_network(network, sample(2), tmp_path / "parts.onnx")
    session = open_session(tmp_path / "parts.onnx")
    names = [value.name for value in session.get_inputs()]
    for count in (1, 4):
        given = sample(count)
        found = session.run(None, dict(zip(names, (tensor.numpy() for tensor in given), strict=True)))
        for one, expected in zip(found, network(given), strict=True):
            np.testing.assert_allclose(one, expected.numpy(), rtol=1e-4, atol=1e-5)


def image(channels, dtype, size=(90, 130)):
    high = 255 if dtype == np.uint8 else 65535
    shape = size if channels == 1 else (*size, channels)
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


CASES = {
    "rgb": ({"name": "rgb"}, {"rgb": example_sensors(["rgb"], size=(90, 130))["rgb"]}),
    "lights, colour": (
        {"name": "lights", "sensors": ["a", "b", "c"]},
        {name: image(3, np.uint8) // shade for name, shade in (("a", 1), ("b", 2), ("c", 3))},
    ),
    "lights, grey": (
        {"name": "lights", "sensors": ["a", "b"]},
        {name: image(1, np.uint8) // shade for name, shade in (("a", 1), ("b", 2))},
    ),
    "uint16": ({"name": "single_channel", "sensor": "heat"}, {"heat": image(1, np.uint16)}),
    "uint16 in a range": (
        {"name": "single_channel", "sensor": "heat", "range": [9000, 30000]},
        {"heat": image(1, np.uint16)},
    ),
    "floats with gaps": (
        {"name": "single_channel", "sensor": "heat", "range": [-3, 7.5], "missing": 2},
        {"heat": np.where(image(1, np.uint8) < 20, np.nan, image(1, np.uint16) / 5000 - 4).astype(np.float32)},
    ),
    "polarisation": (
        {"name": "polarisation", "largest": 0.5, "black": 700},
        {name: image(1, np.uint16) // shade for shade, name in enumerate(POLARISERS, start=1)},
    ),
    "polarisation, stacked": (
        {"name": "polarisation", "sensors": ["a"], "angles": [0, 60, 120]},
        {"a": np.where(image(3, np.uint8) < 5, np.nan, image(3, np.uint8) / 255).astype(np.float32)},
    ),
    "normals": ({"name": "normals", "sensor": "normals"}, {"normals": image(3, np.uint8)}),
    "normals, decoded": ({"name": "normals", "sensor": "normals", "decode": True}, {"normals": image(3, np.uint8)}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_network_gives_what_its_view_gives(case):
    options, sensors = CASES[case]
    view = views.build(views.build_config(options))
    stored = {
        name: Stored(dtype=str(array.dtype), channels=1 if array.ndim == 2 else array.shape[2])
        for name, array in sensors.items()
    }
    for size in (32, 64, 90):
        network = as_network(view, image_size=size, stored=stored)
        found = network({name: torch.from_numpy(array.copy())[None] for name, array in sensors.items()})
        expected = view(sensors, image_size=size)
        assert (found.shape, found.dtype) == ((1, *expected.shape), torch.float32)
        exact = case in ("rgb", "normals")
        assert (found[0] - expected).abs().max() <= (0 if exact else 2e-6)


@pytest.mark.parametrize("name", ["depth", "xyz", "normals", "curvature", "roughness"])
def test_views_of_scans_are_made_outside(name):
    view = views.build(views.build_config(name))
    stored = {"xyz": Stored(dtype="float32", channels=3)}
    assert as_network(view, image_size=32, stored=stored) is None
    assert view(example_sensors(["xyz"]), image_size=32).shape[0] == view.channels


def test_sensors_of_unknown_kind_are_prepared_outside():
    for options in ({"name": "infrared"}, {"name": "lights"}, {"name": "polarisation"}):
        assert as_network(views.build(views.build_config(options)), image_size=32, stored={}) is None


def test_floats_are_resized_as_pillow_does():
    values = np.random.default_rng(0).random((70, 101, 3), np.float32)
    for size in (12, 70, 128):
        found = resize_floats(torch.from_numpy(values).permute(2, 0, 1), size).numpy()
        np.testing.assert_allclose(found, resize_float(values, size).transpose(2, 0, 1), atol=1e-6)
    assert torch.equal(bilinear_weights(9, 9), torch.eye(9))
    assert resize_bytes(torch.full((1, 5, 7), 255.0), 3).unique().tolist() == [255.0]


def test_a_sensor_whose_name_is_an_output_is_prepared_outside_and_a_clash_is_refused(tiny):
    run = tiny.with_overrides("modalities.rgb.sensor=score", "modalities.depth=null")
    options = {"channels": {"rgb": 3}, "sensor_statistics": {}, "thresholds": None}
    view = views.build(views.build_config({"name": "rgb", "sensor": "score"}))
    plan = make_plan(run, {"rgb": view}, **options)
    assert plan.input_names == ("rgb_view", "threshold", "pixel_threshold")
    scan = views.build(views.build_config("depth"))
    with pytest.raises(ConfigError, match=r"modalities score_a, a_view give 'score_a_view' for two inputs or outputs"):
        make_plan(run, {"score_a": scan, "a_view": scan}, **(options | {"channels": {"score_a": 1, "a_view": 1}}))
