"""A layer of whole numbers is the layer of one-hot input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.nn import GRU
from tidegate.nn._tokens import TokenLayer, gru_of_tokens

size = st.integers(1, 40)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 99),
    time=size,
    batch=size,
    vocabulary=size,
    hidden=size,
    reset=st.sampled_from(["after", "before", "none"]),
    with_keep=st.booleans(),
    threads=st.integers(1, 3),
)
def test_it_is_the_layer_of_one_hot_input(
    seed, time, batch, vocabulary, hidden, reset, with_keep, threads
):
    torch.manual_seed(seed)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    gru = GRU(vocabulary, hidden, reset=reset, dtype=torch.float64)
    tokens = torch.randint(vocabulary, (time, batch))
    h_0 = torch.randn(1, batch, hidden, dtype=torch.float64, requires_grad=True)
    keep = torch.rand(time, batch, dtype=torch.float64) if with_keep else None
    whole = gru(torch.nn.functional.one_hot(tokens, vocabulary).double(), h_0, keep=keep)
    columns = None if keep is None else keep[..., None]
    layer = TokenLayer(tokens, h_0, columns, None, *gru.parameters())
    ours = gru_of_tokens(layer, reset)
    assert torch.equal(ours[0], whole.output) or torch.allclose(ours[0], whole.output, atol=1e-13)
    wanted = (h_0, *gru.parameters())
    weights = torch.randn_like(whole.output), torch.randn_like(whole.h_n)

    def gradients(output, h_n):
        return torch.autograd.grad((output * weights[0]).sum() + (h_n * weights[1]).sum(), wanted)

    for d_ours, d_whole in zip(gradients(*ours), gradients(*whole), strict=True):
        torch.testing.assert_close(d_ours, d_whole, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        assert torch.equal(gru_of_tokens(layer, reset)[0], ours[0])
    torch.set_num_threads(before)


def test_a_mask_meets_the_recurrent_weights():
    torch.manual_seed(0)
    gru = GRU(7, 9)
    tokens, mask = torch.randint(7, (11, 3)), torch.rand(1, 3, 9)
    layer = TokenLayer(tokens, torch.zeros(1, 3, 9), None, mask, *gru.parameters())
    output, _ = gru_of_tokens(layer, "after")
    h = torch.zeros(3, 9)
    for step, x in enumerate(torch.nn.functional.one_hot(tokens, 7).float()):
        x_gates = x @ gru.weight_ih_l0.T + gru.bias_ih_l0
        h_gates = (mask[0] * h) @ gru.weight_hh_l0.T + gru.bias_hh_l0
        r, z = (x_gates[:, :18] + h_gates[:, :18]).sigmoid().chunk(2, 1)
        n = (x_gates[:, 18:] + r * h_gates[:, 18:]).tanh()
        h = (1 - z) * n + z * h
        torch.testing.assert_close(output[step], h)


@pytest.mark.parametrize("wrong", [-1, 7])
def test_a_token_outside_the_vocabulary_is_named(wrong):
    gru = GRU(7, 9)
    tokens = torch.tensor([[0], [wrong]])
    layer = TokenLayer(tokens, torch.zeros(1, 1, 9), None, None, *gru.parameters())
    with pytest.raises(IndexError, match=f"tokens must be below 7, but one is {wrong}"):
        gru_of_tokens(layer, "after")
    with pytest.raises(TypeError, match="tokens must be int64 on the CPU"):
        gru_of_tokens(layer._replace(tokens=tokens.int()), "after")


def test_a_second_derivative_is_refused():
    gru = GRU(7, 9)
    layer = TokenLayer(
        torch.zeros(3, 1).long(), torch.zeros(1, 1, 9), None, None, *gru.parameters()
    )
    output, _ = gru_of_tokens(layer, "after")
    (slope,) = torch.autograd.grad(output.square().sum(), gru.weight_hh_l0, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
