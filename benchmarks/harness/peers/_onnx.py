"""The model that ONNX Runtime and OpenVINO run: torch's weights in ONNX's order of gates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from harness.cases import Array, Case, Weights, inputs


def build(case: Case) -> ModelProto:
    """One GRU node a layer; inputs x and h_0_0, h_0_1, ...; outputs output and h_n_0, h_n_1, ..."""
    weights, nodes, constants = inputs(case).weights, [], []
    shape = np.array([case.time, case.batch, case.directions * case.hidden])
    constants.append(numpy_helper.from_array(shape, "shape"))
    last = case.layers - 1
    for layer in range(case.layers):
        first = layer * case.directions
        constants += _constants(weights[first : first + case.directions], layer)
        result = "output" if layer == last else f"x_{layer + 1}"
        nodes += _layer(case, "x" if not layer else f"x_{layer}", layer, result)
    state = [case.directions, case.batch, case.hidden]
    given = [_array("x", [case.time, case.batch, case.input])]
    given += [_array(f"h_0_{layer}", state) for layer in range(case.layers)]
    made = [_array("output", list(map(int, shape)))]
    made += [_array(f"h_n_{layer}", state) for layer in range(case.layers)]
    graph = helper.make_graph(nodes, "gru", given, made, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    checker.check_model(model)
    return model


def output_names(case: Case) -> list[str]:
    """Names of the outputs of the model."""
    return ["output", *(f"h_n_{layer}" for layer in range(case.layers))]


def _array(name: str, shape: list[int]):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _layer(case: Case, x: str, layer: int, result: str) -> list:
    """A GRU; its output (time, directions, batch, hidden) then takes torch's shape."""
    gru = helper.make_node(
        "GRU",
        [x, f"W_{layer}", f"R_{layer}", f"B_{layer}", "", f"h_0_{layer}"],
        [f"Y_{layer}", f"h_n_{layer}"],
        hidden_size=case.hidden,
        linear_before_reset=1,
        direction="bidirectional" if case.directions == 2 else "forward",
    )
    if case.directions == 1:
        return [gru, helper.make_node("Reshape", [f"Y_{layer}", "shape"], [result])]
    swap = helper.make_node("Transpose", [f"Y_{layer}"], [f"side_{layer}"], perm=[0, 2, 1, 3])
    return [gru, swap, helper.make_node("Reshape", [f"side_{layer}", "shape"], [result])]


def _constants(directions: Sequence[Weights], layer: int) -> list[TensorProto]:
    def stack(arrays: Sequence[Array]) -> Array:
        return np.stack([_zrn(array) for array in arrays])

    w = stack([d.weight_ih for d in directions])
    r = stack([d.weight_hh for d in directions])
    b = np.concatenate(
        [stack([d.bias_ih for d in directions]), stack([d.bias_hh for d in directions])], 1
    )
    return [
        numpy_helper.from_array(array, f"{name}_{layer}")
        for name, array in zip("WRB", (w, r, b), strict=True)
    ]


def _zrn(array: Array) -> Array:
    """Gates stacked r, z, n, restacked as ONNX has them."""
    r, z, n = np.split(array, 3)
    return np.concatenate([z, r, n])
