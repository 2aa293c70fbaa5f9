"""Batches and streams give what single samples give, and what the model gives; a stream stays small."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from predictions import same
from torch import nn

from crdkit._core.capture import WARM_UP, CaptureError
from crdkit.detector import Detector
from crdkit.detector._engine import Engine
from crdkit.errors import DataError
from crdkit.model.folding import fold_batch_norms, fold_where_equal


@pytest.mark.parametrize("threads", [1, 2])
def test_batches_and_streams_give_what_single_samples_give(detector, samples, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        single = [detector.predict(sample) for sample in samples]
        batch = detector.predict_batch(samples)
        stream = list(detector.predict_stream(iter(samples), batch_size=2, workers=2))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for one, many, streamed in zip(single, batch, stream, strict=True):
        same(many, one)
        same(streamed, one)
    assert detector.predict_batch([]) == []


def test_folding_changes_rounding_only(detector, samples):
    state = {name: value.clone() for name, value in detector.model.state_dict().items()}
    engine = Engine(detector.model, detector.scorer, fold=True)
    assert all(part is not detector.model.branch(name) for name, part in engine.branches.items())
    assert not any(isinstance(part, nn.BatchNorm2d) for branch in engine.branches.values() for part in branch.modules())
    views = detector.prepare(samples[0]).views
    with torch.no_grad():
        plain = Engine(detector.model, detector.scorer)(lambda name: views[name][None])
        out = detector.model({name: view[None] for name, view in views.items()})
        raw = detector.scorer.raw_maps(out.teacher, out.output)
        torch.testing.assert_close(plain.anomaly_map, detector.scorer(raw).anomaly_map, atol=0, rtol=0)
    folded = engine(lambda name: views[name][None])
    for name, maps in plain.branches.items():
        torch.testing.assert_close(folded.branches[name], maps, atol=1e-5, rtol=0)
    torch.testing.assert_close(folded.pred_score, plain.pred_score, rtol=1e-5, atol=0)
    for name, value in detector.model.state_dict().items():
        assert torch.equal(value, state[name]), name


class Backwards(nn.Module):
    """Registered in one order, called in the other."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.norm.running_mean.fill_(2.0)

    def forward(self, x):
        return [self.convolution(self.norm(x))]


def test_a_network_that_folding_would_change_is_left_alone(detector):
    image = torch.rand(1, 3, 8, 8)
    network = Backwards().eval()
    with torch.no_grad():
        assert not torch.allclose(fold_batch_norms(network)(image)[0], network(image)[0])
        assert fold_where_equal(network, lambda part: part(image)) is network
        forwards = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
        folded = fold_where_equal(forwards, lambda part: [part(image)])
        assert folded is not forwards
        torch.testing.assert_close(folded(image), forwards(image))


def test_a_stream_reads_a_few_samples_ahead_only(detector, samples):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield samples[taken % len(samples)]

    stream = detector.predict_stream(endless(), batch_size=2, workers=2)
    for place in range(6):
        next(stream)
        # batches of two that are done or under way, and two samples per thread ahead
        assert taken <= 2 * (place // 2 + 1) + 4
    before = threading.active_count()
    stream.close()
    assert threading.active_count() < before


def test_a_bad_sample_of_a_stream_is_counted(detector, samples):
    bad = {**samples[1], "xyz": np.zeros_like(samples[1]["xyz"])}
    with pytest.raises(DataError, match=r"^sample 1: sensor 'xyz': no pixel holds a measurement"):
        detector.predict_batch([samples[0], bad])
    stream = detector.predict_stream([samples[0], bad], batch_size=1)
    next(stream)
    with pytest.raises(DataError, match=r"^sample 1: "):
        next(stream)


class Replays:
    """A capture that runs things again instead of replaying them, as far as Python can tell."""

    def __init__(self, error=None):
        self.captured = 0
        self.error = error

    def warm_up(self, run, /, *, last):
        return run()

    def __call__(self, run, /):
        self.captured += 1
        if self.error:
            raise self.error
        return run


@pytest.mark.parametrize("error", [None, CaptureError("it reads a value back")])
def test_captured_predictions_come_from_buffers_of_their_batch_size(detector, samples, error):
    expected = [detector.predict(sample) for sample in samples]
    capture = Replays(error)
    captured = Detector(config=detector.config, model=detector.model, scorer=detector.scorer)
    captured._predictor.engine = Engine(captured.model, captured.scorer, fold=True, capture=capture)
    for one, sample in zip(expected, samples, strict=True):
        same(captured.predict(sample), one)  # the first calls as they are, the others replayed
    for _ in range(4):
        for one, many in zip(expected[:2], captured.predict_batch(samples[:2]), strict=True):
            same(many, one)
    assert capture.captured == (1 if error else 2)


def test_each_precision_is_captured_for_itself(detector, samples):
    """A graph replays the kernels that it was captured with, whatever autocast says later."""
    capture, precisions = Replays(), []
    engine = Engine(detector.model, detector.scorer, capture=capture)
    score = engine._score

    def noting(*arguments):
        precisions.append((torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()))
        return score(*arguments)

    engine._score = noting
    views = {name: view[None] for name, view in detector.prepare(samples[0]).views.items()}
    for reduced in (False, True):
        for _ in range(WARM_UP + 1):
            with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
                engine(views.__getitem__)
    assert capture.captured == 2
    assert precisions == [(False, False)] * 3 + [(True, False)] * 3
    assert torch.is_autocast_cache_enabled()


@pytest.mark.gpu
def test_graphs_predict_what_single_kernels_predict(finished, samples):
    eager = Detector.load(finished / "detector", device="cuda")
    eager._predictor.engine = Engine(eager.model, eager.scorer)
    graphed = Detector.load(finished / "detector", device="cuda")
    for sample in samples:
        same(graphed.predict(sample), eager.predict(sample))
    assert graphed._predictor.engine._replays._replays
