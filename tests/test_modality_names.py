"""Names of modalities that a run cannot hold are refused when its configuration is read, in one clear line."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crdkit.config import RunConfig
from crdkit.errors import ConfigError
from crdkit.model.crd import CRD
from crdkit.model.graph import CrossmodalGraph, Edge
from crdkit.model.layers import FeatureSpec
from crdkit.model.projections import projections

QUICK = RunConfig.preset("quick")


@pytest.mark.parametrize("name", ["float", "values", "type", "keys", "pop", "training", "_modules", "__init__"])
def test_a_name_that_pytorch_has_taken(name):
    with pytest.raises(ConfigError, match=f"modality '{name}': PyTorch uses this name for itself; choose another"):
        QUICK.with_overrides(f"modalities.{name}={{name: rgb}}")


def test_exactly_what_a_module_dict_cannot_hold_is_refused():
    for name in {*dir(nn.ModuleDict()), "rgb", "depth", "Float", "keys_view", "ünïcode", "_", "__mangled__"}:
        edge = Edge(source=name, target="x", filter=projections.build_config("identity"), amplifier=None)
        try:
            nn.ModuleDict({name: nn.Identity()})
        except KeyError:
            with pytest.raises(ConfigError, match="choose another"):
                CrossmodalGraph(modalities=(name, "x"), edges=(edge,))
            continue
        graph = CrossmodalGraph(modalities=(name, "x"), edges=(edge,))
        spec = FeatureSpec(channels=(4,), sizes=(4,), signed=True)
        model = CRD(specs={name: spec, "x": spec}, graph=graph)
        out = model.distill({name: [torch.rand(1, 4, 4, 4)], "x": [torch.rand(1, 4, 4, 4)]})
        assert set(out.output) == {name, "x"}


@pytest.mark.parametrize(("name", "what"), [("fused", "the result of all modalities together"), ("mask", "the ground")])
def test_names_that_tables_and_reports_use(name, what):
    with pytest.raises(ConfigError, match=f"modality '{name}': this name stands for {what}.*e.g. '{name}_view'"):
        QUICK.with_overrides(f"modalities.{name}={{name: rgb}}")


def test_a_name_must_be_an_identifier_of_moderate_length():
    QUICK.with_overrides(f"modalities.{'a' * 100}={{name: rgb}}")
    with pytest.raises(ConfigError, match="has 101 characters; use 100 at most"):
        QUICK.with_overrides(f"modalities.{'a' * 101}={{name: rgb}}")
    with pytest.raises(ConfigError, match="may only contain letters, digits and _"):
        CrossmodalGraph(modalities=("a.b",))
