"""`carry`: gradients, and integrated gradients that add up."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from tidegate.inspect import carry
from tidegate.nn import GRU

BATCH, TIME, FEATURES, HIDDEN = 3, 7, 2, 5


class Reader(nn.Module):
    """Tokens to one number a row."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(11, FEATURES)
        self.gru = GRU(FEATURES, HIDDEN, 2, batch_first=True, dropout=0.5)
        self.head = nn.Linear(HIDDEN, 1)

    def forward(self, tokens):
        return self.head(self.gru(self.embed(tokens))[0][:, -1])[:, 0]


def a_gru(**options) -> GRU:
    torch.manual_seed(0)
    return GRU(FEATURES, HIDDEN, batch_first=True, dtype=torch.float64, **options)


def an_input() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(BATCH, TIME, FEATURES, dtype=torch.float64)


@pytest.mark.parametrize("t", [-1, 3])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "reset": "before"}])
def test_integrated_gradients_add_up_to_what_the_input_did(options, t):
    found = carry(a_gru(**options), an_input(), t, row=1)
    assert found.integrated.sum() == pytest.approx(found.score - found.baseline, abs=1e-9)
    assert abs(found.gap) < 1e-9


def test_gradient_times_input_is_that_of_autograd():
    gru, x = a_gru(), an_input().requires_grad_()
    found = carry(gru, x.detach(), 4, row=2, score=lambda result: result[0][:, 4, 1])
    (slope,) = torch.autograd.grad(gru(x)[0][2, 4, 1], x)
    np.testing.assert_allclose(found.gradient, (slope * x)[2].detach().sum(-1), atol=1e-12)


def test_nothing_comes_from_later_steps():
    found = carry(a_gru(), an_input(), 3)
    assert (found.integrated[4:] == 0).all()
    assert found.integrated[3] != 0


def test_of_a_closed_gate_all_comes_from_the_last_step():
    gru = a_gru()
    with torch.no_grad():
        gru.weight_hh_l0.zero_()
        gru.bias_ih_l0[HIDDEN : 2 * HIDDEN] = -1e4
    share = carry(gru, an_input()).share()
    assert share[-1] == pytest.approx(1)


def test_a_module_is_asked_at_the_input_of_its_gru():
    model = Reader().train()
    tokens = torch.randint(11, (BATCH, TIME))
    found = carry(model, tokens, labels=list("abcdefg"), row=2)
    assert len(found.integrated) == TIME
    assert found.gap == pytest.approx(0, abs=1e-5)
    again = carry(model, tokens, row=2, score=lambda result: result)
    sign = np.sign(again.score)
    np.testing.assert_allclose(found.integrated, sign * again.integrated, atol=1e-6)
    assert list(found.to_frame().label) == list("abcdefg")
    assert "from '" in repr(found)
    assert model.training


def test_packed_rows_are_their_own():
    gru, x = a_gru(), an_input()
    packed = pack_padded_sequence(x, [3, 7, 5], batch_first=True, enforce_sorted=False)
    found = carry(gru, packed, row=0)
    alone = carry(gru, x[:1, :3])
    np.testing.assert_allclose(found.integrated, alone.integrated, atol=1e-12)


@pytest.mark.parametrize("rows", [2, BATCH + TIME - 2])  # fewer than the steps, and as many
def test_of_a_module_that_reads_time_first_the_row_is_the_row(rows):
    time = 8
    torch.manual_seed(0)
    gru, head = GRU(FEATURES, HIDDEN), nn.Linear(HIDDEN, HIDDEN)

    class TimeFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.head = gru, head

        def forward(self, x):
            return self.head(self.gru(x)[0])

    x = torch.randn(time, rows, FEATURES)
    found = carry(TimeFirst(), x, 4, row=1)
    wanted = head(gru(x)[0])[4, 1].norm().item()
    assert found.score == pytest.approx(wanted, rel=1e-5)
    assert found.gap == pytest.approx(0, abs=1e-4)
    assert (found.integrated[5:] == 0).all()


def test_a_result_without_the_steps_of_the_input_needs_a_score():
    class Shorter(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = a_gru()

        def forward(self, x):
            return self.gru(x)[0][:, ::2]

    with pytest.raises(ValueError, match=r"none are 3 rows of 7 steps: give score"):
        carry(Shorter(), an_input())
    found = carry(Shorter(), an_input(), score=lambda result: result[:, 1, 0])
    assert found.integrated.any()


def test_where_gradients_are_off_they_are_taken_all_the_same():
    gru, x = a_gru(), an_input()
    expected = carry(gru, x)
    with torch.inference_mode():
        np.testing.assert_array_equal(carry(gru, x.clone()).integrated, expected.integrated)
    np.testing.assert_array_equal(carry(gru, x.requires_grad_()).gradient, expected.gradient)
    with pytest.raises(ValueError, match="points must be at least 1, but it is 0"):
        carry(gru, x, points=0)


def test_rows_and_steps_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="row must be one of 3, but it is 3"):
        carry(a_gru(), an_input(), row=3)
    with pytest.raises(ValueError, match="t must be one of 7 steps, but it is 7"):
        carry(a_gru(), an_input(), 7)
