"""A user's own network as a teacher: measured, frozen, saved with the detector, and refused with clear errors."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

import crdkit
from crdkit.detector import Detector
from crdkit.errors import ConfigError, UnknownNameError
from crdkit.model.encoders import encoders
from crdkit.model.encoders.module import ModuleConfig, ModuleEncoder
from crdkit.model.layers import FeatureSpec

FOUR_LEVELS = """
from torch import nn

class Pyramid(nn.Module):
    def __init__(self):
        super().__init__()
        widths = (3, 4, 6, 8, 10)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU()) for a, b in zip(widths, widths[1:])
        )

    def forward(self, images):
        levels = []
        for stage in self.stages:
            images = stage(images)
            levels.append(images)
        return levels
"""


def teacher(target="teachers:build", **options):
    return ModuleEncoder(ModuleConfig(target=target, **options))


def test_channels_and_strides_are_measured():
    part = teacher(image_size=48)
    assert (part.channels, part.strides) == ((5, 9), (4, 8))
    assert part.spec(32) == FeatureSpec(channels=(5, 9), sizes=(12, 6), signed=True)


def test_images_are_normalised_with_the_networks_own_mean_and_std():
    part = teacher(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    images = torch.rand(2, 3, 16, 16)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.1, 0.2, 0.3), (0.5, 0.25, 2.0)))
    for mine, theirs in zip(part(images), part.network((images - mean) / std), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_random_weights_are_the_same_every_time_and_leave_the_global_seed():
    first = teacher()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    second = teacher()
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


def test_a_detector_holds_its_weights_and_imports_its_code_again(tiny, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "factory_teacher.py").write_text(FOUR_LEVELS)
    run = tiny.with_overrides(
        "modalities.rgb.encoder={name: module, target: 'factory_teacher:Pyramid'}",
        "modalities.depth.encoder={name: module, target: 'teachers:build', image_size: 40}",
        "training.epochs=1",
    )
    detector = crdkit.fit(run)
    assert detector.model.specs["rgb"] == FeatureSpec(channels=(4, 6, 8, 10), sizes=(32, 16, 8, 4), signed=False)
    assert detector.model.specs["depth"].sizes == (10, 5)
    with torch.no_grad():  # weights that building anew cannot give
        detector.model.teachers["rgb"].network.stages[0][0].weight.mul_(1.5)
    sensors = {
        "rgb": np.full((64, 64, 3), 90, np.uint8),
        "xyz": np.random.default_rng(0).random((64, 64, 3), dtype=np.float32),
    }
    expected = detector.predict(sensors).anomaly_map
    detector.save(tmp_path / "detector")
    np.testing.assert_allclose(
        Detector.load(tmp_path / "detector", device="cpu").predict(sensors).anomaly_map, expected
    )
    del sys.modules["factory_teacher"]
    (tmp_path / "factory_teacher.py").unlink()
    with pytest.raises(ConfigError, match=r"factory_teacher:Pyramid\) cannot be imported: .*PYTHONPATH"):
        Detector.load(tmp_path / "detector", device="cpu")


class Returns(nn.Module):
    def __init__(self, result):
        super().__init__()
        self.result = result

    def forward(self, images):
        return self.result(images)


class Leaks(nn.Module):
    def forward(self, images):
        with torch.enable_grad():
            return [images * torch.ones(1, requires_grad=True)]


def returns(result, **declared):
    def build():
        network = Returns(result)
        for name, value in declared.items():
            setattr(network, name, value)
        return network

    return build


def fails():
    raise OSError("weights.bin is missing")


MODULE = {
    "number": 3,
    "function": lambda: print,
    "needs_arguments": lambda depth: nn.Identity(),
    "fails": fails,
    "tensor": returns(lambda images: images),
    "nothing": returns(lambda images: []),
    "names": returns(lambda images: {"fine": images}),
    "integers": returns(lambda images: [images.long()]),
    "vectors": returns(lambda images: [images.mean(dim=(2, 3))]),
    "oblong": returns(lambda images: [images[..., 1:]]),
    "leaks": Leaks,
    "wrong_channels": returns(lambda images: [images], channels=(4,)),
    "wrong_strides": returns(lambda images: [images], strides=[2]),
    "fixed_size": returns(lambda images: [images + torch.zeros(1, 3, 7, 7)]),
    "coarse_first": returns(lambda images: [images[..., ::2, ::2], images]),
}


@pytest.fixture
def my_package(monkeypatch):
    module = types.ModuleType("my_teachers")
    vars(module).update(MODULE)
    monkeypatch.setitem(sys.modules, "my_teachers", module)


MAPS = r"encoder 'module' must return a list of \(B, C, S, S\) float maps, fine to coarse, but returned "


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("number", r"encoder\.target \(=my_teachers:number\) must be a callable .* but is a int"),
        ("function", "must return an nn.Module, but returned a builtin_function_or_method"),
        ("needs_arguments", "failed when called without arguments: TypeError.*'depth'"),
        ("fails", r"failed when called without arguments: OSError\('weights.bin is missing'\)"),
        ("tensor", MAPS + "Tensor"),
        ("nothing", MAPS + "an empty list"),
        ("names", MAPS + "dict"),
        ("integers", MAPS + r"torch\.int64 as level 0"),
        ("vectors", MAPS + r"shape \(1, 3\) as level 0"),
        ("oblong", MAPS + r"shape \(1, 3, 224, 223\) as level 0"),
        ("leaks", "encoder 'module' lets gradients through level 0: a teacher is frozen"),
        ("wrong_channels", r"declares channels \(4,\), but images of 224 x 224 give \(3,\)"),
        ("wrong_strides", r"declares strides \(2,\), but images of 224 x 224 give \(1,\)"),
        ("fixed_size", r"cannot process images of 224 x 224: The size of tensor.*set encoder\.image_size"),
    ],
)
def test_networks_that_do_not_fit_the_contract(name, message, my_package):
    with pytest.raises(ConfigError, match=message):
        teacher(f"my_teachers:{name}")


def test_levels_must_run_from_fine_to_coarse(my_package):
    with pytest.raises(ConfigError, match="levels must run from fine to coarse"):
        teacher("my_teachers:coarse_first").spec(64)


def test_targets_that_name_nothing(my_package):
    with pytest.raises(ConfigError, match=r"encoder\.target is missing: give package\.module:callable"):
        ModuleEncoder(ModuleConfig())
    with pytest.raises(ConfigError, match=r"\(=no_such_package\.teachers:build\) cannot be imported: No module named"):
        teacher("no_such_package.teachers:build")
    with pytest.raises(UnknownNameError, match=r"my_teachers of encoder\.target: 'number1' - did you mean 'number'\?"):
        teacher("my_teachers:number1")
    with pytest.raises(ConfigError, match=r"target \(='my_teachers\.build'\): string should match pattern"):
        encoders.build_config({"name": "module", "target": "my_teachers.build"})
