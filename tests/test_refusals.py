"""What the parts of a model refuse, in one line that says what was expected."""

from __future__ import annotations

import pytest
import torch
from together import SPEC, build_model

from crdkit.errors import ConfigError, CrdkitError, DataError, UnknownNameError
from crdkit.model.encoders import efficientnet_lite, encoders
from crdkit.model.layers import FeatureSpec


@pytest.mark.parametrize(
    ("channels", "sizes", "message"),
    [
        ((), (), r"^a pyramid needs one size per level, got channels=\(\) sizes=\(\)$"),
        ((4, 8), (8,), r"^a pyramid needs one size per level, got channels=\(4, 8\) sizes=\(8,\)$"),
        ((4, 8), (4, 8), r"^levels must run from fine to coarse, got sizes=\(4, 8\)$"),
    ],
)
def test_pyramids_that_are_none(channels, sizes, message):
    with pytest.raises(ConfigError, match=message):
        FeatureSpec(channels=channels, sizes=sizes, signed=False)
    FeatureSpec(channels=(4, 8), sizes=(8, 8), signed=False)  # two levels may have one size


def test_a_model_without_teachers_reads_no_images():
    model = build_model()
    assert model.specs == dict.fromkeys("ab", SPEC)
    with pytest.raises(CrdkitError, match=r"^this model has no teachers, so it cannot read images: pass"):
        model({name: torch.zeros(1, 3, 8, 8) for name in "ab"})


def test_weights_that_are_not_those_of_the_package(monkeypatch, tmp_path):
    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr("importlib.util.find_spec", lambda _: Spec)
    with pytest.raises(ConfigError, match=r"^the package some-weights with the teacher's weights is not installed;"):
        efficientnet_lite.weight_file("some_weights", sha256="0" * 64)
    (tmp_path / "models").mkdir()
    file = tmp_path / "models/net.pth"
    file.write_bytes(b"damaged")
    with pytest.raises(DataError, match=rf"^{file}: SHA-256 is [0-9a-f]{{64}}, expected 0{{64}}; reinstall"):
        efficientnet_lite.weight_file("some_weights", sha256="0" * 64)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "resnet18.tv_in2k",
            r"^unknown weights of a timm model 'resnet18\.tv_in2k' - did you mean",
        ),
        ("resnet81", r"^unknown timm model 'resnet81' - did you mean"),
    ],
)
def test_models_that_timm_does_not_have(model, message):
    with pytest.raises(UnknownNameError, match=message):
        encoders.build(encoders.build_config({"name": "timm", "model": model, "pretrained": False}), load_weights=False)
