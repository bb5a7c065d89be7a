"""The ONNX graph of a GRU computes the same in ONNX Runtime, at sizes it was not exported with."""

from collections import Counter

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.export import Dim

from tidegate.nn import GRU, MinGRU

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
]


class Model(nn.Module):
    """Everything that a GRU gives, as a tuple of tensors."""

    def __init__(self, **options):
        super().__init__()
        self.gru = GRU(4, 6, 2, bidirectional=True, batch_first=True, **options)

    def forward(self, x, hx, lengths=None, keep=None):
        result = self.gru(x, hx, lengths=lengths, keep=keep, return_gates=True)
        return *result[:2], result.last(), *(gate for kind in result.gates for gate in kind)


def arguments(batch: int, time: int, *, lengths: bool, keep: bool) -> dict[str, torch.Tensor]:
    given = {"x": torch.randn(batch, time, 4), "hx": torch.randn(4, batch, 6)}
    if lengths:
        given["lengths"] = torch.arange(batch) % (time + 1)
    if keep:
        given["keep"] = torch.rand(batch, time)
    return given


CASES = [
    ({"bias": False, "weight_dropout": 0.5, "recurrent_dropout": 0.5}, False, False, "GRU"),
    ({}, True, False, "GRU"),
    ({"reset": "before"}, True, False, "GRU"),
    ({"reset": "none", "stack": "residual"}, False, False, "GRU"),
    ({"zoneout": 0.3}, True, True, "Scan"),
    ({"layer_norm": True, "reset": "before"}, False, False, "Scan"),
]


@pytest.mark.parametrize(("options", "lengths", "keep", "node"), CASES)
def test_one_graph_serves_every_size(options, lengths, keep, node, tmp_path):
    torch.manual_seed(0)
    model = Model(**options).eval()
    batch, time = Dim("batch"), Dim("time")
    given = arguments(3, 5, lengths=lengths, keep=keep)
    free = {0: batch, 1: time}
    shapes = {"x": free, "hx": {1: batch}, "lengths": {0: batch}, "keep": free}
    program = torch.onnx.export(
        model,
        kwargs=given,
        dynamo=True,
        verbose=False,
        dynamic_shapes={name: shapes[name] for name in given},
    )
    nodes = Counter(node.op_type for node in program.model.graph)
    assert nodes[node] == (2 if node == "GRU" else 4)  # a layer, or a direction of it
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for sizes in ((3, 5), (2, 11), (7, 6)):
        given = arguments(*sizes, lengths=lengths, keep=keep)
        found = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
        with torch.no_grad():
            expected = model(**given)
        for one, other in zip(found, expected, strict=True):
            assert one.shape == other.shape
            # Normalising products of nearly one size enlarges their rounding: 4e-6 was measured.
            np.testing.assert_allclose(one, other.numpy(), atol=1e-5)


def test_torchs_own_shape_of_call(tmp_path):
    """A module that is nothing but a GRU, exported as its users would."""
    torch.manual_seed(0)
    gru, x = GRU(4, 6).eval(), torch.randn(5, 3, 4)
    shapes = {"input": {0: Dim("time"), 1: Dim("batch")}}
    program = torch.onnx.export(gru, (x,), dynamo=True, verbose=False, dynamic_shapes=shapes)
    program.save(tmp_path / "gru.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "gru.onnx")
    x = torch.randn(9, 2, 4)
    output, h_n = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(output, gru(x).output.detach().numpy(), atol=2e-6)
    np.testing.assert_allclose(h_n, gru(x).h_n.detach().numpy(), atol=2e-6)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_the_older_exporter_writes_torchs_node(tmp_path):
    gru, x = GRU(4, 6).eval(), torch.randn(5, 3, 4)
    torch.onnx.export(gru, (x,), tmp_path / "gru.onnx", dynamo=False, input_names=["x"])
    session = onnxruntime.InferenceSession(tmp_path / "gru.onnx")
    output, _ = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(output, gru(x).output.detach().numpy(), atol=2e-6)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("options", [{"reset": "before"}, {"layer_norm": True}])
def test_the_older_exporter_is_refused_what_it_cannot_write(options, tmp_path):
    model = nn.Sequential(GRU(4, 6, **options).eval())
    with pytest.raises(NotImplementedError, match="dynamo=True"):
        torch.onnx.export(model, (torch.randn(5, 3, 4),), tmp_path / "gru.onnx", dynamo=False)


def test_a_min_grus_graph_is_a_scan(tmp_path):
    torch.manual_seed(0)
    layer = MinGRU(3, 5, bidirectional=True, batch_first=True, candidate="positive").eval()

    def arguments(batch, time):
        lengths = torch.arange(batch) % (time + 1)
        return (
            torch.randn(batch, time, 3),
            torch.randn(2, batch, 5),
            lengths,
            torch.rand(batch, time),
        )

    batch, time = Dim("batch"), Dim("time")
    free = {0: batch, 1: time}
    shapes = {"input": free, "hx": {1: batch}, "lengths": {0: batch}, "keep": free}
    program = torch.onnx.export(
        layer, arguments(3, 5), dynamo=True, verbose=False, dynamic_shapes=shapes
    )
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    names = [node.name for node in session.get_inputs()]
    for sizes in ((3, 5), (7, 11)):
        given = arguments(*sizes)
        feed = {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)}
        with torch.no_grad():
            expected = layer(*given)
        for one, other in zip(session.run(None, feed), expected, strict=True):
            np.testing.assert_allclose(one, other.numpy(), atol=1e-6)
