from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import assert_gradients, assert_matches, gru_inputs
from tidegate.reference import gru, gru_backward, gru_stacked, gru_stacked_backward, gru_step
from tidegate.weights import GRUWeights, to_stacked

RESETS = ["after", "before", "none"]
seed = st.integers(0, 2**32 - 1)
size = st.integers(1, 5)
resets = pytest.mark.parametrize("reset", RESETS)


class Options(NamedTuple):
    """Everything that `gru` takes beyond the equations, one value of each that matters."""

    keep: str
    masked: bool
    ragged: bool
    reverse: bool

    def draw(self, seed, time, batch, hidden):
        rng = np.random.default_rng(seed)
        shape = {"row": (time, batch), "unit": (time, batch, hidden), "absent": None}[self.keep]
        return {
            "keep": None if shape is None else rng.uniform(0, 1.5, shape),
            "mask": rng.uniform(0, 1.5, (batch, hidden)) if self.masked else 1.0,
            "lengths": rng.integers(0, time + 1, batch) if self.ragged else None,
            "reverse": self.reverse,
        }


EVERY_OPTION = [
    Options("absent", masked=False, ragged=False, reverse=False),
    Options("row", masked=False, ragged=True, reverse=False),
    Options("unit", masked=True, ragged=False, reverse=True),
    Options("unit", masked=True, ragged=True, reverse=True),
]
options = st.builds(
    Options, st.sampled_from(["absent", "row", "unit"]), st.booleans(), st.booleans(), st.booleans()
)


@resets
@pytest.mark.parametrize("time", [0, 1, 4])
@pytest.mark.parametrize("options", EVERY_OPTION)
def test_gradients_are_those_of_differences(reset, time, options):
    arguments = gru_inputs(0, time, 2, 3, 4, reset=reset)
    options = options.draw(1, time, 2, 4)
    rng = np.random.default_rng(2)
    gates = 2 if reset == "none" else 3
    d_output, d_h_n = rng.standard_normal((time, 2, 4)), rng.standard_normal((2, 4))
    d_gates = rng.standard_normal((gates, time, 2, 4))

    def loss(*arguments, keep=options["keep"]):
        results = gru(*arguments, reset=reset, **options | {"keep": keep})
        return inner(results, (d_output, d_h_n, d_gates))

    d = {"d_output": d_output, "d_h_n": d_h_n, "d_gates": d_gates}
    *gradients, d_keep = gru_backward(*arguments, reset=reset, **d, **options)
    assert_gradients(loss, arguments, gradients)
    if d_keep is not None:
        assert_gradients(lambda keep: loss(*arguments, keep=keep), [options["keep"]], [d_keep])


@resets
@given(seed, st.integers(0, 6), size, size, size)
def test_the_stacked_form_is_the_split_form(reset, seed, time, batch, features, hidden):
    x, h_0, *weights = gru_inputs(seed, time, batch, features, hidden, reset=reset)
    rng = np.random.default_rng(seed)
    d = {
        "d_output": rng.standard_normal((time, batch, hidden)),
        "d_h_n": rng.standard_normal((batch, hidden)),
    }
    stacked_weights = to_stacked(GRUWeights(*weights, reset=reset))
    output, h_n, _ = gru(x, h_0, *weights, reset=reset)
    stacked_output, stacked_h_n = gru_stacked(x, h_0, *stacked_weights, reset=reset)
    assert_matches(stacked_output, output)
    assert_matches(stacked_h_n, h_n)

    split = gru_backward(x, h_0, *weights, reset=reset, **d)
    stacked = gru_stacked_backward(x, h_0, *stacked_weights, reset=reset, **d)
    assert_matches(stacked.x, split.x)
    assert_matches(stacked.h_0, split.h_0)
    # Stacking is linear: a change of the weights changes the loss as that of the stack does.
    change = gru_inputs(seed + 1, time, batch, features, hidden, reset=reset)[2:]
    stacked_change = to_stacked(GRUWeights(*change, reset=reset))
    # The sums have some hundred terms of either sign; 10 eps were measured.
    assert_matches(inner(stacked[2:], stacked_change), inner(split[2:6], change), eps=50)


def inner(a, b):
    return sum(np.sum(x * y) for x, y in zip(a, b, strict=True))


@given(seed, st.integers(1, 6), size, size, size, st.booleans(), st.booleans())
def test_agrees_with_torch(seed, time, batch, features, hidden, ragged, reverse):
    """Outputs and gradients, lengths by packing, either direction of a bidirectional layer."""
    arguments = gru_inputs(seed, time, batch, features, hidden)
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, time + 1, batch) if ragged else np.full(batch, time)
    d_output, d_h_n = (
        rng.standard_normal((time, batch, hidden)),
        rng.standard_normal((batch, hidden)),
    )
    d_output[np.arange(time)[:, None] >= lengths] = 0

    x, h_0, *weights = (torch.from_numpy(a).requires_grad_() for a in arguments)
    output, h_n = torch_gru(x, h_0, weights, torch.from_numpy(lengths), reverse)
    loss = (output * torch.from_numpy(d_output)).sum() + (h_n * torch.from_numpy(d_h_n)).sum()
    theirs = torch.autograd.grad(loss, (x, h_0, *weights))

    ours = gru(*arguments, lengths=lengths, reverse=reverse)
    assert_matches(output.detach(), ours.output)
    assert_matches(h_n.detach(), ours.h_n)
    gradients = gru_backward(
        *arguments, d_output=d_output, d_h_n=d_h_n, lengths=lengths, reverse=reverse
    )
    for their_gradient, gradient in zip(theirs, gradients[:-1], strict=True):
        assert_matches(their_gradient, gradient)


def torch_gru(x, h_0, weights, lengths, reverse):
    """One direction of a bidirectional `torch.nn.GRU` over a packed sequence."""
    layer = torch.nn.GRU(x.shape[2], h_0.shape[1], bidirectional=True, dtype=x.dtype)
    suffix = "_l0_reverse" if reverse else "_l0"
    names = [name + suffix for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    parameters = dict(zip(names, weights, strict=True))
    output, h_n = torch.func.functional_call(layer, parameters, (packed, torch.stack((h_0, h_0))))
    output, _ = torch.nn.utils.rnn.pad_packed_sequence(output, total_length=len(x))
    forward, backward = output.chunk(2, dim=2)
    return (backward, h_n[1]) if reverse else (forward, h_n[0])


@resets
@given(seed, st.integers(0, 6), st.sampled_from(["absent", "row", "unit"]), st.booleans())
def test_state_carries_across_a_cut(reset, seed, cut, keep, masked):
    x, h_0, *weights = gru_inputs(seed, time=6, batch=2, features=3, hidden=4, reset=reset)
    options = Options(keep, masked, ragged=False, reverse=False).draw(seed, 6, 2, 4)
    keep, mask = options["keep"], options["mask"]
    keep_head, keep_tail = (None, None) if keep is None else (keep[:cut], keep[cut:])
    whole = gru(x, h_0, *weights, reset=reset, keep=keep, mask=mask)
    head = gru(x[:cut], h_0, *weights, reset=reset, keep=keep_head, mask=mask)
    tail = gru(x[cut:], head.h_n, *weights, reset=reset, keep=keep_tail, mask=mask)
    assert_matches(np.concatenate((head.output, tail.output)), whole.output)
    assert_matches(np.concatenate((head.gates, tail.gates), axis=1), whole.gates)
    assert_matches(tail.h_n, whole.h_n)


@resets
@given(seed, st.integers(0, 6), options)
def test_a_row_is_computed_as_if_it_were_alone_and_had_no_padding(reset, seed, time, options):
    arguments = gru_inputs(seed, time, 3, 2, 4, reset=reset)
    options = options.draw(seed, time, 3, 4)
    x, h_0, *weights = arguments
    lengths = options["lengths"]
    if lengths is not None:
        x[np.arange(time)[:, None] >= lengths] = np.nan
    together = gru(x, h_0, *weights, reset=reset, **options)
    for row in range(3):
        length = time if lengths is None else lengths[row]
        alone = gru(
            x[:length, row : row + 1],
            h_0[row : row + 1],
            *weights,
            reset=reset,
            keep=None if options["keep"] is None else options["keep"][:length, row : row + 1],
            mask=options["mask"][row : row + 1] if isinstance(options["mask"], np.ndarray) else 1.0,
            reverse=options["reverse"],
        )
        assert_matches(together.output[:length, row], alone.output[:, 0])
        assert_matches(together.h_n[row], alone.h_n[0])
        assert not together.output[length:, row].any()


@resets
@given(seed, st.integers(0, 5))
def test_keep_of_zero_starts_the_sequence_anew(reset, seed, start):
    x, h_0, *weights = gru_inputs(seed, time=6, batch=2, features=3, hidden=4, reset=reset)
    keep = np.ones((6, 2))
    keep[start] = 0
    restarted = gru(x, h_0, *weights, reset=reset, keep=keep)
    fresh = gru(x[start:], np.zeros_like(h_0), *weights, reset=reset)
    assert_matches(restarted.output[start:], fresh.output)


@resets
@given(seed, st.integers(0, 6))
def test_in_reverse_the_sequence_runs_backwards(reset, seed, time):
    x, h_0, *weights = gru_inputs(seed, time, batch=2, features=3, hidden=4, reset=reset)
    backwards = gru(x, h_0, *weights, reset=reset, reverse=True)
    flipped = gru(x[::-1], h_0, *weights, reset=reset)
    assert_matches(backwards.output[::-1], flipped.output)
    assert_matches(backwards.h_n, flipped.h_n)


@resets
def test_an_update_gate_near_one_keeps_the_past_and_near_zero_takes_the_candidate(reset):
    x, h_0, weight_ih, weight_hh, bias_ih, bias_hh = gru_inputs(0, 1, 2, 3, 4, reset=reset)
    z = slice(0, 4) if reset == "none" else slice(4, 8)
    bias_ih[z] = 50
    kept, _ = gru_step(x[0], h_0, weight_ih, weight_hh, bias_ih, bias_hh, reset=reset)
    assert_matches(kept, h_0)
    bias_ih[z] = -50
    taken, gates = gru_step(x[0], h_0, weight_ih, weight_hh, bias_ih, bias_hh, reset=reset)
    assert_matches(taken, gates[-1])


def test_gates_of_weight_zero_are_one_half():
    x, h_0, *weights = gru_inputs(0, 1, 2, 3, 4)
    _, (r, z, n) = gru_step(x[0], h_0, *map(np.zeros_like, weights))
    assert (r == 0.5).all()
    assert (z == 0.5).all()
    assert (n == 0).all()


def test_extreme_gates_neither_overflow_nor_lose_their_limits():
    x, h_0, *weights = gru_inputs(0, 1, 2, 3, 4)
    weights[2][:] = [1e4, -1e4, 1e4, -1e4] * 3
    _, (r, z, n) = gru_step(x[0], h_0, *weights)
    for gate, low in ((r, 0), (z, 0), (n, -1)):
        assert (gate == [1, low, 1, low]).all()
