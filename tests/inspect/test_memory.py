"""`memory`: laws of a gate at its limits, and every measure against its definition."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from helpers import assert_matches
from tidegate.inspect import _replay, ablate, gates, gradient_flow, memory
from tidegate.inspect._disturb import _chosen_lags
from tidegate.nn import GRU

TIME, BATCH, FEATURES, HIDDEN = 9, 3, 2, 5


def a_gru(**options) -> GRU:
    torch.manual_seed(0)
    return GRU(FEATURES, HIDDEN, dtype=torch.float64, **options)


def an_input(batch=BATCH) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(TIME, batch, FEATURES, dtype=torch.float64)


def with_update_bias(gru: GRU, bias: float) -> GRU:
    """All weights zero and the update gate at sigmoid(bias)."""
    with torch.no_grad():
        for parameter in gru.parameters():
            parameter.zero_()
        gru.bias_ih_l0[-2 * HIDDEN : -HIDDEN] = bias
    return gru


@pytest.mark.parametrize("reset", ["after", "before", "none"])
def test_a_gate_at_one_carries_the_state_for_ever(reset):
    gru = with_update_bias(a_gru(reset=reset), 1e4)
    states = torch.randn(1, BATCH, HIDDEN, dtype=torch.float64)
    found = memory(gru, (an_input(), states))["l0"]
    assert np.isposinf(found.leak_time).all()
    assert (found.open == 1).all()
    assert (found.gradient == 1).all()
    assert (found.swap == 1).all()
    assert (found.flip == 0).all()
    assert (found.reach == TIME - 1).all()
    assert found.falls_under(0.99) is None


@pytest.mark.parametrize("reset", ["after", "before", "none"])
def test_a_gate_at_one_half_halves_the_past_each_step(reset):
    gru = with_update_bias(a_gru(reset=reset), 0.0)
    states = torch.randn(1, BATCH, HIDDEN, dtype=torch.float64)
    found = memory(gru, (an_input(), states))["l0"]
    halves = 0.5 ** np.arange(TIME)
    assert_matches(found.leak_time, np.full(HIDDEN, 1 / np.log(2)))
    assert_matches(found.gradient, halves)
    assert_matches(found.gradient_by_unit, np.tile(halves[:, None], HIDDEN))
    assert_matches(found.swap, halves)
    assert (found.shut == 0).all()
    assert (found.open == 0).all()
    assert (found.reach == 1).all()  # 1/2 is over 1/e, 1/4 is not
    assert found.falls_under(0.3) == 2


def test_a_gate_at_zero_forgets_at_once():
    found = memory(with_update_bias(a_gru(), -1e4), an_input())["l0"]
    assert (found.leak_time == 0).all()
    assert (found.shut == 1).all()
    assert_matches(found.gradient, np.arange(TIME) == 0)


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"reset": "before"}])
def test_leak_time_and_saturation_follow_from_the_gates(options):
    gru = a_gru(**options)
    with torch.no_grad():
        for parameter in gru.parameters():
            parameter.mul_(6)
    inputs = (an_input(), None, [9, 4, 1])
    for layer, gate in zip(memory(gru, inputs).layers, gates(gru, inputs).layers, strict=True):
        z = gate.update.reshape(-1, HIDDEN)
        assert_matches(layer.leak_time, -1 / np.nanmean(np.log(z), 0), eps=64)
        inside = np.isfinite(z[:, 0])
        assert_matches(layer.shut, (z[inside] < 0.1).mean(0))
        assert_matches(layer.open, (z[inside] > 0.9).mean(0))
        r = gate.reset.reshape(-1, HIDDEN)[inside]
        assert_matches(layer.reset_open, (r > 0.9).mean(0))
        assert layer.shut.sum() + layer.open.sum() > 0


@pytest.mark.parametrize("options", [{}, {"reset": "before"}, {"reset": "none", "zoneout": 0.2}])
@pytest.mark.parametrize("lag", [1, 4, 8])
def test_the_gradient_is_that_of_finite_differences(options, lag):
    gru = a_gru(**options).eval()
    x = an_input(1)

    def last(state: np.ndarray) -> np.ndarray:
        h = torch.as_tensor(state)[None, None]
        return gru(x[TIME - lag :], h).h_n[0, 0].detach().numpy()

    start = gru(x[: TIME - lag]).h_n[0, 0].detach().numpy()
    step = 1e-6
    columns = [
        (last(start + step * unit) - last(start - step * unit)) / (2 * step)
        for unit in np.eye(HIDDEN)
    ]
    jacobian = np.stack(columns, 1)
    found = memory(gru, x)["l0"]
    np.testing.assert_allclose(
        found.gradient[lag], np.sqrt((jacobian**2).sum() / HIDDEN), rtol=1e-6
    )
    np.testing.assert_allclose(
        found.gradient_by_unit[lag], np.sqrt((jacobian**2).sum(0)), rtol=1e-6
    )


def test_a_reverse_direction_remembers_as_a_forward_one_of_the_reversed_rows():
    gru = a_gru(bidirectional=True)
    forward = a_gru()
    forward.load_state_dict(
        {name.removesuffix("_reverse"): p for name, p in gru.state_dict().items() if "rev" in name}
    )
    x, lengths = an_input(), [9, 6, 3]
    turned = x.clone()
    for row, length in enumerate(lengths):
        turned[:length, row] = x[:length, row].flip(0)
    found = memory(gru, (x, None, lengths), flip=lambda x: -x)["l0_reverse"]
    wanted = memory(forward, (turned, None, lengths), flip=lambda x: -x)["l0"]
    for name in ("leak_time", "gradient", "gradient_by_unit", "swap", "flip"):
        mine, theirs = getattr(found, name), getattr(wanted, name)
        assert (np.isnan(mine) == np.isnan(theirs)).all()
        assert_matches(np.nan_to_num(mine), np.nan_to_num(theirs), eps=64)


def test_lags_end_where_the_longest_row_looked_at_began():
    """Of many rows some are taken, and these need not be the longest."""
    gru, x, lengths = a_gru(), an_input(40), torch.full((40,), 4)
    lengths[1] = TIME
    found = memory(gru, (x, None, lengths))["l0"]
    curve = gradient_flow(gru, (x, None, lengths), compare=False)["l0"]
    for numbers in (found.gradient, found.gradient_by_unit, found.flip, curve.norm):
        assert np.isfinite(numbers).all()
    assert (found.lags[-1], curve.lags[-1]) == (3, 4)


def test_the_swap_effect_is_the_share_of_the_difference_that_is_left():
    gru, x, lag = a_gru(), an_input(), 3
    with torch.no_grad():
        head = gru(x[: TIME - lag]).h_n
        other = head.roll(1, 1)
        ends = gru(x[TIME - lag :], other).h_n - gru(x).h_n
    wanted = (ends.square().sum() / (other - head).square().sum()).sqrt().item()
    assert memory(gru, x)["l0"].swap[lag] == pytest.approx(wanted, rel=1e-12)


def test_the_flip_effect_is_in_units_of_the_distance_between_rows():
    gru, x, lag = a_gru(), an_input(), 2
    other = x.clone()
    step = TIME - 1 - lag
    other[step] = 2 * x.mean((0, 1)) - x[step]
    with torch.no_grad():
        last = gru(x).h_n
        moved = (gru(other).h_n - last).square().sum()
        apart = (last.roll(1, 1) - last).square().sum()
    wanted = (moved / apart).sqrt().item()
    assert memory(gru, x)["l0"].flip[lag] == pytest.approx(wanted, rel=1e-12)
    # With fewer lags no more than the last steps are run.
    assert memory(gru, x, lags=lag)["l0"].flip[lag] == pytest.approx(wanted, rel=1e-12)


def test_rows_do_not_count_at_lags_that_they_do_not_have():
    gru, x = a_gru(), an_input()
    both = memory(gru, (x[:, :2], None, [9, 3]))["l0"]
    longer = memory(gru, x[:, :1])["l0"]
    assert_matches(both.gradient[5:], longer.gradient[5:])
    assert not np.allclose(both.gradient[1], longer.gradient[1])


def test_one_row_is_swapped_with_itself_half_a_row_away():
    found = memory(a_gru(), an_input(1))["l0"]
    assert found.swap[0] == 1
    assert 0 < found.swap[2] < 1
    assert np.isnan(found.swap[-1])  # nothing lies half a row before the beginning


def bits(count=40, time=6):
    """Rows that begin with the bit to remember, and a mark at it; then noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=count)
    x = rng.standard_normal((time, count, FEATURES)) * 0.1
    x[0, :, 0] = 2.0 * labels - 1
    x[0, :, 1] = 10.0
    return torch.from_numpy(x), labels


def switch() -> nn.GRU:
    """Unit 3 takes the first feature where the second is large, and keeps it else."""
    gru = nn.GRU(FEATURES, HIDDEN, dtype=torch.float64)
    with torch.no_grad():
        for parameter in gru.parameters():
            parameter.zero_()
        gru.weight_ih_l0.copy_(torch.randn(3 * HIDDEN, FEATURES) * torch.tensor([0.0, 0.3]))
        gru.bias_ih_l0[HIDDEN + 3] = 4.0
        gru.weight_ih_l0[HIDDEN + 3, 1] = -1.0
        gru.weight_ih_l0[2 * HIDDEN + 3, 0] = 4.0
    return gru


def test_the_unit_that_holds_the_label_is_ranked_first():
    x, labels = bits()
    found = memory(switch(), x, target=labels)
    layer = found["l0"]
    assert layer.ranked[0] == 3
    assert layer.probe[3] == 1.0
    assert np.delete(layer.probe, 3).max() < 0.9
    assert found.score == "accuracy"
    assert found.chance == max(labels.mean(), 1 - labels.mean())
    assert layer.groups[0].units == (3,)
    assert layer.groups[0].alone == 1.0
    assert [len(group.units) for group in layer.groups] == [1, 2, 4, 5]
    # Held at its mean with all others, nothing is left to read.
    assert layer.groups[-1].without <= found.chance + 1e-9


def test_a_probe_reads_numbers_and_labels_of_every_step():
    x, _ = bits()
    numbers = gates(a_gru(), x)["l0"].state[:, :, 2].T * 5 - 1
    found = memory(a_gru(), x, target=numbers)
    assert found.score == "share of the variance"
    assert found["l0"].ranked[0] == 2
    assert found["l0"].probe[2] > 0.999


def test_a_probe_finds_nothing_where_there_is_nothing():
    x, _ = bits(200)
    noise = np.random.default_rng(1).integers(2, size=200)
    found = memory(switch(), x, target=noise)
    assert abs(found["l0"].groups[-1].alone - 0.5) < 0.12


def test_targets_that_do_not_fit_are_refused():
    x, labels = bits()
    with pytest.raises(ValueError, match=r"target must be \(40,\), one for each row"):
        memory(switch(), x, target=labels[:5])
    with pytest.raises(ValueError, match="one class only, 0"):
        memory(switch(), x, target=labels * 0)
    with pytest.raises(ValueError, match="target has NaN or infinity among its numbers"):
        memory(switch(), x, target=np.where(labels > 0, np.nan, 1.0))


def test_a_frame_has_a_row_for_each_unit():
    frame = memory(a_gru(reset="none"), an_input()).to_frame()
    assert len(frame) == HIDDEN
    assert frame.reset_open.isna().all()
    assert "carry-gate leak time" in repr(memory(a_gru(), an_input()))


@given(longest=st.integers(0, 3000), copies=st.integers(8, 64))
def test_lags_that_are_tried_go_from_none_to_the_longest(longest, copies):
    lags = _chosen_lags(longest, copies)
    assert (lags[0], lags[-1]) == (0, longest)
    assert (np.diff(lags) > 0).all()
    assert len(lags) <= max(copies, 2)


def test_what_takes_much_memory_is_done_in_parts(monkeypatch):
    gru, inputs = a_gru(num_layers=2, bidirectional=True), (an_input(), None, [9, 4, 6])
    whole, worth = memory(gru, inputs), ablate(gru, inputs, lambda result: result[1].sum())
    # As many numbers as three rows of this GRU: lags are tried one at a time.
    monkeypatch.setattr(_replay, "_NUMBERS", 3 * TIME * HIDDEN * 4)
    for a, b in zip(memory(gru, inputs).layers, whole.layers, strict=True):
        assert_matches(a.gradient, b.gradient)
        assert_matches(np.nan_to_num(a.flip), np.nan_to_num(b.flip))
    # As many as one row: a held gate is tried on one row after the other.
    monkeypatch.setattr(_replay, "_NUMBERS", 1)
    again = ablate(gru, inputs, lambda result: result[1].sum())
    assert [h.loss for h in again.held] == pytest.approx([h.loss for h in worth.held])
    assert len(memory(gru, inputs)[0].kept) == HIDDEN
