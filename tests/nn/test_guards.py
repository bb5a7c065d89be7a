"""Wrong input is refused before an address is taken, and nothing leaks between rows or calls."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from nn_cases import assert_close, twins
from tidegate.nn import GRU, GRUCell, MinGRU, _packing


@pytest.mark.parametrize("rows", [1, 65])
def test_the_initial_state_of_packed_rows_has_as_many(rows):
    packed = pack_padded_sequence(torch.randn(5, 64, 3), [5] * 64)
    with pytest.raises(RuntimeError, match=r"Expected hidden size \(1, 64, 8\)"):
        GRU(3, 8)(packed, torch.zeros(1, rows, 8))


@pytest.mark.parametrize("sizes", [[5, 5], [200_000], [1, 2], [3, 0], [2], []])
def test_packed_sizes_are_those_of_the_data(sizes):
    packed = PackedSequence(torch.randn(3, 3), torch.tensor(sizes, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="batch_sizes must fall from step to step"):
        GRU(3, 4, bidirectional=True)(packed)


@pytest.mark.parametrize("layers", [1, 2])
def test_autocast_changes_no_projection(layers):
    gru, x = GRU(3, 64, layers, proj_size=16), torch.randn(20, 4, 3)
    expected = gru(x).output
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(gru(x).output, expected)


def test_a_write_while_weights_are_packed_is_seen_by_the_next_call(monkeypatch):
    gru, x, h = GRU(8, 8), torch.randn(1, 1, 8), torch.ones(1, 1, 8)
    pack = _packing._pack

    def pack_and_write(*args):
        packed = pack(*args)
        gru.weight_hh_l0.data.mul_(3)
        return packed

    with torch.no_grad():
        monkeypatch.setattr(_packing, "_pack", pack_and_write)
        gru(x)
        monkeypatch.setattr(_packing, "_pack", pack)
        late = gru(x, h).output
        _packing._kept.clear()
        assert torch.equal(late, gru(x, h).output)


@pytest.mark.parametrize("options", [{}, {"layer_norm": True}])
def test_keep_past_a_rows_length_is_not_read(options):
    gru = GRU(3, 8, **options)
    x, keep = torch.randn(5, 2, 3, requires_grad=True), torch.ones(5, 2)
    keep[3:, 1] = float("nan")
    gru(x, lengths=[5, 3], keep=keep).output.sum().backward()
    assert not x.grad.isnan().any()
    assert not gru.weight_hh_l0.grad.isnan().any()


@pytest.mark.parametrize("hidden", [5, 16, 17])
def test_an_infinite_input_is_no_worse_than_torchs(hidden):
    theirs, ours = twins(1, hidden)
    gradients = []
    for gru in (theirs, ours):
        x = torch.zeros(6, 2, 1)
        x[3, 0] = float("inf")
        gru.requires_grad_(False)(x.requires_grad_())[0].sum().backward()
        gradients.append(x.grad)
    assert torch.equal(gradients[0].isnan(), gradients[1].isnan())


@pytest.mark.parametrize("length", [-50, 10**9])
def test_lengths_are_checked_before_room_is_made(length):
    with pytest.raises(ValueError, match=f"between 0 and 5, the time steps, but one is {length}"):
        GRU(3, 8)(torch.randn(5, 2, 3), lengths=[length, 2])


WRONG_WEIGHTS = [
    ("weight_ih_l1", (24, 7), r"weight_ih must be \(24, 8\), but it is \(24, 7\)"),
    ("weight_hh_l0", (24, 9), r"weight_hh must be \(24, 8\), but it is \(24, 9\)"),
    ("bias_hh_l1", (23,), r"bias_hh must be \(24,\), but it is \(23,\)"),
]


@pytest.mark.parametrize(("name", "shape", "message"), WRONG_WEIGHTS)
@pytest.mark.parametrize("steps", [2, 400])  # weights that are kept packed, and not
@pytest.mark.parametrize("training", [False, True])
def test_weights_of_another_shape_are_not_read(name, shape, message, steps, training):
    gru, x = GRU(3, 8, 2), torch.randn(steps, 2, 3)
    with torch.set_grad_enabled(training):
        gru(x)  # packs the right ones
        setattr(gru, name, nn.Parameter(torch.randn(shape)))
        for given in ({}, {"hx": torch.zeros(2, 2, 8)}, {"lengths": [1, 2]}):
            with pytest.raises(RuntimeError, match=message):
                gru(x, **given)


def test_a_state_of_fewer_units_than_the_weights_is_not_read():
    gru, wide = GRU(3, 1), GRU(3, 8)
    for name, parameter in wide.named_parameters():
        setattr(gru, name, nn.Parameter(parameter.detach()))
    with pytest.raises(RuntimeError, match="for each of the 1 units of hx, but it has 8"):
        gru(torch.randn(5, 2, 3), torch.zeros(1, 2, 1))


def test_a_minimal_grus_state_of_fewer_units_than_the_weights_is_not_read():
    layer, wide = MinGRU(3, 4), MinGRU(3, 8)
    for name, parameter in wide.named_parameters():
        setattr(layer, name, nn.Parameter(parameter.detach()))
    x = torch.randn(5, 2, 3)
    with pytest.raises(RuntimeError, match=r"hx must be \(2, 8\), .* but it is \(2, 4\)"):
        layer(x, torch.zeros(1, 2, 4))
    with pytest.raises(RuntimeError, match=r"keep must be .* but it is \(5, 2, 4\)"):
        layer(x, keep=torch.ones(5, 2, 4))


class Watched(torch.Tensor):
    pass


@pytest.mark.parametrize("layer", [GRU(3, 4), MinGRU(3, 4)])
def test_what_is_modified_before_its_gradient_is_named_on_every_road(layer):
    x = torch.randn(5, 2, 3)
    roads = [lambda: torch.func.grad(lambda x: layer(x).output.mul_(2).sum())(x)]
    watched = x.clone().as_subclass(Watched)
    roads += [lambda: layer(watched).output.mul_(2).sum().backward()]
    for road in roads:
        with pytest.raises(RuntimeError, match="modify a copy, as in output = output \\* 2"):
            road()


def test_weights_that_lie_in_columns_are_those_numbers():
    gru, x = GRU(3, 8), torch.randn(5, 2, 3)
    with torch.no_grad():
        expected = gru(x).output
        gru.weight_hh_l0 = nn.Parameter(gru.weight_hh_l0.T.contiguous().T)
        for _ in range(2):
            assert torch.equal(gru(x).output, expected)
        gru.weight_hh_l0.mul_(2)
        assert not torch.equal(gru(x).output, expected)


@pytest.mark.parametrize("hidden", [5, [4, 5]])
def test_an_empty_list_is_no_state(hidden):
    with pytest.raises(TypeError, match="hx must be tensors, but it is an empty list"):
        GRU(3, hidden)(torch.randn(2, 1, 3), [])


@pytest.mark.parametrize("reset", ["after", "before", "none"])
def test_a_cell_of_no_rows_gives_no_rows(reset):
    cell = GRUCell(3, 8, reset=reset)
    assert cell(torch.zeros(0, 3), torch.zeros(0, 8)).shape == (0, 8)
    assert isinstance(cell, nn.GRUCell)
