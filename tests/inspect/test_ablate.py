"""`ablate`: a gate held, against the same weights changed by hand."""

import copy
import math

import pytest
import torch
from torch import nn

from tidegate.inspect import ablate
from tidegate.nn import GRU

TIME, BATCH, FEATURES, HIDDEN = 6, 3, 2, 5
FAR = 1e4


def loss_of(result) -> torch.Tensor:
    return result[0].cos().mean()


def held_by_hand(gru, suffix: str, gate: int, value: int):
    """The gate's weights at zero, and its bias far to one side."""
    other = copy.deepcopy(gru)
    rows = slice(gate * HIDDEN, (gate + 1) * HIDDEN)
    with torch.no_grad():
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(other, f"{kind}_{suffix}")[rows] = 0
        getattr(other, f"bias_ih_{suffix}")[rows] = FAR if value else -FAR
    return other


@pytest.mark.parametrize("kind", [nn.GRU, GRU])
def test_a_held_gate_is_one_whose_bias_is_far(kind):
    torch.manual_seed(0)
    gru = kind(FEATURES, HIDDEN, 2, bidirectional=True, dtype=torch.float64)
    x = torch.randn(TIME, BATCH, FEATURES, dtype=torch.float64)
    found = ablate(gru, x, loss_of)
    assert found.loss == pytest.approx(loss_of(gru(x)).item(), rel=1e-12)
    assert len(found.held) == 4 * 2 * 2 + 2
    for held in found.held[:-2]:
        by_hand = held_by_hand(gru, held.layer, {"reset": 0, "update": 1}[held.gate], held.value)
        assert held.loss == pytest.approx(loss_of(by_hand(x)).item(), rel=1e-12), held
        moved = (by_hand(x)[0] - gru(x)[0]).square().mean().sqrt() / gru(x)[0].std(correction=0)
        assert held.moved == pytest.approx(moved.item(), rel=1e-12)


@pytest.mark.parametrize(
    "options",
    [{"reset": "none"}, {"reset": "before", "bias": False}, {"layer_norm": True}],
    ids=str,
)
def test_all_kept_is_nothing_taken(options):
    gru = GRU(FEATURES, HIDDEN, **options)
    h = torch.rand(1, BATCH, HIDDEN)
    found = ablate(gru, (torch.randn(TIME, BATCH, FEATURES), h), lambda result: result.h_n.sum())
    kept = next(held for held in found.held if (held.gate, held.value) == ("update", 1))
    assert kept.loss == pytest.approx(h.sum().item(), rel=1e-6)
    assert ("reset" in {held.gate for held in found.held}) == (gru.reset != "none")


def test_one_gate_is_held_while_the_others_of_a_normalised_layer_stay():
    torch.manual_seed(0)
    gru = GRU(FEATURES, HIDDEN, layer_norm=True, dtype=torch.float64)
    x = torch.randn(1, BATCH, FEATURES, dtype=torch.float64)
    h = torch.randn(1, BATCH, HIDDEN, dtype=torch.float64)
    found = ablate(gru, (x, h), lambda result: result.h_n.sum())
    forget = next(held for held in found.held if (held.gate, held.value) == ("update", 0))
    new = gru(x, h, return_gates=True).gates.new[0]
    assert forget.loss == pytest.approx(new.sum().item(), rel=1e-12)


def test_without_a_loss_it_tells_how_far_the_output_moved():
    model = nn.Sequential(nn.GRU(FEATURES, HIDDEN))
    found = ablate(model, torch.randn(TIME, BATCH, FEATURES), values=[1])
    assert math.isnan(found.loss)
    assert [held.value for held in found.held] == [1, 1]
    assert all(held.moved > 0 for held in found.held)
    assert found.held[0].words == "0, layer 1 keeps all of the past and takes nothing"
    assert len(found.to_frame()) == 2
    assert "forward" not in vars(model[0])


def test_values_between_are_refused():
    with pytest.raises(ValueError, match="values must be 0, 1 or both"):
        ablate(nn.GRU(1, 1), torch.zeros(1, 1, 1), values=[0.5])


def test_a_loss_that_is_not_one_number_is_refused():
    with pytest.raises(ValueError, match=r"loss must give one number, but it gives \(4, 1, 2\)"):
        ablate(nn.GRU(1, 2), torch.zeros(4, 1, 1), lambda result: result[0])
