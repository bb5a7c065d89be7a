"""Normalised layers in the kernels against torch operations, held to the paper elsewhere."""

from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers import assert_matches
from nn_cases import assert_close
from tidegate.nn import GRU, _functional, _road
from tidegate.nn._layer import GATES, Layer, Plan


class Case(NamedTuple):
    layer: Layer
    plan: Plan


@st.composite
def cases(draw):
    torch.manual_seed(draw(st.integers(0, 2**31)))
    time, batch, features = (draw(st.integers(1, most)) for most in (7, 5, 9))
    hidden, directions = draw(st.integers(1, 37)), draw(st.integers(1, 2))
    reset, bias = draw(st.sampled_from(tuple(GATES))), draw(st.booleans())

    def maybe(tensor: Tensor) -> Tensor | None:
        return tensor if draw(st.booleans()) else None

    gates = len(GATES[reset]) * hidden
    shapes = [(gates, features), (gates, hidden), *[(gates,)] * (4 if bias else 2)]
    weights = []
    for _ in range(directions):
        drawn = [torch.randn(shape).double() / 3 for shape in shapes]
        weights += [*drawn[:-2], *(1 + gain for gain in drawn[-2:])]
    state = directions, batch, hidden
    layer = Layer(
        torch.randn(time, batch, features).double(),
        maybe(torch.randn(state).double()),
        maybe(torch.rand(time, batch, draw(st.sampled_from((1, hidden)))).double()),
        maybe(torch.rand(state).double()),
        maybe(torch.rand(time, batch, directions * hidden).double()),
        maybe(torch.randint(0, time + 1, (batch,))),
        None,
        weights,
    )
    return Case(layer, Plan(reset, directions, bias, True, draw(st.booleans()), True))


def results(case: Case, road) -> list[Tensor]:
    """Output, h_n and gates, and the gradients of all that has one."""
    fixed = [
        None if t is None else t.clone().requires_grad_(t.is_floating_point())
        for t in case.layer[:-1]
    ]
    weights = [weight.clone().requires_grad_() for weight in case.layer.weights]
    outputs = road(Layer._make((*fixed, weights)), case.plan)
    loss = sum((output * torch.cos(output.detach() * 5)).sum() for output in outputs)
    asked = [t for t in (*fixed[:3], *weights) if t is not None]
    found = torch.autograd.grad(loss, asked, materialize_grads=True, allow_unused=True)
    return [t.detach() for t in (*outputs, *found)]


@settings(max_examples=40, deadline=None)
@given(case=cases(), save=st.booleans())
def test_the_kernels_compute_what_torchs_operations_do(case, save):
    expected = results(case, _functional.gru_layer)
    found = results(case, lambda layer, plan: _road.gru_layer(layer, plan, save))
    for actual, other in zip(found, expected, strict=True):
        # What is normalised of one or two units has a scale of up to 316, which errors share at
        # every step: 6,442 eps in 3,000 cases, and 211 with more units.
        assert_matches(actual.numpy(), other.numpy(), eps=2**16)


@pytest.mark.parametrize("reset", tuple(GATES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_rows_bits_do_not_depend_on_its_company_nor_on_cuts(reset, dtype):
    torch.manual_seed(0)
    gru = GRU(3, 21, reset=reset, layer_norm=True, dtype=dtype)
    x = torch.randn(9, 5, 3, dtype=dtype)
    whole = gru(x)
    for row in range(5):
        assert torch.equal(gru(x[:, row : row + 1]).output, whole.output[:, row : row + 1])
    head = gru(x[:4])
    tail = gru(x[4:], head.h_n)
    assert torch.equal(torch.cat((head.output, tail.output)), whole.output)


@pytest.mark.parametrize("reset", tuple(GATES))
def test_it_does_not_see_the_scale_of_its_products(reset):
    torch.manual_seed(0)
    gru = GRU(4, 9, reset=reset, layer_norm=True, dtype=torch.float64)
    x = torch.randn(6, 3, 4, dtype=torch.float64)
    expected = gru(x).output
    with torch.no_grad():
        gru.weight_ih_l0.mul_(1000)
        gru.weight_hh_l0.mul_(1000)
    # As far as the products are large against the square root of epsilon.
    torch.testing.assert_close(gru(x).output, expected, rtol=1e-2, atol=1e-2)


def test_a_nan_stays_in_its_row():
    gru, x = GRU(3, 8, layer_norm=True), torch.randn(5, 3, 3)
    clean = gru(x).output
    x[2, 1, 0] = torch.nan
    output = gru(x).output
    assert output[2:, 1].isnan().all()
    assert torch.equal(output[:, [0, 2]], clean[:, [0, 2]])


def test_parameters_that_change_are_packed_again():
    torch.manual_seed(0)
    gru, x = GRU(3, 8, layer_norm=True), torch.randn(2, 1, 3)
    with torch.no_grad():
        first = gru(x).output
        gru.norm_hh_l0.data.mul_(2)
        second = gru(x).output
        gru.norm_ih_l0.data.zero_()
        gru.norm_hh_l0.data.zero_()
        nothing = gru(x).output
    assert not torch.equal(first, second)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        gru.get_parameter(name).data.zero_()
    assert_close(gru(x).output.detach(), nothing)
