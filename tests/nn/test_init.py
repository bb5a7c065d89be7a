"""What the parameters are at the beginning, and what that means for the memory."""

import pytest
import torch
from torch import nn

from tidegate.nn import GRU


def test_the_same_seed_gives_torchs_parameters():
    torch.manual_seed(3)
    theirs = nn.GRU(3, 5, 2, bidirectional=True)
    torch.manual_seed(3)
    ours = GRU(3, 5, 2, bidirectional=True)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("reset", ["after", "none"])
def test_orthogonal_recurrent_matrices(reset):
    gru = GRU(3, [6, 5], init="orthogonal", reset=reset, bidirectional=True)
    for name, parameter in gru.named_parameters():
        if "weight_hh" in name:
            hidden = parameter.size(1)
            for block in parameter.split(hidden):
                torch.testing.assert_close(block @ block.T, torch.eye(hidden))
        else:
            assert parameter.abs().max() <= 5**-0.5


def test_a_projection_has_rows_for_units():
    gru = GRU(3, 6, init="orthogonal", proj_size=2)
    for block in gru.weight_hh_l0.split(6):
        torch.testing.assert_close(block.T @ block, torch.eye(2))


@pytest.mark.parametrize("reset", ["after", "none"])
def test_chrono_biases_give_the_memories_asked_for(reset):
    gru = GRU(3, 1000, init="chrono", chrono_range=(10, 50), reset=reset)
    update = slice(-2000, -1000)
    assert not gru.bias_hh_l0[update].any()
    kept = torch.sigmoid(gru.bias_ih_l0[update])
    memories = 1 / (1 - kept)  # steps over which a share `kept` of the state decays
    assert memories.min() >= 10
    assert memories.max() <= 50.01
    assert abs(memories.mean() - 30) < 2
    assert gru.bias_ih_l0[-1000:].abs().max() <= 1000**-0.5


def remembered(gru: GRU, steps: int) -> float:
    """How much of its first state a GRU still has after reading so many zeros."""
    hx = torch.ones(1, 1, gru.hidden_size)
    zeros = torch.zeros(steps, 1, gru.input_size)
    with torch.no_grad():
        return (gru(zeros, hx).last() - gru(zeros).last()).abs().mean().item()


def test_it_is_the_bias_and_not_a_small_weight_that_holds_a_memory():
    small = GRU(3, 64)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.mul_(1e-3)  # every gate is open by half
    assert remembered(small, 20) < 1e-4
    assert remembered(GRU(3, 64, init="chrono", chrono_range=(50, 200)), 20) > 0.3


def test_parameters_can_be_drawn_again():
    gru = GRU(3, 5, init="chrono", learn_hx=True, layer_norm=True)
    with torch.no_grad():
        for parameter in gru.parameters():
            parameter.fill_(7)
    gru.reset_parameters()
    assert not gru.hx_l0.any()
    assert torch.equal(gru.norm_ih_l0, torch.ones(15))
    assert gru.weight_hh_l0.abs().max() <= 5**-0.5
