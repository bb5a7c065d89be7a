"""Lengths, keep and gates: by the equations, by their laws, and in every form of a call."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence

from helpers import assert_matches
from nn_cases import by_the_equations, gradients
from tidegate.nn import GRU

RESETS = ["after", "before", "none"]
size = st.integers(1, 9)


def draw(seed, time, batch, features, hidden, layers=1, **options):
    torch.manual_seed(seed)
    gru = GRU(features, hidden, layers, **options)
    dtype = gru.weight_hh_l0.dtype
    states = layers * (1 + gru.bidirectional)
    return (
        gru,
        torch.randn(time, batch, features, dtype=dtype),
        torch.randn(states, batch, hidden, dtype=dtype),
    )


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    time=size,
    batch=size,
    features=size,
    hidden=st.integers(1, 20),
    layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    reset=st.sampled_from(RESETS),
    keep=st.sampled_from([None, "row", "unit"]),
    ragged=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_it_computes_the_equations(
    seed, time, batch, features, hidden, layers, bidirectional, bias, reset, keep, ragged, dtype
):
    gru, x, hx = draw(
        seed,
        time,
        batch,
        features,
        hidden,
        layers,
        bidirectional=bidirectional,
        bias=bias,
        reset=reset,
        dtype=dtype,
    )
    shape = {"row": (time, batch), "unit": (time, batch, hidden)}
    keep = None if keep is None else torch.rand(shape[keep], dtype=dtype)
    lengths = torch.randint(0, time + 1, (batch,)) if ragged else None
    output, h_n, gates = gru(x, hx, lengths=lengths, keep=keep, return_gates=True)
    expected = by_the_equations(gru, x, hx, lengths=lengths, keep=keep)
    assert_matches(output.detach(), expected[0])
    assert_matches(h_n.detach(), expected[1])
    for layer, by_gate in enumerate(expected[2]):
        found = [kind[layer] for kind in gates if kind]
        assert_matches(torch.stack(found).detach(), by_gate)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_every_form_of_a_call_is_the_same_call(bidirectional, batch_first):
    gru, x, hx = draw(0, 6, 4, 3, 5, 2, bidirectional=bidirectional)
    lengths, keep = torch.tensor([2, 6, 1, 4]), torch.rand(6, 4, 5)
    expected = gru(x, hx, lengths=lengths, keep=keep, return_gates=True)
    gru.batch_first = batch_first

    def turn(t):
        return t.transpose(0, 1) if batch_first else t

    packed = pack_padded_sequence(turn(x), lengths, batch_first=batch_first, enforce_sorted=False)
    for call in (
        {"input": turn(x), "lengths": lengths.tolist()},
        {"input": turn(x), "lengths": lengths.int().numpy()},
        {"input": packed},
    ):
        found = gru(hx=hx, keep=turn(keep), return_gates=True, **call)
        assert torch.equal(found.h_n, expected.h_n)
        assert torch.equal(found.last(), expected.last())
        for one, other in zip(
            [found.output, *found.gates.update],
            [expected.output, *expected.gates.update],
            strict=True,
        ):
            if "lengths" in call:
                assert torch.equal(turn(one), other)
            else:
                repacked = pack_padded_sequence(other, lengths, enforce_sorted=False)
                assert torch.equal(one.data, repacked.data)
    for row in range(4):
        only = slice(0, int(lengths[row]))
        found = gru(x[only, row], hx[:, row], keep=keep[only, row], return_gates=True)
        assert torch.equal(found.output, expected.output[only, row])
        assert torch.equal(found.h_n, expected.h_n[:, row])
        assert torch.equal(found.last(), expected.last()[row])
        assert torch.equal(found.gates.new[1], expected.gates.new[1][only, row])


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    time=size,
    batch=st.integers(1, 40),
    hidden=st.integers(1, 70),
    reset=st.sampled_from(RESETS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_a_rows_bits_do_not_depend_on_its_company(seed, time, batch, hidden, reset, dtype):
    gru, x, hx = draw(seed, time, batch, 5, hidden, 2, bidirectional=True, reset=reset, dtype=dtype)
    whole = gru(x, hx)
    order = torch.randperm(batch)
    shuffled = gru(x[:, order], hx[:, order])
    assert torch.equal(shuffled.output, whole.output[:, order])
    row = seed % batch
    alone = gru(x[:, row : row + 1], hx[:, row : row + 1])
    assert torch.equal(alone.output[:, 0], whole.output[:, row])
    assert torch.equal(alone.h_n[:, 0], whole.h_n[:, row])


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    time=st.integers(2, 40),
    batch=size,
    hidden=st.integers(1, 70),
    cut=st.integers(0, 40),
    reset=st.sampled_from(RESETS),
)
def test_chunks_with_the_state_carried_are_the_whole_to_the_bit(
    seed, time, batch, hidden, cut, reset
):
    gru, x, hx = draw(seed, time, batch, 5, hidden, 2, reset=reset)
    whole = gru(x, hx)
    outputs, state = [], hx
    for chunk in (x[:cut], x[cut : cut + 1], x[cut + 1 :]):
        output, state = gru(chunk, state)
        outputs.append(output)
    assert torch.equal(torch.cat(outputs), whole.output)
    assert torch.equal(state, whole.h_n)


@pytest.mark.parametrize("reset", RESETS)
def test_zero_keep_restarts_an_episode_to_the_bit(reset):
    gru, x, hx = draw(0, 7, 2, 3, 5, 1, reset=reset)
    keep = torch.ones(7, 2)
    keep[3, 0] = 0
    output = gru(x, hx, keep=keep).output
    restarted = gru(x[3:, :1])
    assert torch.equal(output[3:, 0], restarted.output[:, 0])
    assert torch.equal(output[:, 1], gru(x, hx).output[:, 1])
    assert torch.equal(gru(x, hx, keep=keep.bool()).output, output)


def test_keep_may_be_one_view_for_all():
    gru, x, hx = draw(0, 7, 2, 3, 5)
    decay = torch.tensor(0.5, requires_grad=True)
    output = gru(x, hx, keep=decay.expand(7, 2)).output
    assert torch.equal(output, gru(x, hx, keep=torch.full((7, 2), 0.5)).output)
    output.sum().backward()
    assert decay.grad.abs() > 0


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_what_lies_past_a_row_is_neither_read_nor_written(reset, bidirectional):
    gru, x, hx = draw(0, 6, 4, 3, 5, 2, reset=reset, bidirectional=bidirectional)
    lengths = torch.tensor([2, 6, 0, 4])
    padding = torch.arange(6)[:, None] >= lengths
    keep = torch.rand(6, 4)
    results = []
    for filler in (0.0, float("nan")):
        filled = torch.where(padding[..., None], filler, x).requires_grad_()
        given = torch.where(padding, filler, keep).requires_grad_()
        outputs = gru(filled, hx, lengths=lengths, keep=given)
        found = gradients(outputs, [filled, given, *gru.parameters()])
        results.append([*outputs, *found])
        assert not outputs.output[padding].any()
        assert not found[0][padding].any()
        assert not found[1][padding].any()
        assert torch.equal(outputs.h_n[:, 2], hx[:, 2])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("options", [{}, {"layer_norm": True}, {"zoneout": 0.1}])
def test_a_nan_stays_in_its_row(options):
    gru, x, hx = draw(0, 6, 4, 3, 5, 2, bidirectional=True, **options)
    gru.eval()
    clean = gru(x, hx).output
    x[2, 1] = float("nan")
    output = gru(x, hx).output
    others = [0, 2, 3]
    assert torch.equal(output[:, others], clean[:, others])
    assert output[2:, 1].isnan().all()


@pytest.mark.parametrize("packed", [False, True])
def test_last_is_the_top_state_at_each_rows_own_end(packed):
    gru, x, _ = draw(0, 6, 4, 3, 5, 2, bidirectional=True)
    lengths = torch.tensor([2, 6, 1, 4])
    result = gru(x, lengths=lengths)
    for row, length in enumerate(lengths):
        last = torch.cat((result.output[length - 1, row, :5], result.output[0, row, 5:]))
        assert torch.equal(result.last()[row], last)
    if packed:
        x = pack_padded_sequence(x, lengths, enforce_sorted=False)
        assert torch.equal(gru(x).last(), result.last())


def test_results_unpack_and_have_names():
    gru, x, _ = draw(0, 6, 4, 3, 5, 2)
    result = gru(x)
    output, h_n = result
    assert output is result.output
    assert h_n is result.h_n
    output, h_n, gates = gru(x, return_gates=True)
    assert [gate.shape for gate in gates.reset] == [(6, 4, 5)] * 2
    assert np.isfinite(gates.update[0].detach().numpy()).all()


def test_gates_change_nothing_and_have_gradients():
    gru, x, hx = draw(0, 6, 4, 3, 5, 2)
    result = gru(x, hx, return_gates=True)
    assert torch.equal(result.output, gru(x, hx).output)
    z, n = result.gates.update[1], result.gates.new[1]
    before = torch.cat((hx[1:], result.output[:-1]))
    torch.testing.assert_close(result.output, (1 - z) * n + z * before)
    (found,) = torch.autograd.grad(z.sum(), gru.weight_hh_l0)
    assert found.abs().sum() > 0


WRONG = [
    (lambda g, x, h: g(x[None], h), ValueError, "Expected input to be 2D or 3D, got 4D"),
    (lambda g, x, h: g(x[..., :2], h), RuntimeError, "Expected 3, got 2"),
    (lambda g, x, h: g(x.double(), h), ValueError, "dtype .*float64.* does not match weight"),
    (lambda g, x, h: g(x.to("meta"), h), RuntimeError, "input tensor at meta and param.* cpu"),
    (lambda g, x, h: g(x, h[:, 0]), RuntimeError, "hx should also be 3-D but got 2-D"),
    (lambda g, x, h: g(x[:, 0], h), RuntimeError, "hx should also be 2-D but got 3-D"),
    (lambda g, x, h: g(x, h[:1]), RuntimeError, r"hidden size \(2, 4, 5\), got \[1, 4, 5\]"),
    (lambda g, x, h: g(x, h.double()), ValueError, "hx must have input's dtype, torch.float32"),
    (lambda g, x, h: g(x, h.to("meta")), RuntimeError, "at cpu and hidden tensor at meta"),
    (lambda g, x, h: g(x, (h, h)), TypeError, "hx must be a tensor, but it is a tuple"),
    (lambda g, x, h: g(x.tolist(), h), TypeError, "input must be a tensor or packed, .* is a list"),
    (lambda g, x, h: g(x, h.numpy()), TypeError, "hx must be a tensor, but it is a ndarray"),
    (lambda g, x, h: g(x, (h, None)), TypeError, "hx must hold tensors, but it holds a NoneType"),
    (lambda g, x, h: g(x, lengths=["1"] * 4), TypeError, "integers, one a row, .* are .'1', '1'"),
    (lambda g, x, h: g(x, lengths=[None] * 4), TypeError, "integers, one a row, .* are .None"),
    (lambda g, x, h: g(x, lengths={1, 2}), TypeError, "integers, one a row, but they are {1, 2}"),
    (lambda g, x, h: g(x, lengths=torch.ones(4, device="meta")), ValueError, "it is on meta"),
    (lambda g, x, h: g(x.to_sparse()), TypeError, "input must be a dense tensor, .*sparse_coo"),
    (lambda g, x, h: g(x, h.to_sparse()), TypeError, "hx must be a dense tensor, .*sparse_coo"),
    (lambda g, x, h: g(x, keep=x[..., 0].to_sparse()), TypeError, "keep must be a dense tensor"),
    (
        lambda g, x, h: g(x, keep=x[..., 0] + 0j),
        TypeError,
        "keep must be real or bool, .*complex64",
    ),
    (lambda g, x, h: g(x, return_gates="yes"), TypeError, "return_gates must be True or False"),
    (lambda g, x, h: g(x, lengths=3), TypeError, "lengths must be integers, one a row, .* are 3"),
    (lambda g, x, h: g(x, keep=[[1.0]]), TypeError, "keep must be a tensor, but it is a list"),
    (lambda g, x, h: g(x, lengths=[1, 2]), ValueError, r"lengths must be \(4,\), but it is \(2,\)"),
    (lambda g, x, h: g(x, lengths=[7, 1, 1, 1]), ValueError, "between 0 and 6.* one is 7"),
    (lambda g, x, h: g(x, lengths=[-1, 1, 1, 1]), ValueError, "between 0 and 6.* one is -1"),
    (lambda g, x, h: g(x, lengths=[1.0] * 4), TypeError, "lengths must be integers"),
    (lambda g, x, h: g(x[:, 0], lengths=[3]), ValueError, "lengths must be None with unbatched"),
    (
        lambda g, x, h: g(pack_padded_sequence(x, [6] * 4), lengths=[6] * 4),
        ValueError,
        "lengths must be None with a PackedSequence",
    ),
    (
        lambda g, x, h: g(x, keep=torch.ones(4, 6)),
        ValueError,
        r"keep must be \(6, 4\) or \(6, 4, 5\), but it is \(4, 6\)",
    ),
    (lambda g, x, h: g(x, keep=torch.ones(6, 4, 3)), ValueError, r"it is \(6, 4, 3\)"),
    (lambda g, x, h: g(x, keep=torch.ones(6, 4, device="meta")), ValueError, "keep must be on cpu"),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG)
@pytest.mark.parametrize("options", [{}, {"layer_norm": True}], ids=["kernels", "torch"])
def test_a_wrong_argument_is_named(call, error, message, options):
    gru, x, hx = draw(0, 6, 4, 3, 5, 2, **options)
    with pytest.raises(error, match=message):
        call(gru, x, hx)
