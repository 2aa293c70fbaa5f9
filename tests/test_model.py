"""The model over any graph and any pyramid: shapes, sharing, gradients, training of one small case."""

from __future__ import annotations

import itertools

import pytest
import torch

from crdkit.errors import ConfigError, CrdkitError
from crdkit.model import CRD
from crdkit.model.graph import CrossmodalGraph, Edge, topology_pairs
from crdkit.model.layers import FeatureSpec
from crdkit.model.projections import matching_levels, projections
from crdkit.model.projections.bottleneck import Bottleneck
from crdkit.model.projections.inverted_bottleneck import InvertedBottleneck
from crdkit.model.student import StudentConfig
from crdkit.training.losses import TERMS, crd_losses

CNN = FeatureSpec(channels=(4, 6, 10), sizes=(16, 8, 4), signed=False)
PLAIN = FeatureSpec(channels=(7, 7), sizes=(9, 9), signed=True)  # tokens of a vision transformer
ODD = FeatureSpec(channels=(3, 5, 8, 12), sizes=(28, 14, 7, 4), signed=True)
SPECS = {"cnn": CNN, "plain": PLAIN, "odd": ODD}


def build(specs, topology="full", *, filter_="bottleneck", amplifier="inverted_bottleneck", **options):
    edges = tuple(
        Edge(
            source=source,
            target=target,
            filter=projections.build_config(filter_) if filter_ else None,
            amplifier=projections.build_config(amplifier) if amplifier else None,
        )
        for source, target in topology_pairs(topology, list(specs))
    )
    graph = CrossmodalGraph(modalities=tuple(specs), edges=edges)
    return CRD(specs=specs, graph=graph, student=StudentConfig(depths=options.pop("depths", None)), **options)


def random_features(specs, batch=2):
    generator = torch.Generator().manual_seed(1)
    features = {}
    for name, spec in specs.items():
        levels = [
            torch.randn(batch, channels, size, size, generator=generator)
            for channels, size in zip(spec.channels, spec.sizes, strict=True)
        ]
        features[name] = levels if spec.signed else [level.relu() for level in levels]
    return features


def shapes(levels):
    return [tuple(level.shape) for level in levels]


@pytest.mark.parametrize("names", [*itertools.permutations(SPECS, 2), ("cnn", "plain", "odd")])
@pytest.mark.parametrize("merge", ["concat", "mean"])
def test_every_output_has_the_shapes_of_its_target(names, merge):
    specs = {name: SPECS[name] for name in names}
    features = random_features(specs)
    out = build(specs, merge=merge).distill(features)
    for target in names:
        expected = shapes(features[target])
        assert shapes(out.decoder[target]) == shapes(out.output[target]) == expected
        assert set(out.filtered[target]) == set(out.amplified[target]) == set(names) - {target}
        for levels in (*out.filtered[target].values(), *out.amplified[target].values()):
            assert shapes(levels) == expected


@pytest.mark.parametrize("filter_", [None, "bottleneck", "identity"])
@pytest.mark.parametrize("amplifier", [None, "inverted_bottleneck", "identity"])
def test_all_trained_parameters_get_gradients(filter_, amplifier):
    specs = {"a": CNN, "b": CNN}
    topology = "none" if filter_ is amplifier is None else "full"
    model = build(specs, topology, filter_=filter_, amplifier=amplifier)
    losses = crd_losses(model.distill(random_features(specs)))
    assert {name: list(terms) for name, terms in losses.items()} == {name: list(TERMS) for name in specs}
    for terms in losses.values():
        assert (terms["filter"] == 0) == (filter_ is None)
        assert (terms["amplifier"] == 0) == (terms["output"] == 0) == (amplifier is None)
        assert terms["decoder"] > 0
    sum(sum(terms.values()) for terms in losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.student_parameters())


def test_signed_targets_can_be_imitated_and_unsigned_ones_stay_non_negative():
    model = build({"signed": PLAIN, "unsigned": CNN})
    out = model.distill(random_features({"signed": PLAIN, "unsigned": CNN}))
    for levels in (out.output["signed"], out.filtered["signed"]["unsigned"], out.amplified["signed"]["unsigned"]):
        assert all((level < 0).any() for level in levels)
    for levels in (out.output["unsigned"], out.filtered["unsigned"]["signed"], out.amplified["unsigned"]["signed"]):
        assert all((level >= 0).all() for level in levels)


def test_mean_merge_costs_the_same_for_any_number_of_filters_and_equals_concat_for_one():
    def bottleneck_size(count, merge):
        specs = {f"m{index}": CNN for index in range(count)}
        bottleneck = build(specs, merge=merge).branch("m0").student.bottleneck
        return sum(parameter.numel() for parameter in bottleneck.parameters())

    assert bottleneck_size(2, "mean") == bottleneck_size(3, "mean") == bottleneck_size(4, "mean")
    assert bottleneck_size(2, "concat") == bottleneck_size(2, "mean") < bottleneck_size(3, "concat")


def test_merge_is_a_softmax_over_decoder_and_amplifiers():
    specs = {"a": CNN, "b": CNN, "c": CNN}
    model = build(specs).eval()
    features = random_features(specs)
    coarsest = model.branch("a").student.decoder.merge_weights[0]
    assert [len(weights) for weights in model.branch("a").student.decoder.merge_weights] == [3, 3, 3]
    with torch.no_grad():
        coarsest.copy_(torch.tensor([1.0, 2.0, 3.0]))
        out = model.distill(features)
        share = torch.softmax(coarsest, dim=0)
        expected = share[0] * out.decoder["a"][-1]
        expected = expected + share[1] * out.amplified["a"]["b"][-1] + share[2] * out.amplified["a"]["c"][-1]
    torch.testing.assert_close(out.output["a"][-1], expected)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_bottleneck_compresses_to_size_and_restores(size):
    spec = FeatureSpec(channels=(4, 8), sizes=(16, 8), signed=False)
    part = Bottleneck(Bottleneck.Config(size=size), source=spec, target=spec)
    smallest = []
    for module in part.levels:
        for layer in module:
            layer.register_forward_hook(lambda _module, _inputs, output: smallest.append(output.shape[-1]))
    levels = part([torch.randn(2, 4, 16, 16), torch.randn(2, 8, 8, 8)])
    assert shapes(levels) == [(2, 4, 16, 16), (2, 8, 8, 8)]
    assert min(smallest) == min(size, 16)


def test_bottleneck_takes_divisors_that_are_no_power_of_two():
    spec = FeatureSpec(channels=(4,), sizes=(30,), signed=False)
    part = Bottleneck(Bottleneck.Config(size=5), source=spec, target=spec)
    kernels = [layer.kernel_size for layer in part.levels[0] if hasattr(layer, "kernel_size")]
    assert kernels == [(2, 2), (3, 3), (3, 3), (2, 2)]
    assert shapes(part([torch.randn(1, 4, 30, 30)])) == [(1, 4, 30, 30)]


def test_expansion_sets_the_middle_channels():
    part = projections.get("inverted_bottleneck")(InvertedBottleneck.Config(expansion=4), source=CNN, target=CNN)
    assert [module[3].out_channels for module in part.levels] == [16, 24, 40]


def test_levels_are_matched_by_relative_depth():
    assert matching_levels(CNN, CNN) == (0, 1, 2)
    assert matching_levels(PLAIN, CNN) == (0, 0, 1)
    assert matching_levels(CNN, PLAIN) == (0, 2)
    single = FeatureSpec(channels=(3,), sizes=(4,), signed=False)
    assert matching_levels(CNN, single) == (0,)
    assert matching_levels(single, CNN) == (0, 0, 0)


def test_clear_errors():
    with pytest.raises(ConfigError, match="fine to coarse"):
        FeatureSpec(channels=(1, 2), sizes=(4, 8), signed=False)
    with pytest.raises(ConfigError, match="one size per level"):
        FeatureSpec(channels=(1, 2), sizes=(4,), signed=False)
    with pytest.raises(
        ConfigError, match=r"student\.depths \(=\[1\]\) needs an entry of 1 to 64 per teacher level \(3\)"
    ):
        build({"a": CNN}, depths=(1,))
    with pytest.raises(ConfigError, match=r"specs are for \['b'\], but the graph joins \['a'\]"):
        CRD(specs={"b": CNN}, graph=CrossmodalGraph(modalities=("a",)))
    model = build({"a": CNN})
    with pytest.raises(CrdkitError, match="features of modality 'a' are missing"):
        model.distill({"b": []})
    with pytest.raises(CrdkitError, match=r"features of 'a' have shapes \[\(4, 8, 8\)\], expected \[\(4, 16, 16\)"):
        model.distill({"a": [torch.zeros(1, 4, 8, 8)]})


def test_a_small_student_learns_to_imitate():
    specs = {"a": CNN, "b": CNN}
    torch.manual_seed(0)
    model = build(specs)
    features = {  # what normal parts have in common: here one vector of channels per level
        name: [level[:1, :, :1, :1] + 0.1 * level for level in levels]
        for name, levels in random_features(specs, batch=4).items()
    }
    optimizer = torch.optim.Adam(model.student_parameters(), lr=0.005, betas=(0.5, 0.999))
    totals = []
    for _ in range(15):
        optimizer.zero_grad()
        total = sum(sum(terms.values()) for terms in crd_losses(model.distill(features)).values())
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.85 * totals[0]


def test_one_depth_serves_branches_with_any_number_of_levels():
    model = build({"a": CNN, "b": FeatureSpec(channels=(4, 8), sizes=(16, 8), signed=False)}, depths=2)
    blocks = {name: [len(stage) for stage in model.branch(name).student.decoder.stages] for name in model.modalities}
    assert blocks == {"a": [2, 2, 2], "b": [2, 2]}
