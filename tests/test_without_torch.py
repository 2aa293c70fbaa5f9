"""Views where PyTorch is not installed: a program beside a camera prepares them with NumPy, Pillow and SciPy."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from crdkit.data.synthetic import POLARISERS
from crdkit.data.synthetic.sensors import LIGHT_SENSORS
from crdkit.testing import example_sensors
from crdkit.views import View, ViewConfig, views
from crdkit.views.geometry import resize_bilinear
from tests.blocked import run_without

HEAVY = (
    "torch", "torchvision", "timm", "einops", "safetensors", "onnx", "onnxruntime", "typer", "rich", "jinja2",
    "matplotlib", "filelock",
)  # fmt: skip
PROGRAM = """
import json, pathlib, sys
import numpy as np
from crdkit.data.images import read_file
from crdkit.views import views

folder = pathlib.Path(sys.argv[1])
sensors = {file.stem: read_file(file) for file in folder.glob("*.npy")}
known = views.names()
for place, options in enumerate(json.loads((folder / "views.json").read_text())):
    view = views.build(views.build_config(options))
    np.save(folder / f"{place}.view", view.array(sensors, image_size=48))
    pathlib.Path(folder / f"{place}.view.npy").rename(folder / f"{place}.out")
print(json.dumps(known))
"""
VIEWS = (
    {"name": "rgb"},
    {"name": "depth"},
    {"name": "depth", "mode": "published"},
    {"name": "depth", "sensor": "z", "mode": "none"},
    {"name": "normals"},
    {"name": "normals", "mode": "trd"},
    {"name": "normals", "sensor": "rgb", "decode": True},
    {"name": "xyz"},
    {"name": "lights", "sensors": ["image_0", "image_3"]},
    {"name": "single_channel", "sensor": "thermal"},
    {"name": "infrared"},
    {"name": "curvature"},
    {"name": "roughness"},
    {"name": "photometric_normals"},
    {"name": "albedo"},
    {"name": "polarisation"},
)


def test_every_view_gives_the_same_bytes_without_torch(tmp_path):
    sensors = dict(example_sensors(["rgb", "xyz", *LIGHT_SENSORS, "thermal", "infrared", *POLARISERS], size=(70, 90)))
    sensors["z"] = np.ascontiguousarray(sensors["xyz"][..., 2])
    folder = tmp_path / "sample"
    folder.mkdir()
    for name, array in sensors.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "views.json").write_text(json.dumps(VIEWS))
    program = tmp_path / "prepare.py"
    program.write_text(PROGRAM)
    done = run_without(HEAVY, program, folder)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {options["name"] for options in VIEWS}  # each of crdkit's is there, and here
    for place, options in enumerate(VIEWS):
        expected = views.build(views.build_config(options))(sensors, image_size=48)
        found = np.load(folder / f"{place}.out")
        assert isinstance(expected, torch.Tensor)
        assert found.dtype == np.float32
        assert found.tobytes() == expected.numpy().tobytes(), options


@pytest.mark.parametrize(("height", "width", "size"), [(400, 400, 256), (500, 400, 224), (31, 77, 64), (9, 5, 1)])
def test_bilinear_resizing_is_that_of_torch(height, width, size):
    planes = np.random.default_rng(0).random((3, height, width)).astype(np.float32)
    found = resize_bilinear(planes, size)
    expected = torch.nn.functional.interpolate(torch.from_numpy(planes)[None], size=(size, size), mode="bilinear")[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2.5e-7)
    assert all(first >= second for first, second in pairwise(found.strides))  # C order


class Tensors(View):
    """A view that is written for tensors."""

    sensors = ("rgb",)

    def __call__(self, sensors, *, image_size):
        return torch.full((1, image_size, image_size), float(sensors["rgb"].mean() / 255))


class Neither(View):
    """A view that is not finished."""

    sensors = ("rgb",)


def test_a_view_written_for_tensors_gives_arrays_too():
    view, sensors = Tensors(ViewConfig(name="tensors")), example_sensors(["rgb"])
    assert np.array_equal(view.array(sensors, image_size=8), view(sensors, image_size=8).numpy())


def test_a_view_that_defines_nothing_says_what_is_missing():
    with pytest.raises(NotImplementedError, match=r"^Neither must define array, or __call__$"):
        Neither(ViewConfig(name="neither"))(example_sensors(["rgb"]), image_size=8)
