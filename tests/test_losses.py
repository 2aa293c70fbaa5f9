"""The kinds of cosine loss against NumPy, in 64-bit floats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from crdkit.model.crd import BranchOutput, CRDOutput
from crdkit.training.losses import TERMS, branch_losses, cosine_loss, counted_samples, crd_losses


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


def made_up_levels(seed, batch=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, channels, size, size, generator=generator) for channels, size in ((3, 4), (6, 2))]


def oracle(kind, teacher, student, rows=slice(None)):
    """The loss of the chosen samples, summed over levels, in 64-bit floats."""
    flat = ([level[rows].double().flatten(2).numpy() for level in levels] for levels in (teacher, student))
    return sum(ORACLES[kind](t, s) for t, s in zip(*flat, strict=True))


@pytest.mark.parametrize("kind", ORACLES)
@pytest.mark.parametrize("rows", [[0], [0, 2], [0, 1, 2], []])
def test_samples_that_do_not_count_are_left_out(kind, rows):
    teacher, student = made_up_levels(0), made_up_levels(1)
    counted = torch.tensor([index in rows for index in range(3)])
    loss = cosine_loss(teacher, student, kind=kind, counted=counted)
    expected = oracle(kind, teacher, student, rows) if rows else 0
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert loss.shape == ()


def test_levels_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="zip"):
        cosine_loss(made_up_levels(0), made_up_levels(1)[:1])


def test_half_precision_features_are_compared_in_32_bits():
    teacher, student = ([level.bfloat16() for level in made_up_levels(seed)] for seed in (0, 1))
    for kind in ORACLES:
        loss = cosine_loss(teacher, student, kind=kind)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(oracle(kind, teacher, student), rel=1e-5)


def made_up_output(*, amplifiers=True):
    """A target "a" with the sources "b" and "c", and "b" without any."""
    a = BranchOutput(
        filtered={"b": made_up_levels(10), "c": made_up_levels(11)},
        amplified={"b": made_up_levels(12), "c": made_up_levels(13)} if amplifiers else {},
        decoder=made_up_levels(14),
        output=made_up_levels(15),
    )
    b = BranchOutput(filtered={}, amplified={}, decoder=made_up_levels(16), output=made_up_levels(17))
    return CRDOutput(teacher={"a": made_up_levels(0), "b": made_up_levels(1)}, branches={"a": a, "b": b})


@pytest.mark.parametrize("kind", ORACLES)
def test_terms_compare_the_targets_teacher_with_each_part(kind):
    out = made_up_output()
    losses = crd_losses(out, kind=kind)
    assert {name: list(terms) for name, terms in losses.items()} == {"a": list(TERMS), "b": list(TERMS)}
    branch, teacher = out.branches["a"], out.teacher["a"]
    expected = {
        "filter": sum(oracle(kind, teacher, levels) for levels in branch.filtered.values()),
        "amplifier": sum(oracle(kind, teacher, levels) for levels in branch.amplified.values()),
        "decoder": oracle(kind, teacher, branch.decoder),
        "output": oracle(kind, teacher, branch.output),
    }
    assert {name: term.item() for name, term in losses["a"].items()} == pytest.approx(expected, rel=1e-5)
    expected = {"filter": 0, "amplifier": 0, "output": 0}  # without amplifiers the output is the decoder's
    expected["decoder"] = oracle(kind, out.teacher["b"], out.branches["b"].decoder)
    assert {name: term.item() for name, term in losses["b"].items()} == pytest.approx(expected, rel=1e-5)
    assert all(term.dtype == torch.float32 for terms in losses.values() for term in terms.values())


def test_the_published_loss_is_the_default():
    teacher, student, out = made_up_levels(0), made_up_levels(1), made_up_output()
    assert cosine_loss(teacher, student) == cosine_loss(teacher, student, kind="flattened")
    assert crd_losses(out) == crd_losses(out, kind="flattened")
    default = branch_losses(out.teacher["a"], out.branches["a"])
    assert default == branch_losses(out.teacher["a"], out.branches["a"], kind="flattened") == crd_losses(out)["a"]


def test_presence_and_weights_reach_the_term_of_their_source():
    out = made_up_output()
    present = {
        "a": torch.tensor([True, True, False]),
        "b": torch.tensor([False, True, True]),
        "c": torch.tensor([True, True, True]),
    }
    counted = counted_samples(present, "a")
    assert {name: has.tolist() for name, has in counted.items()} == {
        None: [True, True, False],
        "a": [True, True, False],
        "b": [False, True, False],
        "c": [True, True, False],
    }
    assert counted_samples(None, "a") is None
    branch, teacher = out.branches["a"], out.teacher["a"]

    def of(levels, rows):
        return oracle("flattened", teacher, levels, rows)

    each = {
        "filter": [of(branch.filtered["b"], [1]), of(branch.filtered["c"], [0, 1])],
        "amplifier": [of(branch.amplified["b"], [1]), of(branch.amplified["c"], [0, 1])],
        "decoder": [of(branch.decoder, [0, 1])],
        "output": [of(branch.output, [0, 1])],
    }
    with_presence = crd_losses(replace(out, present=present))["a"]
    expected = {name: sum(values) for name, values in each.items()}
    assert {name: term.item() for name, term in with_presence.items()} == pytest.approx(expected, rel=1e-5)

    weights = {None: 3.0, "b": 0.5, "c": torch.tensor(2.0)}
    weighted = branch_losses(teacher, branch, counted=counted, weights=weights)
    expected = {
        "filter": 0.5 * each["filter"][0] + 2 * each["filter"][1],
        "amplifier": 0.5 * each["amplifier"][0] + 2 * each["amplifier"][1],
        "decoder": 3 * each["decoder"][0],
        "output": 3 * each["output"][0],
    }
    assert {name: term.item() for name, term in weighted.items()} == pytest.approx(expected, rel=1e-5)


def test_no_gradient_reaches_the_weights_of_hard_positions():
    teacher = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    student = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    distance = 1 - torch.nn.functional.cosine_similarity(teacher, student, dim=1).flatten(1)
    weight = (distance / distance.sum(dim=1, keepdim=True)).detach()
    (expected,) = torch.autograd.grad((weight * distance).sum(dim=1).mean(), student)
    (found,) = torch.autograd.grad(cosine_loss([teacher], [student], kind="hard_position"), student)
    torch.testing.assert_close(found, expected)
