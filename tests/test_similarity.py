"""The cosine similarity of losses and maps is PyTorch's, and so is its gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from crdkit.model.similarity import cosine_similarity, vector_norms


@given(
    shape=st.sampled_from([(1, 1), (2, 5), (3, 4, 7), (2, 24, 6, 6)]),
    scales=st.tuples(st.sampled_from([1e-3, 1.0, 1e3]), st.sampled_from([1e-3, 1.0, 1e3])),
    seed=st.integers(0, 2**16),
    known_norms=st.booleans(),
)
def test_values_and_gradients_are_those_of_pytorch(shape, scales, seed, known_norms):
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(shape, generator=generator).double() * scale for scale in scales)
    expected_of, found_of = (second.clone().requires_grad_() for _ in range(2))
    expected = F.cosine_similarity(first, expected_of)
    found = cosine_similarity(first, found_of, first_norms=vector_norms(first) if known_norms else None)
    torch.testing.assert_close(found, expected)
    expected.sum().backward()
    found.sum().backward()
    torch.testing.assert_close(found_of.grad, expected_of.grad)


@pytest.mark.parametrize("zeros", ["first", "second", "both"])
def test_a_vector_of_zeros_has_similarity_zero_and_a_finite_gradient(zeros):
    first, second = torch.ones(1, 3, 2), torch.ones(1, 3, 2)
    if zeros != "second":
        first[..., 0] = 0
    if zeros != "first":
        second[..., 0] = 0
    second.requires_grad_()
    similarity = cosine_similarity(first, second)
    assert similarity[0].tolist() == pytest.approx([0.0, 1.0])
    similarity.sum().backward()
    assert torch.isfinite(second.grad).all()


def test_known_norms_are_not_computed_again():
    first, second = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 4.0]])
    assert cosine_similarity(first, second, first_norms=torch.tensor([10.0])).item() == pytest.approx(0.5)
