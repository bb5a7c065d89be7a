"""The short way of a plain call has the bits of the long one; no other call takes it."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from nn_cases import assert_close, gradients, twins
from tidegate.nn import GRU, _short, accelerate


@pytest.fixture
def taken(monkeypatch):
    """For each call whether it took the short way."""
    way, run = [], _short.run

    def watched(*args):
        result = run(*args)
        way.append(result is not None)
        return result

    monkeypatch.setattr(_short, "run", watched)
    return way


SHAPES = list(product([1, 2], [False, True], [False, True], ["after", "before", "none"]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("layers", "both", "batch_first", "reset"), SHAPES)
def test_both_ways_have_the_same_bits(taken, layers, both, batch_first, reset, dtype, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(_short, "are_whole", lambda *_: False)  # with lengths, the long way
    options = {"bias": both or batch_first, "layer_norm": both == batch_first}
    gru = GRU(3, 18, layers, batch_first=batch_first, bidirectional=both, reset=reset, **options)
    gru.to(dtype)
    x = torch.randn(7, 5, 3, dtype=dtype)
    hx = torch.randn(layers * (1 + both), 7 if batch_first else 5, 18, dtype=dtype)
    lengths = [5] * 7 if batch_first else [7] * 5
    inputs = [x.requires_grad_(), hx.requires_grad_(), *gru.parameters()]
    for start in (None, hx):
        with torch.no_grad():
            short = gru(x, start)
        assert taken.pop()
        long = gru(x, start, lengths=lengths)
        assert all(map(torch.equal, short, long))
        under_autograd = gru(x, start)
        assert taken.pop() == (layers == 1)
        assert all(map(torch.equal, under_autograd, long))
        ours, theirs = gradients(under_autograd, inputs), gradients(long, inputs)
        assert all(map(torch.equal, ours, theirs))


def test_an_input_of_any_strides_goes_either_way(taken):
    theirs, gru = twins(4, 8)
    wide = torch.randn(9, 6, 12)
    for x, short in [
        (wide[::2, 1:4, 3:7], True),
        (wide[..., ::3], False),
        (wide[:0, :, :4], False),
    ]:
        with torch.no_grad():
            output, h_n = gru(x)
            assert taken.pop() == short
            if len(x):
                assert_close(output, theirs(x)[0])
                assert_close(h_n, theirs(x)[1])


def test_the_weights_of_the_moment_are_used(taken):
    theirs, gru = twins(3, 8)
    x = torch.randn(2, 1, 3)
    other = {name: torch.randn_like(p) / 3 for name, p in gru.named_parameters()}
    with torch.no_grad():
        assert_close(gru(x).output, theirs(x)[0])
        swapped = torch.func.functional_call(gru, other, (x,))
        assert_close(swapped.output, torch.func.functional_call(theirs, other, (x,))[0])
        for module in (gru, theirs):
            module.weight_ih_l0.data.mul_(2)
        assert_close(gru(x).output, theirs(x)[0])
        for module in (gru, theirs):
            module.weight_hh_l0.data = module.weight_hh_l0.data.mT.reshape(24, 8)
            module.bias_hh_l0 = nn.Parameter(torch.ones(24))
        assert_close(gru(x).output, theirs(x)[0])
    assert all(taken)


def test_what_is_not_plain_is_left(taken):
    x = torch.randn(4, 2, 3)
    dropped, normed = (
        GRU(3, 8, 2, dropout=0.5),
        parametrizations.weight_norm(GRU(3, 8), "weight_hh_l0"),
    )
    with torch.no_grad():
        for gru in (dropped, normed, GRU(3, 8, zoneout=0.1), GRU(3, 8, learn_hx=True)):
            gru(x)
        dropped.eval()(x)
        assert taken == [False, False, False, False, True]
        with torch.autocast("cpu", torch.bfloat16):
            GRU(3, 8)(x)
        GRU(3, 8)(x[0])
        assert not any(taken[-2:])


def test_what_is_wrong_is_said_as_on_the_long_way():
    gru, x = GRU(3, 8), torch.randn(4, 2, 3)
    for wrong, hx, error, match in [
        (x[..., :2], None, RuntimeError, "input_size"),
        (x.double(), None, ValueError, "dtype"),
        (x, torch.zeros(1, 3, 8), RuntimeError, "Expected hidden size"),
        (x, torch.zeros(1, 2, 8).double(), ValueError, "hx must have input's dtype"),
    ]:
        with pytest.raises(error, match=match):
            gru(wrong, hx)


WRITES = [
    lambda output: output.relu_(),
    lambda output: output.mul_(2),
    lambda output: output[:1].zero_(),
    lambda output: nn.functional.leaky_relu(output, 0.5, inplace=True),
]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("memory", ["save", "recompute"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_an_output_may_be_modified_in_place_as_torchs(write, memory, batch_first):
    theirs, ours = twins(3, 8, 2, bidirectional=True, batch_first=batch_first)
    ours.memory = memory
    found = []
    for gru in (theirs, ours):
        torch.manual_seed(1)
        x = torch.randn(4, 5, 3, requires_grad=True)
        output, h_n = gru(x)
        write(output)
        h_n.mul_(2)
        loss = output.square().sum() + h_n.sum()
        found.append(torch.autograd.grad(loss, [x, *gru.parameters()]))
    for actual, expected in zip(found[1], found[0], strict=True):
        assert_close(actual, expected)


def test_a_modified_output_has_second_derivatives_and_gates():
    gru = GRU(3, 4, dtype=torch.float64)
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)

    def slope(modify: bool):
        output, _, gates = gru(x, return_gates=True)
        output = output.mul_(2) if modify else output * 2
        loss = output.pow(3).sum() + gates.update[0].sum()
        (first,) = torch.autograd.grad(loss, x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), [x, gru.weight_hh_l0])

    for actual, expected in zip(slope(True), slope(False), strict=True):
        assert_close(actual, expected)


@pytest.mark.parametrize("lengths", [[4, 4], torch.tensor([4, 4]), (4, 4)])
def test_lengths_of_whole_rows_are_none(lengths, taken):
    gru, x = GRU(3, 8), torch.randn(4, 2, 3)
    for one, other in zip(gru(x, lengths=lengths), gru(x), strict=True):
        assert torch.equal(one, other)
    assert taken == [True, True]


def test_whole_lengths_of_a_wrong_kind_are_still_refused(taken):
    gru, x = GRU(3, 8), torch.randn(1, 2, 3)
    for wrong, error in [
        ([True, True], TypeError),
        (torch.ones(2), TypeError),
        ([1], ValueError),
        (torch.ones(2, 1, dtype=torch.int64), ValueError),
    ]:
        with pytest.raises(error, match="lengths must be"):
            gru(x, lengths=wrong)


def test_a_model_that_became_ours_takes_it(taken):
    model = nn.GRU(3, 8)
    accelerate(model)
    with torch.inference_mode():
        model(torch.randn(4, 2, 3))
    assert taken == [True]
