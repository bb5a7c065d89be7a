"""`GRUCell` is torch's, with a choice of reset gate."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from helpers import assert_matches
from tidegate.nn import GRU, GRUCell
from tidegate.reference import gru_step

RESETS = ["after", "before", "none"]


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("bias", [False, True])
def test_a_step_is_the_reference(reset, bias):
    torch.manual_seed(0)
    cell = GRUCell(3, 5, bias, dtype=torch.float64, reset=reset)
    x, h = torch.randn(4, 3).double(), torch.randn(4, 5).double()
    weights = [p.detach().numpy() for p in cell.parameters()]
    weights += [] if bias else [0 * weights[0][:, 0]] * 2
    expected, _ = gru_step(x.numpy(), h.numpy(), *weights, reset=reset)
    assert_matches(cell(x, h).detach(), expected)
    assert_matches(cell(x[0], h[0]).detach(), expected[0])


@pytest.mark.parametrize("reset", RESETS)
def test_a_loop_of_cells_is_a_gru(reset):
    torch.manual_seed(0)
    gru, cell = GRU(3, 5, reset=reset), GRUCell(3, 5, reset=reset)
    cell.load_state_dict({name[:-3]: value for name, value in gru.state_dict().items()})
    x, h = torch.randn(6, 4, 3), None
    output = gru(x).output
    for t in range(6):
        h = cell(x[t], h)
        torch.testing.assert_close(h, output[t])


@pytest.mark.parametrize("reset", RESETS)
def test_its_gradients(reset):
    cell = GRUCell(3, 5, dtype=torch.float64, reset=reset)
    arguments = [torch.randn(2, n, dtype=torch.float64, requires_grad=True) for n in (3, 5)]
    assert gradcheck(lambda x, h, *_: cell(x, h), (*arguments, *cell.parameters()))


def test_it_is_a_torch_cell_and_looks_like_one():
    cell = GRUCell(3, 5)
    assert isinstance(cell, nn.GRUCell)
    assert repr(cell) == "GRUCell(3, 5)"
    assert repr(GRUCell(3, 5, bias=False, reset="none")) == (
        "GRUCell(3, 5, bias=False, reset='none')"
    )
    nn.GRUCell(3, 5).load_state_dict(cell.state_dict())


WRONG = [
    (torch.ones(4, 2), None, RuntimeError, "inconsistent input_size: got 2 expected 3"),
    (torch.ones(4, 3), torch.ones(4, 6), RuntimeError, "inconsistent hidden_size: got 6"),
    (torch.ones(4, 3), torch.ones(2, 5), RuntimeError, "batch size 4 doesn't match .* size 2"),
    (torch.ones(1, 4, 3), None, ValueError, "input to be 1D or 2D, got 3D"),
    (torch.ones(4, 3), torch.ones(1, 4, 5), ValueError, "hidden to be 1D or 2D, got 3D"),
]


@pytest.mark.parametrize(("x", "h", "error", "message"), WRONG)
@pytest.mark.parametrize("reset", RESETS)
def test_a_wrong_argument_is_named(x, h, error, message, reset):
    with pytest.raises(error, match=message):
        GRUCell(3, 5, reset=reset)(x, h)


def test_a_wrong_reset_is_named():
    with pytest.raises(ValueError, match="reset must be one of after, before, none, but it is 'x'"):
        GRUCell(3, 5, reset="x")
