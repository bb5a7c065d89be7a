"""Each option of our own against its equations written out in float64."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers import assert_matches
from nn_cases import assert_close, by_the_equations, gradients
from tidegate.nn import GRU
from tidegate.nn._draw import draw

RESETS = ["after", "before", "none"]
TIME, BATCH, FEATURES, HIDDEN = 6, 4, 3, 5


def make(*sizes, seed: int = 0, **options) -> GRU:
    torch.manual_seed(seed)
    return GRU(*(sizes or (FEATURES, HIDDEN)), dtype=torch.float64, **options)


def sequence(features: int = FEATURES) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(TIME, BATCH, features, dtype=torch.float64)


@pytest.mark.parametrize("reset", RESETS)
def test_recurrent_dropout_is_one_mask_where_the_state_meets_its_weights(reset):
    gru, x = make(recurrent_dropout=0.4, reset=reset, bidirectional=True, num_layers=2), sequence()
    hx = torch.randn(4, BATCH, HIDDEN, dtype=torch.float64)
    torch.manual_seed(2)
    output, h_n = gru(x, hx)
    torch.manual_seed(2)  # each layer draws one mask for both its directions
    ones = torch.ones(2, BATCH, HIDDEN, dtype=torch.float64)
    masks = torch.stack([F.dropout(ones, 0.4) for _ in range(2)])
    expected = by_the_equations(gru, x, hx, masks=masks)
    assert_matches(output.detach(), expected[0])
    assert_matches(h_n.detach(), expected[1])
    whole = by_the_equations(gru.eval(), x, hx)
    assert_matches(gru(x, hx).output.detach(), whole[0])


def zoned_by_hand(gru: GRU, x, zones: np.ndarray) -> np.ndarray:
    """One layer, one direction: h = zone * h + (1 - zone) * (what a GRU would make of h)."""
    plain = copy.deepcopy(gru)
    plain.zoneout = 0.0
    h, outputs = torch.zeros(1, BATCH, HIDDEN, dtype=torch.float64), []
    for t in range(TIME):
        new = plain(x[t : t + 1], h).output
        h = zones[t] * h + (1 - zones[t]) * new
        outputs.append(h[0])
    return torch.stack(outputs).detach().numpy()


@pytest.mark.parametrize("reset", RESETS)
def test_zoneout_keeps_units_at_random_and_their_share_when_not_training(reset):
    gru, x = make(zoneout=0.3, reset=reset), sequence()
    torch.manual_seed(2)
    output = gru(x).output
    torch.manual_seed(2)
    zones = draw((TIME, BATCH, HIDDEN), 0.3, x)
    assert_matches(output.detach(), zoned_by_hand(gru, x, zones))
    full = torch.full((TIME, BATCH, HIDDEN), 0.3, dtype=torch.float64)
    assert_matches(gru.eval()(x).output.detach(), zoned_by_hand(gru, x, full))


def test_weight_dropout_drops_recurrent_weights_for_a_call():
    gru, x = make(weight_dropout=0.4), sequence()
    torch.manual_seed(2)
    output = gru(x).output
    torch.manual_seed(2)
    dropped = copy.deepcopy(gru)
    dropped.weight_dropout = 0.0
    with torch.no_grad():
        dropped.weight_hh_l0.copy_(F.dropout(gru.weight_hh_l0, 0.4))
    assert torch.equal(output, dropped(x).output)
    (found,) = torch.autograd.grad(output.sum(), gru.weight_hh_l0)
    assert ((found == 0) == (dropped.weight_hh_l0 == 0)).all()
    gru.eval()
    gru.weight_dropout, whole = 0.0, gru(x).output
    assert torch.equal(gru(x).output, whole)


def normalised_by_hand(gru: GRU, x: torch.Tensor, reset: str) -> np.ndarray:
    """Ba, Kiros & Hinton's GRU: gates and candidate normalised apart, on either side."""
    numbers = {name[:-3]: p.detach().numpy() for name, p in gru.named_parameters()}
    gates = len(numbers["bias_ih"]) - HIDDEN

    def norm(v, side, part):
        v = (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-5)
        return numbers[f"norm_{side}"][part] * v + numbers[f"bias_{side}"][part]

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    some, rest = slice(0, gates), slice(gates, None)
    h, outputs = np.zeros((BATCH, HIDDEN)), []
    for x_t in x.numpy():
        of_x = x_t @ numbers["weight_ih"].T
        of_h = h @ numbers["weight_hh"].T
        opened = sigmoid(norm(of_x[:, some], "ih", some) + norm(of_h[:, some], "hh", some))
        z = opened[:, -HIDDEN:]
        r = 1.0 if reset == "none" else opened[:, :HIDDEN]
        x_n = norm(of_x[:, rest], "ih", rest)
        if reset == "before":
            n = np.tanh(x_n + norm((r * h) @ numbers["weight_hh"][rest].T, "hh", rest))
        else:
            n = np.tanh(x_n + r * norm(of_h[:, rest], "hh", rest))
        h = (1 - z) * n + z * h
        outputs.append(h)
    return np.stack(outputs)


@pytest.mark.parametrize("reset", RESETS)
def test_layer_norm_is_the_papers(reset):
    gru, x = make(layer_norm=True, reset=reset), sequence()
    assert torch.equal(gru.norm_hh_l0, torch.ones_like(gru.norm_hh_l0))
    with torch.no_grad():
        gru.norm_ih_l0.uniform_(0.5, 2)
        gru.norm_hh_l0.uniform_(0.5, 2)
    assert_matches(gru(x).output.detach(), normalised_by_hand(gru, x, reset))


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_projection_is_a_recurrence_of_lower_rank(reset, bidirectional):
    gru, x = make(proj_size=2, reset=reset, bidirectional=bidirectional), sequence()
    output, h_n = gru(x)
    assert output.shape == (TIME, BATCH, 2 * (1 + bidirectional))
    assert isinstance(h_n, tuple)
    assert h_n[0].shape == (1 + bidirectional, BATCH, HIDDEN)
    whole = make(reset=reset, bidirectional=bidirectional)
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            parameter.copy_(
                gru.get_parameter(name) @ gru.get_parameter(name.replace("hh", "hr"))
                if "weight_hh" in name
                else gru.get_parameter(name)
            )
    states = whole(x).output.split(HIDDEN, -1)
    suffixes = ["", "_reverse"][: len(states)]
    seen = [
        h @ gru.get_parameter(f"weight_hr_l0{s}").T for h, s in zip(states, suffixes, strict=True)
    ]
    assert_close(output, torch.cat(seen, -1))
    assert_close(gru(x, h_n).last(), whole(x, h_n[0]).last())


@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers_may_differ_in_size(bidirectional):
    gru, x = make(FEATURES, [7, 2, 4], bidirectional=bidirectional), sequence()
    directions = 1 + bidirectional
    assert gru.num_layers == 3
    output, h_n = gru(x)
    assert output.shape == (TIME, BATCH, directions * 4)
    assert [h.shape for h in h_n] == [(directions, BATCH, size) for size in (7, 2, 4)]
    below, states = x, []
    for layer, size in enumerate((7, 2, 4)):
        one = nn.GRU(below.size(-1), size, bidirectional=bidirectional, dtype=torch.float64)
        mine = {n: p for n, p in gru.state_dict().items() if f"_l{layer}" in n}
        one.load_state_dict({n.replace(f"_l{layer}", "_l0"): p for n, p in mine.items()})
        below, state = one(below)
        states.append(state)
    assert_close(output, below)
    for one, other in zip(h_n, states, strict=True):
        assert_close(one, other)
    assert gru(x, h_n).output.shape == output.shape
    with pytest.raises(TypeError, match="one for each layer, 3 in all, but it is one tensor"):
        gru(x, torch.cat(h_n[:1]))


def one_by_one(gru: GRU, sizes: list[int]):
    """The layers of a stack, each as a GRU of its own."""
    layers = []
    for layer, size in enumerate(sizes):
        one = make(size, HIDDEN, bidirectional=gru.bidirectional)
        mine = {n: p for n, p in gru.state_dict().items() if f"_l{layer}" in n}
        one.load_state_dict({n.replace(f"_l{layer}", "_l0"): p for n, p in mine.items()})
        layers.append(one)
    return layers


@pytest.mark.parametrize("features", [FEATURES, 2 * HIDDEN])
def test_a_residual_stack_adds_what_it_reads(features):
    gru = make(features, HIDDEN, 3, stack="residual", bidirectional=True)
    x = sequence(features)
    below = x
    for layer in one_by_one(gru, [features, 2 * HIDDEN, 2 * HIDDEN]):
        output = layer(below).output
        below = output + below if output.shape == below.shape else output
    assert torch.equal(gru(x).output, below)


def test_a_dense_stack_reads_all_that_lies_below():
    gru, x = make(FEATURES, HIDDEN, 3, stack="dense", bidirectional=True), sequence()
    below, output = x, x[..., :0]
    for layer in one_by_one(gru, [FEATURES, FEATURES + 10, FEATURES + 20]):
        below = torch.cat((below, output), -1)
        output = layer(below).output
    assert torch.equal(gru(x).output, output)


def test_a_learnt_state_is_used_where_none_is_given():
    gru, x = make(num_layers=2, bidirectional=True, learn_hx=True), sequence()
    names = ["hx_l0", "hx_l0_reverse", "hx_l1", "hx_l1_reverse"]
    with torch.no_grad():
        for name in names:
            gru.get_parameter(name).normal_()
    hx = torch.stack([gru.get_parameter(name) for name in names])
    spread = hx[:, None].expand(-1, BATCH, -1)
    assert torch.equal(gru(x).output, gru(x, spread).output)
    assert torch.equal(gru(x[:, 0]).output, gru(x[:, 0], hx).output)
    gru(x).output.sum().backward()
    assert all(gru.get_parameter(name).grad.any() for name in names)
    assert not make(learn_hx=True).hx_l0.any()


def test_recomputing_keeps_the_states_alone():
    x, kept = sequence(), {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.nbytes
        return tensor

    def bytes_kept(memory: str) -> int:
        gru = make(memory=memory)
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            output = gru(x).output
        given = [tensor.untyped_storage().data_ptr() for tensor in (x, *gru.parameters())]
        assert output.requires_grad
        return sum(size for place, size in kept.items() if place not in given)

    states = TIME * BATCH * HIDDEN * x.element_size()
    assert bytes_kept("recompute") == states
    assert bytes_kept("save") >= 4 * states


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    layers=st.integers(1, 3),
    reset=st.sampled_from(RESETS),
    stack=st.sampled_from(["plain", "residual", "dense"]),
    proj_size=st.integers(0, 4),
    layer_norm=st.booleans(),
    learn_hx=st.booleans(),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    noise=st.fixed_dictionaries(
        {
            "dropout": st.sampled_from([0.0, 0.3]),
            "recurrent_dropout": st.sampled_from([0.0, 0.3]),
            "zoneout": st.sampled_from([0.0, 0.3]),
            "weight_dropout": st.sampled_from([0.0, 0.3]),
        }
    ),
)
def test_options_go_together(
    seed, layers, reset, stack, proj_size, layer_norm, learn_hx, bidirectional, bias, noise
):
    if layers == 1:
        noise = noise | {"dropout": 0.0}
    arguments = dict(
        reset=reset,
        stack=stack,
        proj_size=proj_size,
        layer_norm=layer_norm,
        learn_hx=learn_hx,
        bidirectional=bidirectional,
        bias=bias,
        **noise,
    )
    gru = make(FEATURES, HIDDEN, layers, seed=seed, **arguments)
    assert_whole(gru)
    again = make(FEATURES, HIDDEN, layers, seed=seed + 1, **arguments)
    again.load_state_dict(gru.state_dict())
    x = sequence()
    assert torch.equal(gru.eval()(x).output, again.eval()(x).output)
    assert repr(gru) == repr(again)


def assert_whole(gru: GRU) -> None:
    """Nothing of its padding is seen, no gradient is lost, and chunks are the whole."""
    x, lengths, keep = sequence(), torch.tensor([3, 0, 6, 1]), torch.rand(TIME, BATCH).double()
    filled = torch.where((torch.arange(TIME)[:, None] < lengths)[..., None], x, 9.0)
    outcomes = []
    for padded in (x, filled):
        torch.manual_seed(3)
        result = gru(padded, lengths=lengths, keep=keep, return_gates=True)
        outcomes.append(result.output)
        assert result.last().shape[0] == BATCH
    assert torch.equal(*outcomes)
    found = gradients((result.output,), list(gru.parameters()))
    assert all(d.isfinite().all() for d in found)
    if not gru.bidirectional:
        gru.eval()
        head = gru(x[:2])
        tail = gru(x[2:], head.h_n)
        torch.testing.assert_close(torch.cat((head.output, tail.output)), gru(x).output)
        gru.train()


def test_the_looks_of_a_gru_with_options():
    gru = GRU(3, [4, 5], reset="none", zoneout=0.1, init=("orthogonal", "chrono"), learn_hx=True)
    assert repr(gru) == (
        "GRU(3, [4, 5], num_layers=2, reset='none', zoneout=0.1, "
        "init=('orthogonal', 'chrono'), learn_hx=True)"
    )


WRONG = [
    ({"reset": "during"}, "reset must be one of after, before, none, but it is 'during'"),
    ({"memory": "forget"}, "memory must be one of save, recompute, but it is 'forget'"),
    ({"stack": "tower"}, "stack must be one of plain, residual, dense, but it is 'tower'"),
    ({"init": "zeros"}, "init must be one of torch, orthogonal, chrono, but it is 'zeros'"),
    ({"zoneout": 1.0}, r"zoneout must be a number in \[0, 1\), but it is 1.0"),
    ({"weight_dropout": True}, "weight_dropout must be a number"),
    ({"recurrent_dropout": -0.1}, "recurrent_dropout must be a number"),
    ({"zoneout": "much"}, "zoneout must be a number in .*, but it is 'much'"),
    ({"init": None}, "init must be one of torch, orthogonal, chrono, but it is None"),
    ({"hidden_size": [4, True]}, r"hidden_size must be positive whole numbers, .* \[4, True\]"),
    ({"proj_size": 5}, "proj_size must be 0 or less than hidden_size, 5, but it is 5"),
    ({"hidden_size": [4, 0]}, r"hidden_size must be positive whole numbers, but it is \[4, 0\]"),
    ({"hidden_size": [4, 5], "num_layers": 3}, "num_layers must be 2, the number of hidden sizes"),
    ({"init": "chrono", "bias": False}, "bias must be True"),
    ({"init": "chrono", "chrono_range": (1, 9)}, "chrono_range must be 1 < shortest <= longest"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_wrong_option_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        GRU(**({"input_size": 3, "hidden_size": 5} | arguments))


WRONG_TYPES = [
    ({"hidden_size": 5.0}, "hidden_size should be of type int, or a list of them, got: 5.0"),
    ({"hidden_size": "5"}, "hidden_size should be of type int, or a list of them, got: '5'"),
    ({"num_layers": 2.0}, "num_layers must be a whole number, but it is 2.0"),
    ({"dropout": "much"}, "dropout must be a number, but it is 'much'"),
    ({"proj_size": True}, "proj_size must be a whole number, but it is True"),
    ({"proj_size": 2.0}, "proj_size must be a whole number, but it is 2.0"),
    ({"layer_norm": "yes"}, "layer_norm must be True or False, but it is 'yes'"),
    ({"learn_hx": None}, "learn_hx must be True or False, but it is None"),
    ({"init": "chrono", "chrono_range": 5}, "chrono_range must be two numbers of steps, .* is 5"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG_TYPES)
def test_an_option_of_the_wrong_type_is_named(arguments, message):
    with pytest.raises(TypeError, match=message):
        GRU(**({"input_size": 3, "hidden_size": 5} | arguments))
