"""`gates`: the same as the layer's own, for every option and every way of holding a GRU."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from helpers import assert_matches
from tidegate.inspect import gates
from tidegate.inspect._capture import capture
from tidegate.inspect._replay import Replay
from tidegate.nn import GRU

TIME, BATCH, FEATURES, HIDDEN = 7, 3, 2, 5
OPTIONS = {
    "plain": {},
    "reset before": {"reset": "before"},
    "no reset": {"reset": "none"},
    "both directions": {"bidirectional": True},
    "batch first": {"batch_first": True},
    "no bias": {"bias": False},
    "three layers": {"num_layers": 3, "dropout": 0.5},
    "residual": {"num_layers": 2, "stack": "residual", "bidirectional": True},
    "dense": {"num_layers": 3, "stack": "dense"},
    "sizes": {"hidden_size": [5, 3]},
    "projection": {"proj_size": 2, "num_layers": 2},
    "layer norm": {"layer_norm": True, "reset": "before"},
    "zoneout": {"zoneout": 0.3, "recurrent_dropout": 0.4, "weight_dropout": 0.2},
    "learnt start": {"learn_hx": True, "bidirectional": True},
}


def a_gru(seed=0, **options) -> GRU:
    torch.manual_seed(seed)
    sizes = {"input_size": FEATURES, "hidden_size": HIDDEN}
    gru = GRU(**(sizes | options), dtype=torch.float64)
    if gru.learn_hx:
        for name, parameter in gru.named_parameters():
            if name.startswith("hx"):
                nn.init.uniform_(parameter, -1, 1)
    return gru


def an_input(gru, seed=1) -> torch.Tensor:
    torch.manual_seed(seed)
    x = torch.randn(TIME, BATCH, FEATURES, dtype=torch.float64)
    return x.transpose(0, 1).contiguous() if gru.batch_first else x


def side_by_side(found, name):
    """A gate of each layer, both directions along the last axis, as the layer returns it."""
    by_layer = {}
    for layer in found.layers:
        by_layer.setdefault(layer.name.removesuffix("_reverse"), []).append(getattr(layer, name))
    return [np.concatenate(parts, -1) for parts in by_layer.values()]


@pytest.mark.parametrize("lengths", [None, [7, 0, 4]], ids=["whole", "lengths"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_gates_are_those_that_the_layer_returns(options, lengths):
    gru = a_gru(**options)
    x = an_input(gru)
    inputs = (x,) if lengths is None else (x, None, lengths)
    found = gates(gru, inputs)
    expected = gru.eval()(*inputs, return_gates=True).gates
    for name in ("update", "new", *(["reset"] if gru.reset != "none" else [])):
        for actual, wanted in zip(side_by_side(found, name), getattr(expected, name), strict=True):
            wanted = wanted.transpose(0, 1) if gru.batch_first else wanted
            assert_matches(np.nan_to_num(actual), wanted.detach().numpy(), eps=64)
    assert (found[0].reset is None) == (gru.reset == "none")


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_replay_returns_what_the_module_returns(options):
    gru = a_gru(**options).eval()
    torch.manual_seed(2)
    lengths = torch.tensor([7, 1, 4])
    keep = torch.rand(BATCH, TIME, dtype=torch.float64)
    keep = keep if gru.batch_first else keep.T
    (output, h_n), (call,) = capture(gru, (an_input(gru), None, lengths, keep))
    replay = Replay.of(call)
    again, last, found = replay.answer(None, call, return_gates=True)
    wanted = gru(an_input(gru), None, lengths, keep, return_gates=True).gates
    for mine, theirs in zip(found.update, wanted.update, strict=True):
        assert_matches(mine.numpy(), theirs.detach().numpy(), eps=64)
    assert_matches(again.numpy(), output.numpy(), eps=64)
    pairs = zip(h_n, last, strict=True) if isinstance(h_n, tuple) else [(h_n, last)]
    for wanted, actual in pairs:
        assert_matches(actual.numpy(), wanted.numpy(), eps=64)


def test_the_new_state_is_what_was_kept_and_what_was_taken():
    gru = a_gru(bidirectional=True)
    for layer in gates(gru, (an_input(gru), None, [7, 3, 5])).layers:
        state = layer.update * layer.before + layer.taken
        assert_matches(np.nan_to_num(layer.state), np.nan_to_num(state))
        assert np.isnan(layer.state[3:, 1]).all()
        assert np.isfinite(layer.state[:3, 1]).all()


def test_torchs_gru_is_read_as_ours():
    torch.manual_seed(0)
    theirs = nn.GRU(FEATURES, HIDDEN, 2, bidirectional=True, dtype=torch.float64)
    ours = GRU(FEATURES, HIDDEN, 2, bidirectional=True, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    x = an_input(ours)
    for a, b in zip(gates(theirs, x).layers, gates(ours, x).layers, strict=True):
        assert a.name == b.name
        assert_matches(a.state, b.state)
    assert type(theirs) is nn.GRU


@pytest.mark.parametrize("kind", [nn.GRU, GRU])
def test_a_packed_sequence_is_read_row_by_row(kind):
    torch.manual_seed(0)
    gru = kind(FEATURES, HIDDEN, bidirectional=True, batch_first=True, dtype=torch.float64)
    x = torch.randn(BATCH, TIME, FEATURES, dtype=torch.float64)
    lengths = [3, 7, 2]
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    found = gates(gru, packed)
    assert found.lengths.tolist() == lengths
    for row, length in enumerate(lengths):
        alone = gates(gru, x[row : row + 1, :length])
        for layer, mine in zip(found.layers, alone.layers, strict=True):
            assert_matches(layer.update[:length, row], mine.update[:, 0])


class Translator(nn.Module):
    """Two GRUs; the second runs a step at a time, from its own last state."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.decoder = GRU(FEATURES, HIDDEN, batch_first=True)

    def forward(self, x):
        _, h = self.encoder(x)
        outputs = []
        for step in x.split(1, 1):
            output, h = self.decoder(step, hx=h)
            outputs.append(output)
        return torch.cat(outputs, 1)


def test_the_grus_of_a_model_are_named_and_a_stream_is_one_sequence():
    model, x = Translator(), torch.randn(BATCH, TIME, FEATURES)
    model.train()
    found = gates(model, x)
    assert [layer.name for layer in found.layers] == ["encoder.l0", "decoder.l0"]
    assert found["decoder.l0"].words == "decoder, layer 1"
    _, _, whole = model.decoder(x, model.encoder(x)[1], return_gates=True)
    wanted = whole.update[0].detach().transpose(0, 1)
    np.testing.assert_allclose(found["decoder.l0"].update, wanted, atol=1e-6)
    assert model.training
    assert model.decoder.training


def test_whole_numbers_name_one_feature_each():
    gru = nn.GRU(4, HIDDEN, dtype=torch.float64)

    class OneHot(nn.GRU):
        def forward(self, input, hx=None):
            return super().forward(nn.functional.one_hot(input, 4).double(), hx)

    inner = OneHot(4, HIDDEN, dtype=torch.float64)
    inner.load_state_dict(gru.state_dict())
    tokens = torch.tensor([[0], [3], [1]])
    wanted = gates(gru, nn.functional.one_hot(tokens, 4).double())
    assert_matches(gates(inner, tokens)[0].state, wanted[0].state)


def test_labels_name_the_steps_of_a_frame():
    gru = a_gru()
    words = list("abcdefg")
    found = gates(gru, (an_input(gru), None, [7, 2, 0]), labels=words)
    frame = found.to_frame()
    assert len(frame) == (7 + 2) * HIDDEN
    one = frame[(frame.row == "1") & (frame.label == "b") & (frame.unit == 3)]
    assert one["update"].item() == found[0].update[1, 1, 3]
    assert "share of the past kept" in repr(found)


def test_what_cannot_be_looked_into_is_said():
    gru, x = a_gru(), torch.zeros(TIME, BATCH, FEATURES, dtype=torch.float64)
    with pytest.raises(ValueError, match="Linear contains no GRU"):
        gates(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(TypeError, match="a torch module or a fitted estimator"):
        gates("model.safetensors", x)
    with pytest.raises(TypeError, match="x must be"):
        gates(gru)
    with pytest.raises(ValueError, match=r"labels of row 0 must be 7, one a step, but they are 2"):
        gates(gru, x, labels=["a", "b"])
    with pytest.raises(ValueError, match="labels must be for 3 rows"):
        gates(gru, x, labels=[["a"], ["b"]])
    with pytest.raises(KeyError, match="no layer 'l9', only l0"):
        gates(gru, x)["l9"]


def test_numpy_arrays_and_no_steps_are_fine():
    gru = a_gru()
    assert gates(gru, np.zeros((TIME, BATCH, FEATURES), np.float32))[0].state.dtype == np.float64
    assert gates(gru, torch.zeros(0, BATCH, FEATURES, dtype=torch.float64))[0].state.shape == (
        0,
        BATCH,
        HIDDEN,
    )
    assert gates(gru, torch.zeros(4, FEATURES, dtype=torch.float64))[0].state.shape == (4, 1, 5)


def test_a_state_for_each_layer_of_another_size_is_taken():
    gru = GRU(2, [3, 4], dtype=torch.float64)
    x = torch.randn(6, 2, 2, dtype=torch.float64)
    hx = [torch.randn(1, 2, size, dtype=torch.float64) for size in (3, 4)]
    found, output = gates(gru, (x, hx)), gru(x, hx).output
    np.testing.assert_allclose(found["l1"].state, output.detach().numpy(), atol=1e-12)
