"""Ranks that train one detector follow one process that computes their shares and averages the gradients."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from together import DROPOUT, PLAIN, SAMPLES, RandomFeatures, build_model

from crdkit._core.distributed import Ranks
from crdkit.errors import ConfigError
from crdkit.training._cuda_graph import uses_graph
from crdkit.training._data_parallel import own_order, own_rows, require_own_gpu, term_weights
from crdkit.training.dropout import draw_presence
from crdkit.training.loop import learning_rate
from crdkit.training.losses import TERMS, crd_losses
from crdkit.training.step import build_objectives, build_optimizers, set_learning_rate

NAMES = ("a", "b")
LONG_S = 600  # what only a hang takes, on a busy machine too


def start(out, *arguments, count=2):
    """Start ranks without torchrun, which would kill the others when one fails, and wait for all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).with_name("together.py")), str(out), *arguments]
    ranks = [
        subprocess.Popen(command, env={**os.environ, **launcher, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(count)
    ]
    try:
        errors = [process.communicate(timeout=LONG_S)[1] for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    return [process.returncode for process in ranks], errors


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    codes, errors = start(folder)
    assert codes == [0, 0], errors
    return folder


def one_process(config, count=2):
    """Return model and losses of one process that computes every rank's share by itself."""
    # channels_last, as `train` has them: other kernels round otherwise, which steps on three samples blow up
    models = [build_model().train().to(memory_format=torch.channels_last) for _ in range(count)]
    objectives = [build_objectives(model, config) for model in models]
    optimizers, generator = build_optimizers(models[0], config), torch.Generator().manual_seed(config.seed)
    losses = []
    for epoch in range(config.epochs):
        set_learning_rate(optimizers, learning_rate(config, epoch))
        order, present = torch.randperm(SAMPLES, generator=generator), None
        if config.modality_dropout:
            dropout, sensors = config.modality_dropout, {name: [name] for name in NAMES}
            present = draw_presence(sensors, count=SAMPLES, dropout=dropout, generator=generator)
        sums = torch.zeros(len(NAMES), len(TERMS))
        for batch in order.split(config.batch_size):
            shown = None if present is None else {name: has[batch] for name, has in present.items()}
            sums += len(batch) * torch.stack(
                [
                    backward(built, batch, shown, ranks=Ranks(rank=rank, world_size=count)) / count
                    for rank, built in enumerate(objectives)
                ]
            ).sum(dim=0)
            for parameters in zip(*(model.student_parameters() for model in models), strict=True):
                mean = torch.stack([parameter.grad for parameter in parameters]).mean(dim=0)
                parameters[0].grad = torch.empty_like(parameters[0]).copy_(mean)  # with the strides that backward gives
            for optimizer in optimizers:
                optimizer.step()
            for parameters in zip(*(model.student_parameters() for model in models), strict=True):
                set_all(parameters, parameters[0].detach().clone())
        for buffers in zip(*(model.buffers() for model in models), strict=True):
            if buffers[0].is_floating_point():
                set_all(buffers, torch.stack(buffers).mean(dim=0))
        losses.append((sums / SAMPLES).flatten())
    return models[0], torch.stack(losses)


def take_share(batch, present, *, ranks):
    """Return one rank's samples of a batch, what they have, and the weights of their terms."""
    weights = term_weights(NAMES, count=len(batch), ranks=ranks, present=present)
    mine, _ = own_order(torch.arange(len(batch)), batch_size=len(batch), ranks=ranks)
    return batch[mine], None if present is None else {name: has[mine] for name, has in present.items()}, weights


def backward(objectives, batch, present, *, ranks):
    """Leave the gradients of one rank's share, and return its weighted terms."""
    mine, has, weights = take_share(batch, present, ranks=ranks)
    rows = []
    for name, objective in objectives.items():
        objective.zero_grad()
        terms = objective(RandomFeatures().batch(mine), has, weights[name])
        terms.sum().backward()
        rows.append(terms.detach())
    return torch.stack(rows)


def set_all(tensors, value):
    with torch.no_grad():
        for tensor in tensors:
            tensor.copy_(value)


@pytest.mark.parametrize(("name", "config"), [("plain", PLAIN), ("dropout", DROPOUT)])
def test_two_ranks_follow_one_process_that_averages_the_gradients_of_their_shares(out, name, config):
    model, losses = one_process(config)
    ranks = [load_file(out / f"{name}-{rank}.safetensors") for rank in range(2)]
    for found in ranks:
        torch.testing.assert_close(found.pop("losses"), losses, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found, dict(model.state_dict()), rtol=1e-4, atol=1e-4)
    for key, value in ranks[0].items():
        assert torch.equal(value, ranks[1][key]), key
    start_weights = build_model().state_dict()
    assert any(not torch.equal(value, start_weights[key]) for key, value in ranks[0].items())


def test_ranks_resume_to_the_same_bytes(out):
    for rank in range(2):
        straight, resumed = (load_file(out / f"{kind}-{rank}.safetensors") for kind in ("dropout", "resumed"))
        assert all(torch.equal(value, resumed[key]) for key, value in straight.items())
    assert [file.name for file in out.glob("epoch-*")] == ["epoch-000004.safetensors"]


def test_a_rank_that_fails_ends_the_others(tmp_path):
    codes, errors = start(tmp_path, "1")
    assert codes == [1, 1]
    assert "error: stopped" in errors[1]
    assert "error: rank 0 of 2 lost another rank; see that rank's own message" in errors[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("batch", [1, 2, 5, 6])
@pytest.mark.parametrize("dropout", [0, 0.4])
@pytest.mark.parametrize("count", [2, 3])
def test_weighted_terms_of_the_shares_average_to_those_of_the_batch(batch, dropout, count):
    model, features = build_model().eval(), RandomFeatures()  # eval: statistics of a share are not those of the batch
    indices = torch.tensor([4, 1, 6, 0, 2, 5][:batch])
    present = None
    if dropout:
        drawn = draw_presence(
            {name: [name] for name in NAMES},
            count=batch,
            dropout=dropout,
            generator=torch.Generator().manual_seed(batch),
        )
        present = dict(drawn)
    objectives = build_objectives(model, PLAIN)
    whole = crd_losses(model.distill(features.batch(indices), present), kind=PLAIN.loss)
    for name in NAMES:
        total = torch.zeros(len(TERMS))
        for rank in range(count):
            mine, has, weights = take_share(indices, present, ranks=Ranks(rank=rank, world_size=count))
            total += objectives[name](features.batch(mine), has, weights[name]).detach() / count
        torch.testing.assert_close(total, torch.stack([whole[name][term] for term in TERMS]).detach())


def test_shares_cover_a_batch_once():
    for count, batch in [(1, 4), (2, 5), (3, 2), (4, 16)]:
        shares = [own_rows(batch, Ranks(rank=rank, world_size=count)) for rank in range(count)]
        assert [row for share in shares for row in range(batch)[share]] == list(range(batch))
        assert max(s.stop - s.start for s in shares) - min(s.stop - s.start for s in shares) <= 1


def test_the_order_of_a_rank_splits_into_its_shares():
    order = torch.tensor([5, 3, 0, 6, 2, 1, 4])
    orders = [own_order(order, batch_size=3, ranks=Ranks(rank=rank, world_size=2)) for rank in range(2)]
    # of the last batch, one sample, the second rank has no share
    assert [(mine.tolist(), rows) for mine, rows in orders] == [([5, 3, 6, 2, 4], 2), ([0, 1, 4], 1)]


def test_what_ranks_cannot_do_is_refused(monkeypatch):
    cuda, two = torch.device("cuda"), Ranks(rank=1, world_size=2, local_rank=1)
    graph = PLAIN.model_copy(update={"graph": "on"})
    with pytest.raises(ConfigError, match=r"training\.graph=on: 2 ranks that train one detector exchange gradients"):
        uses_graph(graph, cuda, ranks=2)
    assert not uses_graph(PLAIN, cuda, ranks=2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="needs a GPU of its own, and this machine has 1"):
        require_own_gpu(cuda, two)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    require_own_gpu(cuda, two)
    with pytest.raises(ConfigError, match=r"training\.device=cuda:0: each rank"):
        require_own_gpu(torch.device("cuda:0"), two)
    require_own_gpu(torch.device("cuda:0"), Ranks())
