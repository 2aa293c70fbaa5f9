"""Captures on a stand-in for CUDA: their device, what a failed one leaves behind, other threads."""

from __future__ import annotations

import threading
import weakref
from types import SimpleNamespace

import pytest
import torch
from fake_cuda import FakeCuda
from torch import nn

from crdkit._core.capture import WARM_UP, CaptureError, CudaCapture, Replays
from crdkit._core.device import convolutions_channels_last
from crdkit.detector import Detector
from crdkit.detector import _predictor as predictor
from crdkit.detector._engine import Engine
from crdkit.detector._predictor import Predictor

SECOND = torch.device("cuda:1")


@pytest.fixture(params=["old", "new"])
def cuda(request, monkeypatch):
    return FakeCuda(monkeypatch, release=request.param)


def test_a_capture_works_on_its_device_not_on_the_current_one(cuda):
    source, result = [0], [None]
    replays = Replays(CudaCapture(SECOND))

    def run():
        cuda.launch(SECOND, lambda: result.__setitem__(0, source[0]))
        return result

    for value in range(WARM_UP + 4):
        source[0] = value
        assert replays(1, run)[0] == value
        assert cuda.current == 0
        assert cuda.streams() == cuda.defaults
    assert len(cuda.uses) == 1
    assert set(cuda.uses) == {(1, (0, 1))}


def test_a_detector_on_another_device_predicts_every_sample(cuda, detector, samples):
    """Its graph would be empty if it were captured on the current device, and replay the sample of the capture."""
    expected = [detector.predict(sample).score for sample in samples]
    own = Detector(config=detector.config, model=detector.model, scorer=detector.scorer)
    own._predictor.engine = Engine(own.model, own.scorer, fold=True, capture=CudaCapture(SECOND, mode="thread_local"))
    score = own._predictor.engine._score

    def on_second(inputs, present):
        result = score(inputs, present)  # allocates what the kernel writes to
        found = [result.anomaly_map, result.pred_score, *result.branches.values()]

        def kernel():
            with torch.inference_mode():
                again = score(inputs, present)
                for to, values in zip(
                    found, [again.anomaly_map, again.pred_score, *again.branches.values()], strict=True
                ):
                    to.copy_(values)

        cuda.launch(SECOND, kernel)
        return result

    own._predictor.engine._score = on_second
    assert len(samples) > WARM_UP + 1
    assert [own.predict(sample).score for sample in samples] == pytest.approx(expected, rel=1e-5)
    assert own._predictor.engine.captures


@pytest.mark.parametrize("index", [0, 1])
def test_a_detector_captures_on_its_own_device_whatever_other_threads_do(monkeypatch, detector, index):
    cuda, built = FakeCuda(monkeypatch), []
    monkeypatch.setattr(predictor, "Engine", lambda *_, capture, **__: built.append(capture) or capture)
    own = Predictor(detector.model, SimpleNamespace(device=torch.device("cuda", index)), views={}, graph=True)
    own.ready()
    assert (built[0]._device.index, built[0]._stream.index, built[0]._mode) == (index, index, "thread_local")
    assert cuda.current == 0


class Activation:
    """Something that takes memory of the device as long as it lives."""

    def __init__(self, cuda):
        (graph,) = cuda.graphs
        cuda.held[graph.key] += 100
        weakref.finalize(self, self._free, cuda, graph.key)

    @staticmethod
    def _free(cuda, key):
        cuda.held[key] -= 100


def failing(cuda, *, kept):
    """Return a step that leaves an activation in a local variable, another in ``kept``, and then reads a value back."""

    def run():
        local = Activation(cuda)
        kept.append(Activation(cuda))
        cuda.launch(SECOND, lambda: None)
        cuda.read_back(SECOND)
        return local

    return run


def test_a_failed_capture_leaves_nothing_behind(cuda):
    gradients = []
    capture = CudaCapture(SECOND, undo=gradients.clear)
    with pytest.raises(CaptureError, match=r"CUDA graph: CUDA error: .* when stream is capturing; use training\.graph"):
        capture(failing(cuda, kept=gradients))
    assert gradients == []
    assert (cuda.current, cuda.streams()) == (0, cuda.defaults)
    assert not cuda.routed  # else the allocator would never again free what two streams have used
    assert not any(cuda.held.values())
    assert not any(cuda.uses.values())
    assert not cuda.generator_captures
    assert capture(lambda: cuda.launch(SECOND, lambda: None)) is not None  # the next one begins anew


def test_a_pool_that_other_graphs_use_is_kept(cuda):
    gradients, seen = [], []
    capture = CudaCapture(SECOND, undo=gradients.clear)
    replay = capture(lambda: cuda.launch(SECOND, lambda: seen.append(1)))
    first = next(iter(cuda.uses))
    with pytest.raises(CaptureError):
        capture(failing(cuda, kept=gradients))
    assert cuda.uses[first] >= 1
    replay()
    assert seen == [1]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TypeError("a bug")])
def test_what_is_no_error_of_the_device_comes_through(cuda, error):
    def run():
        cuda.streams()[1].graph.broken = True
        raise error

    with pytest.raises(type(error)) as raised:
        CudaCapture(SECOND)(run)
    assert raised.value is error
    assert (cuda.current, cuda.streams(), cuda.routed) == (0, cuda.defaults, [])


def test_a_step_that_leaves_another_stream_current_ends_its_capture(cuda):
    other = torch.cuda.Stream(SECOND)

    def run():
        cuda.launch(SECOND, lambda: None)
        cuda.set_stream(other)

    CudaCapture(SECOND)(run)
    assert (cuda.current, cuda.streams(), cuda.routed) == (0, cuda.defaults, [])


@pytest.mark.parametrize(("mode", "breaks"), [("global", True), ("thread_local", False)])
def test_calls_of_other_threads_break_a_capture_that_looks_at_all(cuda, mode, breaks):
    def run():
        other = threading.Thread(target=call)
        other.start()
        other.join(60)
        cuda.launch(SECOND, lambda: None)

    def call():
        try:
            cuda.unsafe_call()
        except RuntimeError:
            return

    capture = CudaCapture(SECOND, mode=mode)
    if breaks:
        with pytest.raises(CaptureError):
            capture(run)
    else:
        capture(run)()


def test_two_captures_wait_for_each_other(cuda):
    """To begin one waits for the whole device, which breaks one that is under way."""
    inside, errors = threading.Event(), []

    def slowly():
        cuda.launch(SECOND, lambda: None)
        inside.set()
        threading.Event().wait(0.05)

    def work(run, *, device):
        try:
            CudaCapture(torch.device(device), mode="thread_local")(run)
        except CaptureError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(slowly,), kwargs={"device": "cuda:1"})]
    threads[0].start()
    assert inside.wait(60)
    kernel = threading.Thread(
        target=work, args=(lambda: cuda.launch("cuda:0", lambda: None),), kwargs={"device": "cuda:0"}
    )
    kernel.start()
    for thread in (*threads, kernel):
        thread.join(60)
    assert not errors


def test_after_a_failed_capture_everything_is_run_directly(cuda):
    replays, ran = Replays(CudaCapture(SECOND)), []

    def run():
        ran.append(1)
        cuda.read_back(SECOND)
        return len(ran)

    assert [replays(3, run) for _ in range(WARM_UP)] == [1, 2]
    with pytest.raises(CaptureError):
        replays(3, run)
    assert not replays.active
    assert replays(3, run) == 4


def test_weights_of_convolutions_are_stored_as_gpus_read_them():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 4, 2))
    network.grid = nn.Parameter(torch.zeros(1, 3, 4, 5))  # of another part, which may rely on its order
    values = [parameter.detach().clone() for parameter in network.parameters()]
    convolutions_channels_last(network)
    assert all(map(torch.equal, values, network.parameters()))
    for part in (network[0], network[2]):
        assert part.weight.is_contiguous(memory_format=torch.channels_last)
    assert network.grid.is_contiguous()
