"""ONNX models out: one GRU node a layer, batch and time free."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from .._files import replacing
from ..errors import InputError
from ..runtime import GRU, Activation, AddInput, Embedding, Last, Layer, LayerNorm, Linear, Model
from ..weights import GRUWeights, to_onnx

Array = np.ndarray

OPSET, IR_VERSION = 17, 8
SHUT_OPEN = 100.0  # its sigmoid is one: the reset gate of a GRU that has none


def write_onnx(
    model: Model, path: str | os.PathLike[str], *, states: bool = False, lengths: bool = False
) -> None:
    """Write a model as ONNX, in float32.

    Its input is `x` and its output `y`, laid out as the model has them. Nodes have layout 0, since
    ONNX Runtime refuses the other.

    Args:
        model: what to write.
        path: where to write it.
        states: add an input `h_0.K` and an output `h_n.K`, (directions, batch, hidden), for each
            GRU layer K, so that a sequence can be read piece by piece.
        lengths: add an input `lengths` of int32, (batch), the steps of each row, from 1. Past
            them `y` is not zero as the model's is: it is what the last layers make of zeros.

    Raises:
        InputError: the file cannot be written, or a layer cannot be said in ONNX.
        ModuleNotFoundError: onnx is not installed.
    """
    proto = to_onnx_model(model, states=states, lengths=lengths)
    data = proto.SerializeToString()
    with replacing(Path(path)) as file:
        file.write_bytes(data)


def to_onnx_model(model: Model, *, states: bool = False, lengths: bool = False) -> Any:
    """The same as an `onnx.ModelProto`."""
    import onnx

    if lengths and any(isinstance(layer, Last) for layer in model.stack.layers):
        raise InputError("ONNX has no node that takes the last step of rows of different lengths")
    writer = _Writer(states, lengths)
    writer.write(model)
    graph = onnx.helper.make_graph(
        writer.nodes, "tidegate", writer.inputs, writer.outputs, writer.constants
    )
    proto = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="tidegate",
        producer_version=__version__,
    )
    onnx.checker.check_model(proto)
    return proto


class _Writer:
    """Gathers nodes; each method adds those of one layer and returns the name of its result."""

    def __init__(self, states: bool, lengths: bool) -> None:
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.constants: list[Any] = []
        self.states, self.lengths = states, lengths

    def write(self, model: Model) -> None:
        """The whole graph."""
        from onnx import TensorProto, helper

        stack, (rows, steps) = model.stack, ("batch", "time")
        order = [rows, steps] if model.batch_first else [steps, rows]
        width = [stack.input_size] if stack.input_size else []
        kind = TensorProto.FLOAT if width else TensorProto.INT64
        self.inputs.append(helper.make_tensor_value_info("x", kind, [*order, *width]))
        if self.lengths:
            self.inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, [rows]))
        name = self._turned("x", len(order + width)) if model.batch_first else "x"
        self.x, self.whole = name, True
        for place, layer in enumerate(stack.layers):
            name = self._layer(name, place, layer)
        if model.batch_first and self.whole:
            name = self._turned(name, 3)
        self.nodes.append(helper.make_node("Identity", [name], ["y"]))
        order = order if stack.gives_sequence else [rows]
        shape = [*order, stack.output_size]
        self.outputs.insert(0, helper.make_tensor_value_info("y", TensorProto.FLOAT, shape))

    def _layer(self, x: str, place: int, layer: Layer) -> str:
        match layer:
            case GRU():
                return self._gru(x, place, layer)
            case Linear():
                y = self._node("MatMul", x, self._constant("weight", place, layer.weight.T))
                if layer.bias is None:
                    return y
                return self._node("Add", y, self._constant("bias", place, layer.bias))
            case Embedding():
                return self._node("Gather", self._constant("weight", place, layer.weight), x)
            case LayerNorm():
                return self._layer_norm(x, place, layer)
            case Activation():
                return self._activation(x, layer)
            case Last():
                self.whole = False
                return self._last(x)
            case AddInput():
                ends = self._constant("columns", place, np.array([layer.columns]))
                zero = self._constant("zero", place, np.array([0]))
                axis = self._constant("axis", place, np.array([2]))
                first = self._node("Slice", self.x, zero, ends, axis)
                return self._node("Add", x, first if self.whole else self._last(first))

    def _gru(self, x: str, place: int, layer: GRU) -> str:
        w, r, b = to_onnx(*map(_with_reset, layer.directions))
        weights = [self._constant(n, place, a) for n, a in zip("WRB", (w, r, b), strict=True)]
        count = len(layer.directions)
        way = "bidirectional" if count == 2 else "reverse" if layer.reverse else "forward"
        h_0, h_n = self._state_names(place, layer)
        y = f"Y.{place}"
        self._node(
            "GRU",
            x,
            *weights,
            "lengths" if self.lengths else "",
            h_0,
            results=[y, h_n],
            hidden_size=layer.hidden_size,
            direction=way,
            linear_before_reset=int(layer.directions[0].reset != "before"),
        )
        if layer.final:
            self.whole = False
            turned = self._node("Transpose", h_n, perm=[1, 0, 2])
            return self._reshaped(turned, place, [0, count * layer.hidden_size])
        turned = self._node("Transpose", y, perm=[0, 2, 1, 3])
        return self._reshaped(turned, place, [0, 0, count * layer.hidden_size])

    def _state_names(self, place: int, layer: GRU) -> tuple[str, str]:
        from onnx import TensorProto, helper

        if not self.states:
            return "", f"Y_h.{place}"
        shape = [len(layer.directions), "batch", layer.hidden_size]
        number = sum(info.name.startswith("h_0.") for info in self.inputs)
        names = f"h_0.{number}", f"h_n.{number}"
        for name, where in zip(names, (self.inputs, self.outputs), strict=True):
            where.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return names

    def _layer_norm(self, x: str, place: int, layer: LayerNorm) -> str:
        weight = np.ones(layer.size) if layer.weight is None else layer.weight
        bias = [] if layer.bias is None else [self._constant("bias", place, layer.bias)]
        scale = self._constant("weight", place, weight)
        return self._node("LayerNormalization", x, scale, *bias, axis=-1, epsilon=layer.eps)

    def _activation(self, x: str, layer: Activation) -> str:
        if layer.name == "silu":
            return self._node("Mul", x, self._node("Sigmoid", x))
        op = "".join(part.capitalize() for part in layer.name.split("_"))
        if layer.name in ("elu", "leaky_relu"):
            return self._node(op, x, alpha=layer.alpha)
        if "softmax" in layer.name:
            return self._node(op, x, axis=-1)
        return self._node(op, x)

    def _last(self, x: str) -> str:
        where = self._constant("last", len(self.nodes), np.array(-1))
        return self._node("Gather", x, where, axis=0)

    def _turned(self, x: str, rank: int) -> str:
        return self._node("Transpose", x, perm=[1, 0, 2][:rank])

    def _reshaped(self, x: str, place: int, shape: list[int]) -> str:
        return self._node("Reshape", x, self._constant("shape", place, np.array(shape)))

    def _node(self, op: str, *inputs: str, results: list[str] | None = None, **options: Any) -> str:
        from onnx import helper

        results = results or [f"{op}.{len(self.nodes)}"]
        self.nodes.append(helper.make_node(op, inputs, results, name=results[0], **options))
        return results[0]

    def _constant(self, name: str, place: int, array: Array) -> str:
        from onnx import numpy_helper

        kind = np.int64 if array.dtype.kind == "i" else np.float32
        name = f"{name}.{place}"
        self.constants.append(numpy_helper.from_array(np.array(array, kind, order="C"), name))
        return name


def _with_reset(weights: GRUWeights) -> GRUWeights:
    """Weights that have a reset gate; one that is always open where there was none."""
    if weights.reset != "none":
        return weights
    gate = weights.weight_ih[: weights.hidden_size]
    w_ih, w_hh, b_ih, b_hh = (
        np.concatenate((np.zeros_like(array[: len(gate)]), array)) for array in weights.arrays
    )
    b_ih[: len(gate)] = SHUT_OPEN
    return GRUWeights(w_ih, w_hh, b_ih, b_hh, reset="after")
