"""The loss of a large softmax and its gradients are those of float64, for any number of threads."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from helpers import assert_matches
from tidegate.language import _loss

DTYPES = [torch.float32, torch.float64]


def drawn(seed, rows, features, vocabulary, dtype):
    """Output, weight, bias and targets, with scores of the order of one."""
    draw = torch.Generator().manual_seed(seed)
    sizes = (rows, features), (vocabulary, features), (vocabulary,)
    output, weight, bias = (torch.randn(*size, generator=draw).to(dtype) for size in sizes)
    return (output, weight * features**-0.5, bias), torch.randint(
        vocabulary, (rows,), generator=draw
    )


def ours(tensors, targets, factor=1.0):
    """The loss and its gradients."""
    tensors = [t.clone().requires_grad_() for t in tensors]
    loss = _loss.cross_entropy(*tensors, targets)
    return loss.detach(), *torch.autograd.grad(factor * loss, tensors)


def reference(tensors, targets, factor=1.0):
    tensors = [t.double().requires_grad_() for t in tensors]
    loss = F.cross_entropy(F.linear(*tensors), targets)
    return loss.detach(), *torch.autograd.grad(factor * loss, tensors)


def assert_right(found, expected, scale=0.0):
    # In float64 the reference rounds as much as we do; measured up to 14 eps between the two, where
    # most of a row's 9,001 probabilities cancel in the gradient of the output.
    eps = 24 if found[0].dtype == torch.float64 else 8
    for a, b in zip(found, expected, strict=True):
        assert_matches(a, b, eps=eps, scale=scale)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    seed=st.integers(0, 99),
    rows=st.integers(1, 20),
    features=st.integers(1, 40),
    vocabulary=st.integers(1, 150),
    factor=st.sampled_from([1.0, -3.0]),
)
def test_it_is_that_of_float64(dtype, seed, rows, features, vocabulary, factor):
    tensors, targets = drawn(seed, rows, features, max(vocabulary, 2), dtype)
    # A row's gradient of a score is a probability, of which one is less one.
    scale = abs(factor) / rows
    assert_right(ours(tensors, targets, factor), reference(tensors, targets, factor), scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(300, 33, 9001), (130, 300, 8192), (257, 16, 16000)])
def test_several_chunks_and_blocks_on_any_number_of_threads(dtype, sizes):
    tensors, targets = drawn(1, *sizes, dtype)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(ours(tensors, targets))
    finally:
        torch.set_num_threads(threads)
    assert_right(found[0], reference(tensors, targets))
    assert all(
        torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True)
    )
    with torch.no_grad():
        assert torch.equal(_loss.cross_entropy(*tensors, targets), found[0][0])


def test_slices_and_transposes_are_read_as_they_are():
    (output, weight, bias), targets = drawn(2, 8, 6, 20, torch.float64)
    tensors = output.t().contiguous().t()[::2], weight.t().contiguous().t()[::2], bias[::2]
    targets = targets[::2] // 2
    assert_right(ours(tensors, targets), reference(tensors, targets))


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_scores_do_not_overflow(dtype):
    output = torch.tensor([[1e4], [-1e4]], dtype=dtype)
    weight, bias = torch.tensor([[1.0], [-1.0]], dtype=dtype), torch.zeros(2, dtype=dtype)
    loss, d_output, *_ = ours((output, weight, bias), torch.tensor([0, 1]))
    assert loss == 0
    assert (d_output == 0).all()
    loss, *_ = ours((output, weight, bias), torch.tensor([1, 0]))
    assert loss == 2e4


def test_a_score_that_is_no_number_makes_the_loss_none():
    for place in range(0, 40, 3):
        (output, weight, bias), targets = drawn(3, 3, 2, 40, torch.float32)
        bias[place] = torch.nan
        assert _loss.cross_entropy(output, weight, bias, targets).isnan()
        bias[place] = -torch.inf
        targets[:] = (place + 1) % 40
        expected = F.cross_entropy(F.linear(output, weight, bias), targets)
        found = _loss.cross_entropy(output, weight, bias, targets)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_target_outside_the_vocabulary_is_refused():
    tensors, targets = drawn(4, 3, 2, 5, torch.float32)
    targets[1] = 5
    with pytest.raises(IndexError, match="target 5 of row 1 is not in a vocabulary of 5"):
        _loss.cross_entropy(*tensors, targets)
