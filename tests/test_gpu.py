"""What a GPU must do: give back what a failed capture took, predict what a CPU predicts, survive a lack of memory."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from together import PLAIN, SAMPLES, RandomFeatures, build_model

import crdkit
from crdkit._core.capture import WARM_UP, CaptureError, CudaCapture, Replays
from crdkit.detector import Detector
from crdkit.errors import CaptureWarning, ConfigError, CrdkitError
from crdkit.training import loop as training

pytestmark = pytest.mark.gpu
TWO = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
ONE = torch.device("cuda", 0)
GPU = PLAIN.model_copy(update={"epochs": 7, "device": "cuda"})  # 21 steps


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def close(found, expected):
    """Compare predictions to 1e-4 of their largest value."""
    assert found.score == pytest.approx(expected.score, rel=1e-4)
    for one, other in (
        (found.anomaly_map, expected.anomaly_map),
        *zip(found.maps.values(), expected.maps.values(), strict=True),
    ):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())


class Step:
    """Products and their gradients; ``reads`` says whether it waits for the result, which no graph can hold."""

    def __init__(self, device=ONE, *, reads=False):
        self.reads = reads
        self.weight = torch.randn(1024, 1024, device=device, requires_grad=True)
        self.number = torch.ones((), device=device)

    def __call__(self):
        self.drop()
        loss = (self.number * self.weight @ self.weight).square().mean()
        loss.backward()
        return loss.detach() + loss.item() if self.reads else loss.detach()

    def drop(self):
        self.weight.grad = None


def failed_capture():
    """Capture a step that reads back, after its warm-up; return how much memory torch holds before and after."""
    step = Step(reads=True)
    capture = CudaCapture(ONE, undo=step.drop)
    for last in (False, True):
        capture.warm_up(step, last=last)
    step.drop()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    with pytest.raises(CaptureError, match=r"cannot be captured as a CUDA graph"):
        capture(step)
    assert step.weight.grad is None
    torch.cuda.empty_cache()
    return before, torch.cuda.memory_reserved()


def test_a_failed_capture_gives_back_stream_memory_and_random_numbers():
    around = torch.cuda.current_stream()
    before, after = failed_capture()
    assert after <= before
    assert torch.cuda.current_stream() == around
    assert not torch.cuda.is_current_stream_capturing()
    assert 0 < torch.nn.functional.dropout(torch.ones(1000, device="cuda"), 0.5).count_nonzero() < 1000
    torch.cuda.synchronize()


def test_after_a_failed_capture_batches_that_two_streams_used_are_freed():
    failed_capture()
    side, held = torch.cuda.Stream(), []
    for _ in range(60):
        with torch.cuda.stream(side):
            batch = torch.ones(2**22, device="cuda")
        torch.cuda.current_stream().wait_stream(side)
        batch.record_stream(torch.cuda.current_stream())
        batch.sum()
        del batch
        torch.cuda.synchronize()
        held.append(torch.cuda.memory_reserved())
    assert max(held[5:]) == held[5]


def test_after_a_failed_capture_another_succeeds():
    failed_capture()
    step, replays = Step(), Replays(CudaCapture(ONE))
    for value in range(WARM_UP + 3):
        step.number.fill_(value)
        found = replays(1, step).clone()
        torch.testing.assert_close(found, Step.__call__(step))
    assert replays.active


def trained(config, *, reads=False):
    model, losses = build_model().to("cuda"), []
    features = RandomFeatures(samples=SAMPLES, device="cuda")
    real = training.train_step

    def reading(*arguments, **options):
        found = real(*arguments, **options)
        found.sum().item()
        return found

    with pytest.MonkeyPatch.context() as patch:
        if reads:
            patch.setattr(training, "train_step", reading)
        training.train(model, features, config, samples=SAMPLES, on_epoch=losses.append)
    return torch.tensor([log["loss"] for log in losses])


def test_a_training_that_reads_back_goes_on_without_a_graph(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    expected = trained(GPU.model_copy(update={"graph": "off"}))
    with pytest.warns(CaptureWarning, match="continues without a graph"):
        found = trained(GPU, reads=True)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    with pytest.raises(ConfigError, match=r"use training\.graph=off"):
        trained(GPU.model_copy(update={"graph": "on"}), reads=True)
    torch.testing.assert_close(trained(GPU), expected, rtol=1e-5, atol=0)  # and the next one has its graph


def test_a_fused_loss_trains_as_the_eager_one():
    pytest.importorskip("triton")
    losses = [trained(GPU.model_copy(update={"fused_loss": fused})) for fused in ("off", "on")]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=0)


@pytest.fixture(scope="module")
def on_gpu(tiny):
    return crdkit.fit(tiny.with_overrides("training.device=cuda"))


def test_a_detector_of_a_gpu_predicts_the_same_on_a_cpu(on_gpu, samples, tmp_path):
    on_gpu.save(tmp_path / "detector")
    on_cpu = Detector.load(tmp_path / "detector", device="cpu")
    assert on_cpu.device.type == "cpu"
    for many, sample in zip(on_gpu.predict_batch(samples), samples, strict=True):
        close(on_gpu.predict(sample), on_cpu.predict(sample))
        close(many, on_cpu.predict(sample))


def test_threads_get_their_own_predictions_while_others_use_the_device(on_gpu, samples):
    own = Detector(config=on_gpu.config, model=on_gpu.model, scorer=on_gpu.scorer)  # nothing is captured yet
    expected = [on_gpu.predict(sample) for sample in samples]
    done = threading.Event()

    def other_work():
        host = torch.ones(2**16)
        while not done.is_set():
            host.pin_memory().to("cuda", non_blocking=True).sum().cpu()

    def predict(place):
        return [(place, own.predict(samples[place])) for _ in range(8)]

    with ThreadPoolExecutor(5) as pool:
        working = pool.submit(other_work)
        try:
            found = [one for part in pool.map(predict, range(4)) for one in part]
        finally:
            done.set()
        working.result(60)
    for place, one in found:
        close(one, expected[place])
    assert own._predictor.ready().captures


@TWO
def test_a_detector_on_another_device_than_the_current_one(finished, samples, tmp_path):
    expected = Detector.load(finished / "detector", device="cpu")
    detector = Detector.load(finished / "detector", device="cuda:1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an empty graph is a warning
        for sample in [*samples, *samples]:
            close(detector.predict(sample), expected.predict(sample))
    assert torch.cuda.current_device() == 0
    assert detector._predictor.ready().captures


@pytest.mark.usefixtures("without_reports")
def test_a_lack_of_memory_is_one_message_and_nothing_is_stuck(tiny, tmp_path):
    config = tiny.with_overrides("training.device=cuda")
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**21) / total)
    try:
        with pytest.raises(CrdkitError, match=r"cuda.*: its memory has run out: "):
            crdkit.fit(config, tmp_path / "run")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    crdkit.fit(config, tmp_path / "run", resume=True)
    assert (tmp_path / "run/metrics.json").exists()


def test_features_in_pinned_memory_train_as_those_on_the_device(tiny):
    losses = []
    for gib in ("8", "0"):
        config = tiny.with_overrides(
            "training.device=cuda", f"training.resident_gib={gib}", "training.precision=fp32", "training.graph=off"
        )
        losses.append([log["loss"] for log in crdkit.fit(config).history])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
