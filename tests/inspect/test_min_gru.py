"""A minGRU is looked into as a GRU is: the gate that is shown is the share of the past kept."""

import base64

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from inspect_cases import data_of
from tidegate.inspect import ablate, carry, gates, gradient_flow, memory, report
from tidegate.language import LanguageModel
from tidegate.nn import MinGRU


@pytest.mark.parametrize("candidate", ["linear", "positive"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_gates_are_those_that_the_layer_returns(candidate, batch_first):
    torch.manual_seed(0)
    options = {"bidirectional": True, "batch_first": batch_first, "candidate": candidate}
    layer = MinGRU(3, 5, 2, dtype=torch.float64, **options)
    x = torch.randn(7, 4, 3, dtype=torch.float64)
    keep, hx = torch.rand(7, 4, dtype=torch.float64), torch.randn(4, 4, 5, dtype=torch.float64)
    x, keep = (x.transpose(0, 1), keep.T) if batch_first else (x, keep)
    lengths = [7, 3, 5, 1]
    found = gates(layer, (x, hx, lengths, keep))
    output, _, wanted = layer(x, hx, lengths, keep, return_gates=True)
    names = [entry.name for entry in found.layers]
    assert names == ["l0", "l0_reverse", "l1", "l1_reverse"]
    for number in range(2):
        both = found.layers[2 * number : 2 * number + 2]
        for name in ("update", "new"):
            expected = getattr(wanted, name)[number].detach()
            expected = expected.transpose(0, 1) if batch_first else expected
            actual = np.concatenate([getattr(entry, name) for entry in both], -1)
            np.testing.assert_allclose(np.nan_to_num(actual), expected.numpy(), atol=1e-12)
    last = output.detach().transpose(0, 1) if batch_first else output.detach()
    actual = np.concatenate([found["l1"].state, found["l1_reverse"].state], -1)
    np.testing.assert_allclose(np.nan_to_num(actual), last.numpy(), atol=1e-12)
    assert all(entry.reset is None for entry in found.layers)


@pytest.mark.parametrize("batch_first", [False, True])
def test_packed_rows_are_looked_into_as_padded_ones(batch_first):
    torch.manual_seed(0)
    layer = MinGRU(3, 5, 2, bidirectional=True, batch_first=batch_first)
    x, lengths = torch.randn(*((4, 7) if batch_first else (7, 4)), 3), [3, 7, 5, 1]
    packed = pack_padded_sequence(x, lengths, batch_first, enforce_sorted=False)
    for ours, theirs in zip(
        gates(layer, packed).layers, gates(layer, (x, None, lengths)).layers, strict=True
    ):
        np.testing.assert_array_equal(ours.state, theirs.state)

    def loss(result):  # of what comes packed and of what does not
        output = result.output
        output = output.data if isinstance(output, PackedSequence) else output
        return output.square().sum() + result.h_n.sum()

    for ours, theirs in zip(
        ablate(layer, packed, loss).held, ablate(layer, (x, None, lengths), loss).held, strict=True
    ):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    assert report(layer, packed).carry.gap == pytest.approx(0, abs=1e-4)


def test_its_gradient_is_the_product_of_what_was_kept():
    torch.manual_seed(1)
    layer, x = MinGRU(2, 4), torch.randn(9, 1, 2)
    kept = gates(layer, x)["l0"].update[:, 0]
    found = memory(layer, x)["l0"]
    wanted = [np.sqrt(np.square(kept[9 - k :].prod(0)).mean()) for k in range(9)]
    np.testing.assert_allclose(found.gradient, wanted, atol=1e-6)
    np.testing.assert_allclose(gradient_flow(layer, x)["l0"].norm[:9], wanted, atol=1e-6)


def test_holding_its_gate_open_keeps_the_first_state():
    layer, x = MinGRU(2, 4, batch_first=True), torch.randn(3, 6, 2)
    found = ablate(layer, x, lambda result: result.output.square().mean())
    assert [(h.gate, h.value) for h in found.held] == [("update", 0), ("update", 1)]
    assert found.held[1].loss == 0.0
    assert carry(layer, x).gap == pytest.approx(0.0, abs=1e-4)


def test_a_page_of_one_names_it_and_its_own_cure():
    torch.manual_seed(0)
    made = report(MinGRU(2, 6), torch.randn(30, 2, 2))
    assert "<h1>A minGRU of 1 layer of 6 units</h1>" in made.html
    assert "MinGRU(chrono_range=(2, " in str(made)


def test_a_language_model_of_it_has_a_page():
    text = "the tide comes in and the tide goes out\n" * 30
    model = LanguageModel("words", cell="mingru", hidden_size=8, steps=4, batch_size=2).fit(text)
    made = report(model, "the tide comes in")
    assert made.gates[0].reset is None
    assert "Past in sight" not in made.html


def test_a_module_without_a_gru_is_refused():
    with pytest.raises(ValueError, match="contains no GRU"):
        gates(nn.LSTM(2, 3), torch.zeros(4, 1, 2))


def test_the_heat_map_holds_states_over_one():
    torch.manual_seed(0)
    layer, x = MinGRU(2, 4, batch_first=True), 3 * torch.randn(1, 9, 2)
    gates_, data = gates(layer, x)["l0"], data_of(report(layer, x))
    (shown,), coded = data["layers"], data["rows"][0]["gates"][0]["new"]
    new = np.frombuffer(base64.b64decode(coded), np.uint8).reshape(4, 9) / 127 - 1
    assert shown["scale"] > 1
    wanted = gates_.new[:, 0][:, shown["units"]].T
    np.testing.assert_allclose(shown["scale"] * new, wanted, atol=shown["scale"] / 200)
