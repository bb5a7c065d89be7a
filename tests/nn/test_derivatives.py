"""Derivatives of every order and mode, under every transform of `torch.func`."""

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import (
    functional_call,
    grad,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    stack_module_state,
    vjp,
    vmap,
)
from torch.nn.utils.rnn import PackedSequence

from nn_cases import assert_close, twins
from tidegate.nn import GRU

# torch's forward mode compiles some of its formulas when it is first used.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script")

RESETS = ["after", "before", "none"]
LENGTHS = torch.tensor([2, 0, 3])


def small(reset: str = "after", **arguments) -> GRU:
    torch.manual_seed(0)
    return GRU(2, 3, reset=reset, bidirectional=True, dtype=torch.float64, **arguments)


def inputs(time: int = 3, batch: int = 3) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    make = {"dtype": torch.float64, "requires_grad": True}
    return (
        torch.randn(time, batch, 2, **make),
        torch.randn(2, batch, 3, **make),
        torch.rand(time, batch, 3, **make),
    )


def flat(gru: GRU, *, lengths=None, gates: bool = True):
    """The GRU as a function of its input, state, keep and parameters."""
    names = [name for name, _ in gru.named_parameters()]

    def run(x, hx, keep, *parameters):
        given = dict(zip(names, parameters, strict=True))
        options = {"lengths": lengths, "keep": keep, "return_gates": gates}
        result = functional_call(gru, given, (x, hx), options)
        if not gates:
            return tuple(result)
        return *result[:2], *(gate for kind in result.gates for gate in kind)

    return run, tuple(gru.parameters())


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("memory", ["recompute", "save"])
def test_first_derivatives(reset, lengths, memory):
    run, parameters = flat(small(reset, memory=memory), lengths=lengths)
    assert gradcheck(run, (*inputs(), *parameters), check_batched_grad=True)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("lengths", [None, torch.tensor([1, 2])])
def test_second_derivatives_and_forward_mode(reset, lengths):
    gru = GRU(1, 2, reset=reset, bidirectional=True, dtype=torch.float64)
    run, parameters = flat(gru, lengths=lengths)
    torch.manual_seed(1)
    given = [torch.rand(s, dtype=torch.float64) for s in ((2, 2, 1), (2, 2, 2), (2, 2, 2))]
    arguments = (*(g.requires_grad_() for g in given), *parameters)
    assert gradgradcheck(run, arguments, gen_non_contig_grad_outputs=True)
    assert gradcheck(run, arguments, check_forward_ad=True, check_backward_ad=False)


def test_second_derivatives_of_a_packed_sequence():
    gru, sizes = small(), torch.tensor([3, 2, 1])

    def run(rows, hx):
        output, h_n = gru(PackedSequence(rows, sizes), hx)
        return output.data, h_n

    x, hx, _ = inputs(2)
    assert gradgradcheck(run, (x.reshape(6, 2).detach().requires_grad_(), hx))


def test_a_third_derivative_is_torchs():
    theirs, ours = twins(2, 3, dtype=torch.float64)
    x = inputs()[0]

    def third(gru):
        (d,) = torch.autograd.grad(gru(x)[0].pow(3).sum(), x, create_graph=True)
        (d,) = torch.autograd.grad(d.sin().sum(), x, create_graph=True)
        return torch.autograd.grad(d.cos().sum(), [x, gru.weight_hh_l0])

    for actual, expected in zip(third(ours), third(theirs), strict=True):
        assert_close(actual, expected, eps=1000)


def test_forward_mode_is_a_product_with_the_jacobian():
    run, parameters = flat(small(), gates=False)
    arguments = tuple(t.detach() for t in (*inputs(), *parameters))
    tangents = tuple(torch.randn_like(t) for t in arguments)
    outputs, pushed = jvp(run, arguments, tangents)
    _, pull = vjp(run, *arguments)
    cotangents = tuple(torch.randn_like(output) for output in outputs)
    across = sum((t * p).sum() for t, p in zip(tangents, pull(cotangents), strict=True))
    along = sum((p * c).sum() for p, c in zip(pushed, cotangents, strict=True))
    torch.testing.assert_close(across, along)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(*pair) for pair in zip(arguments, tangents, strict=True)]
        eager = [forward_ad.unpack_dual(output).tangent for output in run(*duals)]
    for one, other in zip(eager, pushed, strict=True):
        torch.testing.assert_close(one, other)


def test_jacobians_agree_in_both_modes():
    run, parameters = flat(small(), gates=False)
    arguments = tuple(t.detach() for t in (*inputs(2, 2), *parameters))
    for argument in range(4):
        for one, other in zip(
            jacrev(run, argument)(*arguments), jacfwd(run, argument)(*arguments), strict=True
        ):
            torch.testing.assert_close(one, other)


def test_the_hessian_is_symmetric_and_torchs():
    theirs, ours = twins(2, 3, dtype=torch.float64)
    x = inputs(3, 2)[0].detach()
    matrix = hessian(lambda x: ours(x).output.pow(2).sum())(x).reshape(12, 12)
    torch.testing.assert_close(matrix, matrix.T)
    expected = torch.autograd.functional.hessian(lambda x: theirs(x)[0].pow(2).sum(), x)
    torch.testing.assert_close(matrix, expected.reshape(12, 12))


@pytest.mark.parametrize("in_dim", [0, 2])
@pytest.mark.parametrize("reset", RESETS)
def test_a_map_over_inputs_is_a_loop(in_dim, reset):
    gru = small(reset)
    x = torch.randn(4, 3, 5, 2, dtype=torch.float64).movedim(0, in_dim)
    keep = torch.rand(4, 3, 5, dtype=torch.float64)
    lengths = torch.randint(0, 4, (4, 5))

    def run(x, keep, lengths):
        return tuple(gru(x, keep=keep, lengths=lengths))

    mapped = vmap(run, in_dims=(in_dim, 0, 0))(x, keep, lengths)
    looped = [run(*each) for each in zip(x.unbind(in_dim), keep, lengths, strict=True)]
    for actual, expected in zip(mapped, zip(*looped, strict=True), strict=True):
        assert torch.equal(actual, torch.stack(expected))


@pytest.mark.parametrize("packed", [False, True])
def test_an_ensemble_is_a_loop_over_its_members(packed):
    members = [small() for _ in range(3)]
    for member in members:
        member.reset_parameters()
    parameters, buffers = stack_module_state(members)
    x = inputs()[0].detach()
    given = PackedSequence(x.reshape(9, 2), torch.tensor([4, 3, 2])) if packed else x

    def run(parameters, buffers):
        output, h_n = functional_call(members[0], (parameters, buffers), (given,))
        return (output.data if packed else output), h_n

    outputs, states = vmap(run)(parameters, buffers)
    for index, member in enumerate(members):
        output, h_n = member(given)
        assert torch.equal(outputs[index], output.data if packed else output)
        assert torch.equal(states[index], h_n)
    losses = vmap(lambda p, b: run(p, b)[0].pow(2).sum())(parameters, buffers)
    found = torch.autograd.grad(losses.sum(), list(parameters.values()))
    for index, member in enumerate(members):
        output = member(given).output
        loss = (output.data if packed else output).pow(2).sum()
        expected = torch.autograd.grad(loss, list(member.parameters()))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one[index], other)


@pytest.mark.parametrize("reset", RESETS)
def test_gradients_of_each_sample(reset):
    gru, x = small(reset), inputs(3, 4)[0].detach()
    parameters = dict(gru.named_parameters())

    def loss(parameters, row):
        return functional_call(gru, parameters, (row.unsqueeze(1),)).output.pow(2).sum()

    mapped = vmap(grad(loss), in_dims=(None, 1))(parameters, x)
    for row in range(4):
        for name, expected in grad(loss)(parameters, x[:, row]).items():
            torch.testing.assert_close(mapped[name][row], expected)


def test_per_sample_second_derivatives():
    gru, x = small(), inputs(2, 3)[0].detach()

    def loss(row):
        return gru(row.unsqueeze(1)).output.pow(2).sum()

    mapped = vmap(hessian(loss), in_dims=1)(x)
    for row in range(3):
        torch.testing.assert_close(mapped[row], hessian(loss)(x[:, row]))


@pytest.mark.parametrize("option", ["recurrent_dropout", "zoneout", "weight_dropout"])
def test_a_map_of_random_regularisers_draws_for_each(option):
    gru = small(**{option: 0.5})
    x = torch.ones(4, 3, 2, 2, dtype=torch.float64)
    hx = torch.ones(2, 2, 3, dtype=torch.float64)
    outputs = vmap(lambda x: gru(x, hx).output, randomness="different")(x)
    assert not torch.equal(outputs[0], outputs[1])


def test_meta_learning_steps_through_an_inner_update():
    """The gradient through a gradient step (MAML), against torch's."""
    theirs, ours = twins(2, 3, dtype=torch.float64)
    x = inputs()[0].detach()

    def outer(gru: nn.GRU):
        weights = dict(gru.named_parameters())
        inner = functional_call(gru, weights, (x,))[0].pow(2).mean()
        steps = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
        moved = {n: w - 0.1 * d for (n, w), d in zip(weights.items(), steps, strict=True)}
        loss = functional_call(gru, moved, (x,))[0].sin().mean()
        return torch.autograd.grad(loss, list(weights.values()))

    for actual, expected in zip(outer(ours), outer(theirs), strict=True):
        assert_close(actual, expected)
