"""The step: static buffers and replays, learning rates on the device; on a GPU the graph itself."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import partial

import pytest
import torch
from fake_cuda import FakeCuda
from together import DROPOUT, PLAIN, SAMPLES, SPEC, RandomFeatures, build_model, trained

from crdkit._core.capture import WARM_UP, CaptureError, CudaCapture
from crdkit._core.device import fastest_convolutions
from crdkit._core.distributed import Ranks
from crdkit.errors import CaptureWarning, ConfigError
from crdkit.training import TrainingConfig
from crdkit.training import _checkpoint as checkpoint
from crdkit.training import loop as training
from crdkit.training._cuda_graph import BranchStreams, StaticStep, static_step, uses_graph
from crdkit.training.step import build_objectives, build_optimizers, set_learning_rate, train_step


class Replays:
    """Stands for `CudaCapture`: a replay runs the function again, on whatever the buffers then hold."""

    def __init__(self):
        self.captured = 0

    def warm_up(self, run, *, last):
        return run()

    def __call__(self, run):
        self.captured += 1
        return run


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("config", [PLAIN, DROPOUT], ids=["plain", "dropout"])
def test_a_static_step_trains_as_the_step_itself(config, partial, monkeypatch):
    expected, expected_losses = trained(config)
    capture = Replays()
    steps, prepared = [], training._prepared_step

    def static(model, optimizers, options, *, rows, ranks):
        context = prepared(model, optimizers, options, rows=rows, ranks=ranks)
        step = context.__enter__()
        steps.append((StaticStep(step, rows=rows, capture=capture, capture_partial=partial), context))
        return Entered(*steps[-1])

    monkeypatch.setattr(training, "_prepared_step", static)
    model, losses = trained(config)
    # batches of 3, and one of 1 in each epoch, which would be captured when it comes for the third time
    assert capture.captured == (2 if partial else 1)
    assert losses.shape == (config.epochs, 8)
    # channels_last buffers take other kernels on a CPU, which round differently
    torch.testing.assert_close(losses, expected_losses, rtol=1e-3, atol=1e-3)
    assert model.state_dict().keys() == expected.state_dict().keys()


class Entered:
    def __init__(self, step, context):
        self.step, self.context = step, context

    def __enter__(self):
        return self.step

    def __exit__(self, *error):
        return self.context.__exit__(*error)


def test_batches_are_copied_into_one_set_of_buffers():
    seen = []

    def step(features, *, present=None, weights=None):
        seen.append((features, present))
        return torch.zeros(1)

    features, capture = RandomFeatures(), Replays()
    static = StaticStep(step, rows=4, capture=capture, capture_partial=True)
    present = {"a": torch.tensor([True, False, True]), "b": torch.tensor([True, True, False])}
    for indices in ([0, 1, 2], [3, 4, 5], [6, 5, 4], [2, 0, 1], [6]):
        batch = features.batch(torch.tensor(indices))
        static(batch, present={name: has[: len(indices)] for name, has in present.items()})
        inputs, shown = seen[-1]
        for name, levels in batch.items():
            for buffer, level in zip(inputs[name], levels, strict=True):
                assert torch.equal(buffer, level)
                assert buffer.is_contiguous(memory_format=torch.channels_last)
        assert all(torch.equal(shown[name], has[: len(indices)]) for name, has in present.items())
    places = {inputs["a"][0].data_ptr() for inputs, _ in seen}
    assert len(places) == 1
    assert places.isdisjoint(level.data_ptr() for level in features.levels["a"])
    assert capture.captured == 1
    assert len(seen) == 5 > WARM_UP


def test_without_a_capture_every_step_runs_and_weights_reach_it():
    seen = []
    static = StaticStep(lambda features, **options: seen.append(options) or torch.zeros(1), rows=2)
    for _ in range(WARM_UP + 2):
        static(RandomFeatures().batch(torch.tensor([0, 1])), weights={"a": {None: 2.0}})
    assert seen == [{"present": None, "weights": {"a": {None: 2.0}}}] * (WARM_UP + 2)


def test_a_smaller_batch_is_run_directly_and_no_kernels_are_searched_for_it(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    seen, capture = [], Replays()

    def step(name):
        return lambda features, **_: seen.append((name, torch.backends.cudnn.benchmark)) or torch.zeros(1)

    static = StaticStep(step("streams"), rows=2, capture=capture, direct=step("direct"))
    features = RandomFeatures()
    for _ in range(WARM_UP + 2):
        static(features.batch(torch.tensor([0, 1])))
        static(features.batch(torch.tensor([2])))
    assert seen == [("streams", True), ("direct", False)] * (WARM_UP + 2)
    assert capture.captured == 1
    assert torch.backends.cudnn.benchmark


def test_in_threads_the_search_for_kernels_ends_with_the_last_caller(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    one, other = fastest_convolutions(), fastest_convolutions()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert torch.backends.cudnn.benchmark
    other.__exit__(None, None, None)
    assert not torch.backends.cudnn.benchmark
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    with fastest_convolutions():
        assert not torch.backends.cudnn.benchmark


class FirstBranchReadsBack:
    """Stands for an optimiser that a graph cannot hold, after the backward pass of its branch."""

    def __init__(self, cuda, optimizer):
        self.cuda, self.step = cuda, optimizer.step

    def __call__(self):
        if self.cuda.graphs:
            self.cuda.read_back()
        return self.step()


def captured_training(monkeypatch, cuda, *, required):
    """Train as on a CUDA device, on the stand-in, with a step that cannot be captured; return the losses."""

    @contextmanager
    def prepared(model, optimizers, options, *, rows, ranks):
        monkeypatch.setattr(optimizers[0], "step", FirstBranchReadsBack(cuda, optimizers[0]))
        step = partial(
            train_step, model, optimizers=optimizers, config=options, objectives=build_objectives(model, options)
        )
        with static_step(step, model, optimizers, rows=rows, graph=True, required=required) as static:
            yield static

    monkeypatch.setattr(training, "_prepared_step", prepared)
    return trained(PLAIN)[1]


@pytest.mark.parametrize("release", ["old", "new"])
def test_a_training_that_cannot_be_captured_goes_on_without_a_graph(monkeypatch, release):
    cuda, undone = FakeCuda(monkeypatch, release=release), []
    clean_up = CudaCapture._clean_up

    def noting(self, *arguments):
        before = [parameter.detach().clone() for parameter in kept["parameters"]]
        assert any(parameter.grad is not None for parameter in kept["parameters"])
        clean_up(self, *arguments)
        undone.append(all(parameter.grad is None for parameter in kept["parameters"]))
        undone.append(all(map(torch.equal, before, kept["parameters"])))

    kept = {}
    monkeypatch.setattr(CudaCapture, "_clean_up", noting)
    real = training.build_optimizers

    def remembering(model, *arguments, **options):
        kept["parameters"] = list(model.branches.parameters())
        return real(model, *arguments, **options)

    monkeypatch.setattr(training, "build_optimizers", remembering)
    with pytest.warns(CaptureWarning, match=r"^a step of this model cannot be captured .*continues without a graph"):
        losses = captured_training(monkeypatch, cuda, required=False)
    assert undone == [True, True]
    assert len(losses) == PLAIN.epochs
    assert losses.isfinite().all()
    assert (cuda.routed, cuda.streams(), cuda.generator_captures) == ([], cuda.defaults, False)


def test_a_graph_that_was_asked_for_and_cannot_be_is_an_error(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    with pytest.raises(ConfigError, match=r"cannot be captured as a CUDA graph: .*; use training\.graph=off"):
        captured_training(monkeypatch, cuda, required=True)
    assert (cuda.routed, cuda.streams()) == ([], cuda.defaults)


class Refuses(Replays):
    """A capture that fails before it has run anything, as a real one leaves no trace on the device."""

    def __call__(self, run):
        raise CaptureError("it reads a value back")


def test_without_its_graph_a_training_computes_the_same(monkeypatch):
    def losses_of(capture):
        prepared = training._prepared_step

        @contextmanager
        def static(model, optimizers, options, *, rows, ranks):
            with prepared(model, optimizers, options, rows=rows, ranks=ranks) as step:
                yield StaticStep(step, rows=rows, capture=capture)

        with monkeypatch.context() as patch:
            patch.setattr(training, "_prepared_step", static)
            return trained(PLAIN)

    expected = losses_of(None)
    with pytest.warns(CaptureWarning) as warned:
        found = losses_of(Refuses())
    assert len(warned) == 1
    assert torch.equal(found[1], expected[1])
    for name, value in expected[0].state_dict().items():
        assert torch.equal(found[0].state_dict()[name], value), name


def test_branches_end_before_the_next_begins_until_they_are_captured(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    device = torch.device("cuda:1")
    streams = BranchStreams(2, device)
    names = [stream.name for stream in streams._streams]
    capture = CudaCapture(device)

    def run():
        return streams(lambda name: cuda.launch(device, lambda: None), ["a", "b"])

    capture.warm_up(run, last=True)
    assert cuda.log == [(what, name) for name in names for what in ("launch", "wait")]
    cuda.log.clear()
    capture(run)
    assert cuda.log == [("launch", name) for name in names]


def test_a_rate_that_is_a_tensor_is_overwritten_in_place():
    model = build_model()
    held = torch.tensor(0.5)
    on_device = torch.optim.Adam(model.branch("a").parameters(), lr=held, fused=True)
    plain = torch.optim.Adam(model.branch("b").parameters(), lr=0.5)
    set_learning_rate([on_device, plain], 0.25)
    assert on_device.param_groups[0]["lr"] is held
    assert (held.item(), plain.param_groups[0]["lr"]) == (0.25, 0.25)


@pytest.mark.parametrize(("given", "kept"), [(True, "on"), (False, "off"), ("auto", "auto"), ("off", "off")])
def test_yaml_words_for_the_graph(given, kept):
    assert TrainingConfig(graph=given).graph == kept


def test_a_graph_needs_a_gpu(tiny):
    import crdkit

    with pytest.raises(ConfigError, match=r"training\.graph=on needs a CUDA device, but the device is cpu"):
        crdkit.fit(tiny.with_overrides("training.graph=on"))
    with pytest.raises(ConfigError, match=r"training\.graph \(='always'\)"):
        tiny.with_overrides("training.graph=always")
    assert not uses_graph(PLAIN, torch.device("cpu"))
    assert uses_graph(PLAIN, torch.device("cuda"))
    assert not uses_graph(TrainingConfig(graph="off"), torch.device("cuda"))


@pytest.mark.parametrize(("rank", "rows"), [(0, 4), (1, 3)])
def test_a_rank_expects_its_own_share_of_a_batch(monkeypatch, rank, rows):
    """Else every batch would be a smaller one, for which no kernels are searched."""
    model, seen = build_model(), []
    monkeypatch.setattr(training, "static_step", lambda *_, rows, **__: seen.append(rows) or nullcontext())
    monkeypatch.setattr(training, "replicate", lambda objectives, device: objectives)
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    with training._prepared_step(model, [], PLAIN, rows=7, ranks=Ranks(rank=rank, world_size=2)):
        pass
    assert seen == [rows]


def on_gpu(config, *, samples=SAMPLES, **options):
    model, losses = build_model().to("cuda"), []
    features = RandomFeatures(samples=samples, device="cuda")
    training.train(model, features, config, samples=samples, on_epoch=losses.append, **options)
    return model, torch.tensor([log["loss"] for log in losses])


GPU = PLAIN.model_copy(update={"epochs": 7, "device": "cuda"})  # 21 steps


@pytest.fixture
def deterministic(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@pytest.mark.gpu
@pytest.mark.parametrize("changed", [{}, {"modality_dropout": 0.3}], ids=["plain", "dropout"])
def test_graph_and_eager_steps_agree(changed, deterministic):
    config = GPU.model_copy(update=changed)
    losses = [on_gpu(config.model_copy(update={"graph": graph}))[1] for graph in ("off", "on")]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=0)


@pytest.mark.gpu
def test_bfloat16_stays_close_to_float32():
    losses = [on_gpu(GPU.model_copy(update={"precision": precision}))[1] for precision in ("fp32", "bf16")]
    torch.testing.assert_close(losses[0], losses[1], rtol=0.05, atol=0)


@pytest.mark.gpu
def test_an_epoch_never_waits_for_the_device(monkeypatch):
    real, epochs = training._train_epoch, []

    def watched(*arguments, **options):
        epochs.append(1)
        if len(epochs) <= WARM_UP + 1:  # in the first ones graphs are captured
            return real(*arguments, **options)
        torch.cuda.set_sync_debug_mode("error")
        try:
            return real(*arguments, **options)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(training, "_train_epoch", watched)
    on_gpu(GPU)
    assert len(epochs) == GPU.epochs


@pytest.mark.gpu
def test_a_captured_training_resumes(deterministic, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 0)
    expected = on_gpu(GPU)[1]
    real, count = checkpoint.Checkpoints.keep, []

    def stop(self, *arguments, **options):
        real(self, *arguments, **options)
        count.append(1)
        if len(count) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Checkpoints, "keep", stop)
    with pytest.raises(KeyboardInterrupt):
        on_gpu(GPU, checkpoints=checkpoint.Checkpoints(tmp_path))
    losses = on_gpu(GPU, checkpoints=checkpoint.Checkpoints(tmp_path))[1]
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=0)


@pytest.mark.gpu
def test_on_a_gpu_the_optimiser_is_fused_with_its_rate_there():
    model = build_model(spec=SPEC).to("cuda")
    for optimizer in build_optimizers(model, GPU, capturable=True):
        (group,) = optimizer.param_groups
        assert (group["fused"], group["capturable"], group["lr"].device.type) == (True, True, "cuda")
    losses = train_step(
        model.train(),
        RandomFeatures(device="cuda").batch(torch.arange(3)),
        [],
        GPU.model_copy(update={"optimizers": "joint"}),
    )
    assert losses.shape == (2, 4)
