"""`gradient_flow`: plain RNN, LSTM and GRU, against torch's own gradients."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

from tidegate.inspect import _jacobian, gradient_flow, train_cells
from tidegate.nn import GRU

TIME, FEATURES, HIDDEN = 8, 3, 5


def by_autograd(module: nn.RNNBase, x: torch.Tensor, lag: int) -> float:
    """Norm of the Jacobian of the last state in an earlier one, both found by running torch."""
    head, tail = x[: TIME - lag], x[TIME - lag :]
    _, state = module(head)
    parts = state if isinstance(state, tuple) else (state,)
    flat = torch.cat(parts, -1)[0, 0].detach()

    def last(flat: torch.Tensor) -> torch.Tensor:
        given = tuple(part[None, None] for part in flat.split(HIDDEN))
        _, end = module(tail, given if len(given) > 1 else given[0])
        return torch.cat(end if isinstance(end, tuple) else (end,), -1)[0, 0]

    jacobian = torch.autograd.functional.jacobian(last, flat)
    return float(jacobian.norm() / len(flat) ** 0.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.RNN(FEATURES, HIDDEN, dtype=torch.float64),
        lambda: nn.RNN(FEATURES, HIDDEN, nonlinearity="relu", bias=False, dtype=torch.float64),
        lambda: nn.LSTM(FEATURES, HIDDEN, dtype=torch.float64),
        lambda: nn.GRU(FEATURES, HIDDEN, dtype=torch.float64),
        lambda: GRU(FEATURES, HIDDEN, reset="none", dtype=torch.float64),
    ],
    ids=["RNN", "ReLU", "LSTM", "GRU", "GRU without reset"],
)
def test_the_norm_is_that_of_torchs_jacobian(make):
    torch.manual_seed(0)
    module = make()
    x = torch.randn(TIME, 1, FEATURES, dtype=torch.float64)
    curve = gradient_flow(module, x, compare=False)[0]
    assert curve.norm[0] == pytest.approx(1, rel=1e-12)
    for lag in (1, 3, 7):
        assert curve.norm[lag] == pytest.approx(by_autograd(module, x, lag), rel=1e-9)


@pytest.mark.parametrize(("units", "directions"), [(HIDDEN, HIDDEN), (64, 32)])
def test_of_many_units_some_directions_are_enough(units, directions, monkeypatch):
    torch.manual_seed(0)
    gru, x = GRU(FEATURES, units), torch.randn(TIME, 2, FEATURES)
    exact = gradient_flow(gru, x, compare=False)[0].norm
    monkeypatch.setattr(_jacobian, "_ALL_DIRECTIONS", 0)
    monkeypatch.setattr(_jacobian, "_SOME_DIRECTIONS", directions)
    found = gradient_flow(gru, x, compare=False)[0].norm
    # All of them, however they are turned, give the norm itself; of half of them 3% were seen.
    np.testing.assert_allclose(found, exact, rtol=1e-9 if directions == units else 0.15)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM])
@pytest.mark.parametrize("alone", [False, True])
def test_torchs_modules_begin_where_they_are_told(kind, alone):
    torch.manual_seed(0)
    module = kind(FEATURES, HIDDEN, 2, dtype=torch.float64)
    x = torch.randn(TIME, 1, FEATURES, dtype=torch.float64)
    _, state = module(x)
    call = (x[:, 0], tree_map(lambda h: h[:, 0], state)) if alone else (x, state)
    flow = gradient_flow(module, call, compare=False)
    # The last layer's own recurrence, from the state that it is given on.
    longer = gradient_flow(module, torch.cat([x, x]), lags=TIME, compare=False)
    np.testing.assert_allclose(flow["l1"].norm, longer["l1"].norm, rtol=1e-9)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM])
def test_layers_and_directions_of_torchs_modules_agree_with_single_ones(kind):
    torch.manual_seed(0)
    whole = kind(FEATURES, HIDDEN, 2, bidirectional=True, batch_first=True)
    x = torch.randn(2, TIME, FEATURES)
    flow = gradient_flow(whole, x, compare=False)
    assert [curve.name for curve in flow.curves] == ["l0", "l0_reverse", "l1", "l1_reverse"]
    single = kind(FEATURES, HIDDEN, batch_first=True)
    single.load_state_dict(
        {n.removesuffix("_reverse"): p for n, p in whole.state_dict().items() if "l0_rev" in n}
    )
    alone = gradient_flow(single, x.flip(1), compare=False)
    np.testing.assert_allclose(flow["l0_reverse"].norm, alone["l0"].norm)


def first_bit(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which bit came first, before noise."""
    generator = torch.Generator().manual_seed(number)
    bit = torch.randint(2, (16,), generator=generator)
    x = 0.1 * torch.randn(16, 6, 1, generator=generator)
    x[:, 0, 0] = 2.0 * bit - 1
    return x, bit


def test_cells_are_compared_before_and_after_training():
    cells = train_cells(first_bit, hidden_size=6, steps=30, learning_rate=3e-2)
    assert cells["GRU"].score > 0.8
    flow = gradient_flow(cells, first_bit(999)[0])
    names = [f"{cell}, {when}" for cell in cells for when in ("before", "after")]
    assert [curve.name for curve in flow.curves] == names
    # What was learnt is to hold the first bit: the gradient must come through.
    assert flow["GRU, after"].norm[5] > 2 * flow["GRU, before"].norm[5]
    assert len(flow.to_frame()) == 8 * 7


def test_a_task_may_ask_for_numbers():
    def sums(number):
        x = torch.randn(16, 4, 1, generator=torch.Generator().manual_seed(number))
        return x, x.sum((1, 2))[:, None]

    make = {"GRU": lambda features, units: GRU(features, units, batch_first=True)}
    cell = train_cells(sums, hidden_size=8, steps=80, learning_rate=2e-2, cells=make)["GRU"]
    assert cell.score > 0.5
    assert "score" in repr(cell)


def test_the_plain_rnn_of_equal_size_stands_beside_a_model():
    flow = gradient_flow(nn.GRU(FEATURES, HIDDEN), torch.zeros(40, 1, FEATURES))
    kinds = [curve.kind for curve in flow.curves]
    assert kinds == ["model", *["untrained"] * 4]
    rnn = flow["plain RNN, untrained"]
    assert rnn.falls_under(0.01) < 40
    assert "under 0.01 from lag" in repr(rnn)


def test_a_seed_of_the_comparison_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    gradient_flow(nn.GRU(1, 2).requires_grad_(False), torch.zeros(3, 1, 1), seed=3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), wanted)
