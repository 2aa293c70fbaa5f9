"""Compiled predictions are those of PyTorch, whatever sensors are there, and what cannot be compiled says so."""

from __future__ import annotations

import copy
import pickle
import re
import sys
from functools import partial

import predictions
import pytest
import torch
from torch import nn

from crdkit.config.build import build_model, build_scorer
from crdkit.detector import Detector
from crdkit.detector._onnx import OLDEST_TORCH, CompiledBranch, CompiledTeacher
from crdkit.errors import ConfigError, CrdkitError
from crdkit.model import CRD
from crdkit.model.encoders import Encoder, encoders
from crdkit.model.graph import CrossmodalGraph, Edge
from crdkit.model.layers import FeatureSpec
from crdkit.model.projections import projections
from crdkit.model.projections.bottleneck import Bottleneck
from crdkit.model.projections.inverted_bottleneck import InvertedBottleneck
from crdkit.model.student import StudentConfig

pytestmark = [
    pytest.mark.skipif(torch.__version__ < OLDEST_TORCH, reason=f"compile asks for torch {OLDEST_TORCH}"),
    pytest.mark.usefixtures("export_once"),
]

SMALL = StudentConfig(depths=1, embedding_blocks=1)
"""An export takes as long as the network has layers."""
THREE = FeatureSpec(channels=(4, 8, 12), sizes=(16, 8, 4), signed=True)
TWO = FeatureSpec(channels=(6, 10), sizes=(8, 4), signed=False)


@pytest.fixture
def compiled(finished, export_once):
    return Detector.load(finished / "detector", device="cpu").compile()


same = partial(predictions.same, atol=1e-5)


def without_pytorch(detector, monkeypatch):
    """Let every network that PyTorch would run fail."""

    def refuse(*_arguments, **_options):
        raise AssertionError("PyTorch ran a network")

    for part in [*detector._predictor.engine.teachers.values(), *detector._predictor.engine.branches.values()]:
        monkeypatch.setattr(part, "forward", refuse)


def test_any_number_of_samples_is_predicted_as_before(detector, compiled, samples, monkeypatch):
    detector.attribution = compiled.attribution = "never"  # PyTorch computes attributions
    expected = [detector.predict(sample) for sample in samples]
    without_pytorch(compiled, monkeypatch)
    for one, sample in zip(expected, samples, strict=True):
        same(compiled.predict(sample), one)
    for one, many in zip(expected, compiled.predict_batch(samples), strict=True):
        same(many, one)
    for one, streamed in zip(expected, compiled.predict_stream(iter(samples), batch_size=2), strict=True):
        same(streamed, one)


def test_a_detector_that_is_moved_is_no_longer_compiled(finished, samples, monkeypatch):
    detector = Detector.load(finished / "detector", device="cpu")
    expected = detector.compile().predict(samples[0])
    for parameter in detector.model.branch("rgb").parameters():
        parameter.data.zero_()
    same(detector.predict(samples[0]), expected)  # as documented, until it is told
    assert detector.to("cpu").predict(samples[0]).scores["rgb"] != pytest.approx(expected.scores["rgb"], rel=1e-3)
    without_pytorch(detector, monkeypatch)
    with pytest.raises(AssertionError, match="PyTorch ran a network"):
        detector.predict(samples[0])


def test_a_detector_that_has_predicted_can_be_copied_and_pickled(finished, samples):
    detector = Detector.load(finished / "detector", device="cpu")
    expected = detector.predict(samples[0])
    same(pickle.loads(pickle.dumps(detector)).predict(samples[0]), expected)
    copied = copy.deepcopy(detector)
    for branch in detector._predictor.engine.branches.values():
        for parameter in branch.parameters():
            parameter.data.zero_()
    same(copied.predict(samples[0]), expected)


def test_samples_without_a_sensor_are_predicted_as_before(tiny, samples):
    config = tiny.with_overrides("training.modality_dropout=0.3")
    detector = Detector(config=config, model=build_model(config), scorer=build_scorer(config))
    some = [samples[0], {"rgb": samples[1]["rgb"]}, {"xyz": samples[2]["xyz"]}]
    expected = [*detector.predict_batch(some), *(detector.predict(sample) for sample in some)]
    detector.compile()
    found = [*detector.predict_batch(some), *(detector.predict(sample) for sample in some)]
    for one, other in zip(found, expected, strict=True):
        same(one, other)


def edge(source, target, filtered=True, amplified=True):
    return Edge(
        source=source,
        target=target,
        filter=Bottleneck.Config(size=2) if filtered else None,
        amplifier=InvertedBottleneck.Config() if amplified else None,
    )


def features_of(specs, count):
    return {
        name: [torch.rand(count, c, s, s) for c, s in zip(spec.channels, spec.sizes, strict=True)]
        for name, spec in specs.items()
    }


def test_levels_and_sources_reach_the_right_inputs():
    specs = {"a": THREE, "b": TWO, "c": THREE}
    edges = [("b", "a", True, True), ("c", "a", True, False), ("a", "b", False, True)]
    graph = CrossmodalGraph(modalities=tuple(specs), edges=tuple(edge(*ends) for ends in edges))
    model = CRD(specs=specs, graph=graph, merge="mean", student=SMALL).eval()
    example, others = features_of(specs, 2), features_of(specs, 3)
    with torch.no_grad():
        for name in ("a", "b"):
            branch = model.branch(name)
            found = CompiledBranch(branch, example, threads=1, name=name)(others)
            for level, expected in zip(found, branch(others).output, strict=True):
                torch.testing.assert_close(level, expected, rtol=1e-3, atol=1e-4)


class Reads(nn.Module):
    """A network that decides by what it sees."""

    def forward(self, images):
        return [images * 2 if images.mean() > 0.5 else images]


class Random(nn.Module):
    """A network that gives other values every time."""

    def forward(self, images):
        return [images + torch.rand_like(images)]


class Counts(nn.Module):
    """A network that an exporter takes for one of two samples."""

    def forward(self, images):
        return [images.reshape(len(images), 3, 64)]


class Alone(nn.Module):
    """A network that treats a single sample otherwise."""

    def forward(self, images):
        return [images * 2 if images.shape[0] == 1 else images]


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named(detector, samples, monkeypatch, package):
    before = detector.predict(samples[0])
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"needs the package '{package}'.*pip install 'crdkit\[onnx\]'"):
        detector.compile()
    same(detector.predict(samples[0]), before)


def test_an_older_pytorch_is_named(detector, monkeypatch):
    monkeypatch.setattr("crdkit.detector._onnx.OLDEST_TORCH", "999.1")
    with pytest.raises(ConfigError, match=r"compiling needs torch >= 999.1, found 2\..*; upgrade it"):
        detector.compile()


@pytest.mark.parametrize("network", [Reads(), Random(), Counts(), Alone()], ids=lambda network: type(network).__name__)
def test_a_network_that_cannot_be_compiled_is_named(network, capfd):
    compiled, refusal = None, ""
    try:
        compiled = CompiledTeacher(network, torch.rand(2, 3, 8, 8), threads=1, name="the teacher of 'rgb'")
    except ConfigError as error:
        refusal = str(error)
    if compiled is None:
        assert re.fullmatch(r"the teacher of 'rgb' cannot be compiled: .+; predict without compiling", refusal)
    else:  # by an exporter that sees through it
        assert type(network) in (Counts, Alone)
        for count in (1, 2, 5):
            images = torch.rand(count, 3, 8, 8)
            torch.testing.assert_close(compiled(images), network(images))
    assert capfd.readouterr().err == ""


def test_a_full_disk_is_said(monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device", "/somewhere/network.onnx")

    monkeypatch.setattr("crdkit.detector._onnx.export_network", full)
    with pytest.raises(CrdkitError, match=r"crdkit-.*: cannot be written: No space left on device; free space there"):
        CompiledTeacher(nn.Identity(), torch.rand(2, 3, 8, 8), threads=1, name="the teacher of 'rgb'")


def test_every_registered_projection_can_be_compiled():
    """One branch has them all, each as the filter of one source and the amplifier of another: one export takes 10 s."""
    names = list(projections)
    edges = tuple(
        Edge(
            source=f"source{place}",
            target="a",
            filter=projections.build_config(name),
            amplifier=projections.build_config(names[place - 1]),
        )
        for place, name in enumerate(names)
    )
    specs = dict.fromkeys(["a", *(edge.source for edge in edges)], THREE)
    graph = CrossmodalGraph(modalities=tuple(specs), edges=edges)
    branch = CRD(specs=specs, graph=graph, student=SMALL).eval().branch("a")
    with torch.no_grad():
        compiled = CompiledBranch(branch, features_of(specs, 2), threads=1, name="a")
        for count in (1, 3):
            features = features_of(specs, count)
            for level, expected in zip(compiled(features), branch(features).output, strict=True):
                torch.testing.assert_close(level, expected, rtol=1e-3, atol=1e-4)


def test_the_teacher_without_a_network_can_be_compiled():
    encoder: Encoder = encoders.build(encoders.build_config("efficientnet_lite0"))
    images = torch.rand(3, 1, 64, 64)
    found = CompiledTeacher(encoder, torch.rand(2, 3, 64, 64), threads=1, name="lite0")(images)
    for level, expected in zip(found, encoder(images), strict=True):
        torch.testing.assert_close(level, expected, rtol=1e-3, atol=1e-3)
