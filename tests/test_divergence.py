"""A loss or a weight that is not finite stops the training with the epoch, step, branch, term and what to do."""

from __future__ import annotations

import pytest
import torch
from together import PLAIN, SAMPLES, RandomFeatures, build_model

from crdkit.errors import CrdkitError
from crdkit.training import loop
from crdkit.training._checkpoint import Checkpoints
from crdkit.training.loop import train


def spoil(monkeypatch, *, step, branch, terms, value=float("nan")):
    """Let ``terms`` of a branch be ``value`` in one step, counted from 1, and every loss be nan from then on."""
    train_step, done = loop.train_step, []

    def spoiled(model, *arguments, **options):
        losses = train_step(model, *arguments, **options).clone()
        done.append(1)
        if len(done) == step:
            losses[list(model.modalities).index(branch), [loop.TERMS.index(term) for term in terms]] = value
        if len(done) > step:
            losses[:] = float("nan")
        return losses

    monkeypatch.setattr(loop, "train_step", spoiled)


def run(config=PLAIN, **options):
    train(build_model(), RandomFeatures(), config, samples=SAMPLES, on_epoch=lambda log: None, **options)


@pytest.mark.parametrize(
    ("step", "branch", "terms", "value", "message"),
    [
        (1, "a", "filter", "nan", r"epoch 1, step 1 of 3: branch 'a' \(filter\); no weight had been changed yet"),
        (2, "b", "decoder output", "inf", r"epoch 1, step 2 of 3: branch 'b' \(decoder, output\); lower training"),
        (6, "b", "amplifier", "nan", r"epoch 2, step 3 of 3: branch 'b' \(amplifier\); lower training"),
    ],
)
def test_the_first_loss_that_is_not_finite_is_named(monkeypatch, step, branch, terms, value, message):  # noqa: PLR0917
    spoil(monkeypatch, step=step, branch=branch, terms=terms.split(), value=float(value))
    with pytest.raises(CrdkitError, match=f"the loss is {value} in {message}"):
        run()


def test_it_is_found_with_one_synchronisation_per_epoch(monkeypatch):
    """Nothing of a step is asked for on the host: the losses are looked at once the epoch has ended."""
    spoil(monkeypatch, step=1, branch="a", terms=["output"])
    steps, looked = [], []
    keep, tolist = loop.StepLosses.keep, torch.Tensor.tolist
    monkeypatch.setattr(loop.StepLosses, "keep", lambda self, *a: (steps.append(1), keep(self, *a)))
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: (looked.append(len(steps)), tolist(self))[1])
    monkeypatch.setattr(torch.Tensor, "item", lambda self: pytest.fail("asked for a value") if len(steps) < 3 else 0.0)
    with pytest.raises(CrdkitError, match="epoch 1, step 1 of 3"):
        run()
    assert len(steps) == 3
    assert set(looked) == {3}


def test_losses_that_a_replay_overwrites_are_kept(monkeypatch):
    """The losses of a captured step are one buffer, in which the next step's are written."""
    buffer, train_step, done = torch.zeros(2, len(loop.TERMS)), loop.train_step, []

    def replayed(*arguments, **options):
        done.append(1)
        buffer.copy_(train_step(*arguments, **options))
        if len(done) == 2:
            buffer[1, 3] = float("nan")
        return buffer

    monkeypatch.setattr(loop, "train_step", replayed)
    with pytest.raises(CrdkitError, match=r"epoch 1, step 2 of 3: branch 'b' \(output\)"):
        run()


def test_weights_that_the_last_step_ruins_are_not_kept(monkeypatch, tmp_path):
    train_step, done = loop.train_step, []

    def ruin(model, *arguments, **options):
        losses = train_step(model, *arguments, **options)
        done.append(1)
        if len(done) == 12:
            with torch.no_grad():
                next(model.branch("b").parameters()).fill_(float("inf"))
        return losses

    monkeypatch.setattr(loop, "train_step", ruin)
    with pytest.raises(
        CrdkitError, match=r"branch 'b': [\w.]+ is not finite after the last epoch; lower training\.lear"
    ):
        run(checkpoints=Checkpoints(tmp_path / "checkpoints"))
    assert not (tmp_path / "checkpoints").exists()


def test_bfloat16_is_named_as_a_cause(monkeypatch):
    spoil(monkeypatch, step=2, branch="a", terms=["output"])
    with pytest.raises(
        CrdkitError, match=r"lower training\.learning_rate \(=0\.01\), or set training\.precision=fp32$"
    ):
        run(PLAIN.model_copy(update={"precision": "bf16"}))
