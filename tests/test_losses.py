"""The kinds of cosine loss against NumPy, in 64-bit floats."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crdkit.training.losses import cosine_loss


def distances(teacher, student):
    """1 - cosine over the channels (axis 1) of (B, C, P)."""
    dot = (teacher * student).sum(axis=1)
    return 1 - dot / (np.linalg.norm(teacher, axis=1) * np.linalg.norm(student, axis=1))


ORACLES = {
    "flattened": lambda t, s: distances(t.reshape(len(t), -1, 1), s.reshape(len(s), -1, 1)).mean(),
    "per_position": lambda t, s: distances(t, s).mean(),
    "hard_position": lambda t, s: np.mean([(d**2).sum() / d.sum() for d in distances(t, s)]),
}


@pytest.mark.parametrize("kind", ORACLES)
def test_kinds_of_loss_agree_with_numpy(kind):
    rng = np.random.default_rng(0)
    levels = [rng.normal(size=(2, 3, 4, 12)), rng.normal(size=(2, 3, 5, 4))]  # teacher and student of two levels
    levels = [pair + np.array([[[[1.0]]], [[[0.5]]]]) for pair in levels]
    teacher, student = (
        [torch.from_numpy(level[side]).reshape(3, level.shape[2], -1, 2).float() for level in levels] for side in (0, 1)
    )
    expected = sum(ORACLES[kind](*level) for level in levels)
    assert cosine_loss(teacher, student, kind=kind).item() == pytest.approx(expected, rel=1e-5)


def test_a_hard_position_outweighs_the_easy_ones():
    teacher = torch.ones(1, 2, 8, 8)
    student = teacher.clone().requires_grad_()
    with torch.no_grad():
        student[:, 1, 0, 0] = -1.0  # orthogonal: distance 1, elsewhere 0
    losses = {kind: cosine_loss([teacher], [student], kind=kind) for kind in ("per_position", "hard_position")}
    assert losses["per_position"].item() == pytest.approx(1 / 64, rel=1e-4)
    assert losses["hard_position"].item() == pytest.approx(1, rel=1e-4)
    gradients = {kind: torch.autograd.grad(loss, student)[0] for kind, loss in losses.items()}
    torch.testing.assert_close(gradients["hard_position"][..., 0, 0], 64 * gradients["per_position"][..., 0, 0])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ORACLES)
def test_perfect_students_have_no_loss_and_finite_gradients(kind, seed):
    generator = torch.Generator().manual_seed(seed)
    student = torch.rand(2, 3, 4, 4, generator=generator).requires_grad_()
    loss = cosine_loss([student.detach()], [student], kind=kind)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert bool(torch.isfinite(student.grad).all())
