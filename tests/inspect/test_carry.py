"""`carry`: gradients, and integrated gradients that add up."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from inspect_cases import a_text
from tidegate.classify import GRUClassifier
from tidegate.inspect import carry, report
from tidegate.inspect._input import read_input
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


def machines(lengths: list[int]) -> tuple[list[np.ndarray], list[str]]:
    """A slow wave, a fast one, and a slow one that drifts."""
    rng = np.random.default_rng(0)
    x, y = [], []
    for i, length in enumerate(lengths):
        kind, t = i % 3, np.arange(length)
        wave = np.sin(t * (0.3, 0.8, 0.3)[kind]) + rng.normal(0, 0.2, length)
        drift = t / length * (kind == 2) + rng.normal(0, 0.2, length)
        x.append(np.column_stack([wave, drift]))
        y.append(("sound", "broken", "worn")[kind])
    return x, y


def test_of_a_trained_classifier_they_add_up_and_ask_about_one_class():
    x, y = machines([8 + 7 * i % 23 for i in range(24)])
    model = GRUClassifier(hidden_size=8, steps=60, members=2).fit(x, y)
    rows = x[:3]
    item = read_input(model, rows)
    with torch.no_grad():
        answer = item.module(*item.inputs)
        nothing = item.module(torch.zeros_like(item.inputs[0]), item.inputs[1])
    likeliest = answer.argmax(1)
    assert (likeliest != nothing.argmax(1)).any()
    for row in range(len(rows)):
        found = carry(model, rows, row=row)
        assert len(found.integrated) == len(rows[row])
        assert found.score == pytest.approx(answer[row, likeliest[row]].item(), rel=1e-4)
        assert found.baseline == pytest.approx(nothing[row, likeliest[row]].item(), rel=1e-4)
        assert found.adds_up
        assert found.integrated.sum() == pytest.approx(
            found.score - found.baseline, rel=0.011, abs=1e-3 * np.abs(found.integrated).sum()
        )


def test_of_a_text_they_add_up_and_ask_about_one_word():
    item = a_text()
    found = carry(item)
    with torch.no_grad():
        likeliest = item.module(*item.inputs)[0, -1].log_softmax(-1).max().item()
    assert found.score == pytest.approx(likeliest, abs=1e-5)
    assert found.gap == pytest.approx(0, abs=1e-4)


def a_latch() -> GRU:
    """Keeps the sign of its first inputs, the surer the longer it reads; of none it is -1."""
    gru = GRU(1, 1, batch_first=True)
    with torch.no_grad():
        for parameter in gru.parameters():
            parameter.zero_()
        gru.weight_ih_l0[2] = 0.3
        gru.weight_hh_l0[2] = 4
        gru.bias_ih_l0[0] = 20  # the reset gate is open
        gru.bias_ih_l0[2] = -0.1
    return gru


def test_where_the_output_turns_within_a_little_of_the_way_they_add_up_all_the_same():
    gru, x = a_latch(), torch.ones(1, 12, 1)
    few = carry(gru, x, points=32)
    assert not few.adds_up
    assert "miss it by" in repr(few)
    found = carry(gru, x)
    assert found.score == pytest.approx(1, abs=1e-2)
    assert found.baseline == pytest.approx(-1, abs=1e-2)
    assert found.adds_up
    assert found.integrated.sum() == pytest.approx(2, rel=0.011)


def test_where_the_output_jumps_the_page_says_that_the_bars_do_not_add_up():
    made = report(a_latch(), torch.ones(1, 60, 1))
    assert not made.carry.adds_up
    assert "not to the difference of 2:" in made.html
    assert "add up to the difference." not in made.html
    heads = [finding.head for finding in made.findings]
    assert "Which steps the output came from cannot be told." in heads
    assert not any(head.startswith("What came out rests") for head in heads)
    assert "the bars add up to the difference." in report(a_latch(), torch.ones(1, 4, 1)).html
