"""ONNX in and out beside ONNX Runtime, at odd sizes; and what an importer must not believe."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from format_cases import MADE, model
from helpers import assert_matches, gru_inputs
from runtime_cases import embedding, gru_layer, layer_norm, linear
from tidegate.errors import InputError
from tidegate.export import from_onnx_model, read_onnx, to_onnx_model, write_onnx
from tidegate.runtime import GRU, Activation, AddInput, Last, Model, Stack
from tidegate.weights import GRUWeights, to_onnx

size = st.integers(1, 9)


def run(proto, feeds):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    data = proto.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def node_model(seed, time, batch, features, hidden, way, reset, *, lengths, start):
    """A model of one GRU node, and what to feed it."""
    count = 2 if way == "bidirectional" else 1
    given = [gru_inputs(seed + d, time, batch, features, hidden, np.float32) for d in range(count)]
    w, r, b = to_onnx(*(GRUWeights(*each[2:], reset=reset) for each in given))
    arrays = {"W": w, "R": r, "B": b}
    feeds, inputs = {"X": given[0].x}, [info("X", "time", "batch", features)]
    if lengths:
        steps = np.random.default_rng(seed).integers(1, time + 1, batch).astype(np.int32)
        feeds["lengths"] = steps
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]))
    if start:
        feeds["h"] = np.stack([each.h_0 for each in given])
        inputs.append(info("h", count, "batch", hidden))
    names = ["X", "W", "R", "B", "lengths" if lengths else "", "h" if start else ""]
    node = helper.make_node(
        "GRU",
        names,
        ["Y", "Y_h"],
        hidden_size=hidden,
        direction=way,
        linear_before_reset=int(reset == "after"),
    )
    outputs = [info("Y", "time", count, "batch", hidden), info("Y_h", count, "batch", hidden)]
    held = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph([node], "g", inputs, outputs, held)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8), feeds


def info(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**30),
    time=size,
    batch=size,
    features=size,
    hidden=size,
    way=st.sampled_from(["forward", "reverse", "bidirectional"]),
    reset=st.sampled_from(["after", "before"]),
    lengths=st.booleans(),
    start=st.booleans(),
)
def test_a_node_gives_what_onnx_runtime_gives(
    seed, time, batch, features, hidden, way, reset, lengths, start
):
    sizes = (seed, time, batch, features, hidden)
    proto, feeds = node_model(*sizes, way, reset, lengths=lengths, start=start)
    for ours, theirs in zip(from_onnx_model(proto).run(feeds), run(proto, feeds), strict=True):
        assert_matches(ours, theirs)


STACKS = {
    "every layer": lambda: [
        gru_layer(0, 3, 4, reset="none"),
        layer_norm(1, 4),
        Activation("silu"),
        gru_layer(2, 4, 5, directions=2, reset="before"),
        linear(3, 10, 3),
        AddInput(3),
        Activation("leaky_relu", 0.2),
        Activation("log_softmax"),
    ],
    "reverse": lambda: [gru_layer(0, 3, 4, reverse=True), Activation("elu", 0.7)],
    "the state both ways": lambda: [gru_layer(0, 3, 4, directions=2, final=True), linear(1, 8, 2)],
    "the last step": lambda: [
        gru_layer(0, 3, 3, directions=2),
        Last(),
        linear(1, 6, 3),
        AddInput(3),
        Activation("softplus"),
    ],
    "words": lambda: [embedding(0, 7, 3), gru_layer(1, 3, 4), linear(2, 4, 7)],
}


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", STACKS)
def test_onnx_runtime_gives_what_the_model_gives_at_every_size(name, batch_first):
    first = Model(Stack(STACKS[name]()), batch_first)
    proto = to_onnx_model(first)
    nodes = [node.op_type for node in proto.graph.node]
    assert nodes.count("GRU") == len(first.stack.recurrent)  # one a layer, and no loop
    rng = np.random.default_rng(0)
    for time, batch in ((1, 1), (5, 3), (4, 7)):
        shape = (batch, time) if batch_first else (time, batch)
        x = rng.integers(0, 7, shape)
        if first.stack.input_size:
            x = rng.standard_normal((*shape, 3)).astype(np.float32)
        (y,) = run(proto, {"x": x})
        assert_matches(first(x), y, eps=16)  # softmax of sums: 9 eps was measured
        assert_matches(from_onnx_model(proto).model(x), y, eps=16)


def test_a_state_goes_in_and_out_so_that_a_sequence_may_be_cut(tmp_path):
    first = model("torch_dynamo_every.onnx")
    write_onnx(first, tmp_path / "m.onnx", states=True, lengths=True)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((2, 9, 3)).astype(np.float32)
    states = [np.zeros((1, 2, 4), np.float32)] * 2
    parts = []
    for part in np.split(x, [2, 3, 7], axis=1):
        lengths = np.full(2, part.shape[1], np.int32)
        feeds = {"x": part, "lengths": lengths, "h_0.0": states[0], "h_0.1": states[1]}
        y, *states = session.run(None, feeds)
        parts.append(y)
    assert_matches(np.concatenate(parts, 1), first(x))


@pytest.mark.parametrize("name", [name for name in STACKS if name != "the last step"])
def test_rows_of_different_lengths_end_where_the_model_ends_them(name):
    first = Model(Stack(STACKS[name]()))
    rng, lengths = np.random.default_rng(0), np.array([6, 1, 4], np.int32)
    x = rng.integers(0, 7, (6, 3))
    if first.stack.input_size:
        x = rng.standard_normal((6, 3, 3)).astype(np.float32)
    (y,) = run(to_onnx_model(first, lengths=True), {"x": x, "lengths": lengths})
    expected = first(x, lengths=lengths)
    valid = np.arange(6)[:, None] < lengths if first.stack.gives_sequence else slice(None)
    assert_matches(expected[valid], y[valid], eps=16)


def test_the_last_step_of_rows_of_different_lengths_is_refused():
    first = Model(Stack(STACKS["the last step"]()))
    with pytest.raises(InputError, match="ONNX has no node that takes the last step"):
        to_onnx_model(first, lengths=True)


def test_a_state_and_data_beside_the_file_come_in():
    """torch's own export of a GRU that takes `h_0`, its weights in a file of their own."""
    held = np.load(MADE / "torch_dynamo_carrying.npz")
    for exporter in ("dynamo", "legacy"):
        read = read_onnx(MADE / f"torch_{exporter}_carrying.onnx")
        names = [given.name for given in read.graph.inputs]
        output, h_n = read.run(dict(zip(names, (held["x"], held["h"]), strict=True)))
        assert_matches(output, held["y"])
        assert_matches(h_n, held["h_n"])


def changed(change):
    proto, _ = node_model(0, 3, 2, 3, 4, "forward", "after", lengths=False, start=False)
    change(proto.graph)
    return proto


def attribute(**values):
    return lambda graph: graph.node[0].attribute.extend(
        helper.make_attribute(name, value) for name, value in values.items()
    )


def bomb(graph):
    shape = numpy_helper.from_array(np.array([2**30, 2**30]), "shape")
    graph.initializer.append(shape)
    graph.node.insert(0, helper.make_node("ConstantOfShape", ["shape"], ["big"]))


def doubling(graph):
    for i in range(40):
        name = f"W{i}" if i else "W"
        graph.node.insert(i, helper.make_node("Concat", [name, name], [f"W{i + 1}"], axis=0))


def lying(graph):
    graph.initializer[0].dims[0] = 2**40


def outside(graph):
    tensor = graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def loop(graph):
    graph.node.append(helper.make_node("Loop", ["", "", "Y"], ["Z"]))


def other(graph):
    graph.node.append(helper.make_node("Conv", ["Y", "W"], ["Z"]))


WRONG = [
    (attribute(clip=3.0), "clips what comes to its gates at 3.0"),
    (attribute(activations=["HardSigmoid", "Tanh"]), "has activations .* not Sigmoid and Tanh"),
    (attribute(layout=2), "has layout 2"),
    (bomb, r"would make an array of shape \(1073741824, 1073741824\)"),
    (doubling, "would make an array|more memory than"),
    (lying, "has shape .* and 144 bytes of float32"),
    (outside, "which is not a file beside the model"),
    (loop, r"\(Loop\) is no part of a GRU model that is known"),
    (other, r"\(Conv\) is no part of a GRU model that is known"),
    (lambda graph: graph.node[0].input.__setitem__(1, "X"), "weights that are not in the file"),
    (lambda graph: graph.node[0].input.__setitem__(0, "nobody"), "reads 'nobody', which nothing"),
    (lambda graph: graph.initializer[1].dims.__setitem__(slice(None), [1, 4, 12]), "do not fit"),
    (lambda graph: graph.node.pop(), "it has no nodes"),
]


def whole(*numbers):
    return np.array(numbers, np.int64)


def filled(value):
    return numpy_helper.from_array(np.float32([value]))


# Nodes that work W out, and what the file holds in its place.
N = helper.make_node
FOLDED = {
    "slice": (
        [N("Slice", ["a", "start", "end", "axis", "step"], ["W"])],
        lambda w: {
            "a": np.concatenate([w, w], 1)[:, ::-1],
            **{"start": whole(-1), "end": whole(-13), "axis": whole(1), "step": whole(-1)},
        },
    ),
    "slice of two axes": (
        [N("Slice", ["a", "start", "end", "axis"], ["W"])],
        lambda w: {
            "a": np.pad(w, ((0, 0), (1, 2), (0, 1))),
            **{"start": whole(1, 0), "end": whole(13, 3), "axis": whole(1, -1)},
        },
    ),
    "split": (
        [N("Split", ["a"], ["_", "W"], axis=1)],
        lambda w: {"a": np.concatenate([0 * w, w], 1)},
    ),
    "split by sizes": (
        [N("Split", ["a", "sizes"], ["W", "_"], axis=-2)],
        lambda w: {"a": np.concatenate([w, w[:, :3]], 1), "sizes": whole(12, 3)},
    ),
    "gather": (
        [N("Gather", ["a", "rows"], ["W"], axis=1)],
        lambda w: {"a": w[:, ::-1], "rows": whole(*range(11, -1, -1))},
    ),
    "gather from the end": (
        [N("Gather", ["a", "row"], ["W"])],
        lambda w: {"a": np.stack([0 * w, w]), "row": np.array(-1)},
    ),
    "squeeze": ([N("Squeeze", ["a", "axis"], ["W"])], lambda w: {"a": w[None], "axis": whole(0)}),
    "unsqueeze": (
        [N("Unsqueeze", ["a", "axis"], ["W"])],
        lambda w: {"a": w[0], "axis": whole(-3)},
    ),
    "transpose": ([N("Transpose", ["a"], ["W"])], lambda w: {"a": w.T}),
    "reshape": (
        [N("Reshape", ["a", "shape"], ["W"])],
        lambda w: {"a": w.reshape(1, 36), "shape": whole(0, 12, -1)},
    ),
    "cast": ([N("Cast", ["a"], ["W"], to=1)], lambda w: {"a": w.astype(np.float64)}),
    "negative": ([N("Neg", ["a"], ["W"])], lambda w: {"a": -w}),
    "product": ([N("Mul", ["a", "b"], ["W"])], lambda w: {"a": w / 4, "b": np.float32(4)}),
    "quotient": (
        [N("Div", ["a", "b"], ["W"])],
        lambda w: {"a": w * 4, "b": np.full((12, 1), 4, np.float32)},
    ),
    "difference": (
        [N("Sub", ["a", "b"], ["W"])],
        lambda w: {"a": w + 1, "b": np.ones(3, np.float32)},
    ),
    "concatenation": (
        [N("Concat", ["a", "b"], ["W"], axis=-1)],
        lambda w: {"a": w[..., :1], "b": w[..., 1:]},
    ),
    "expansion": (
        [N("Expand", ["a", "shape"], ["W"])],
        lambda w: {"a": w[:, :1], "shape": whole(1, 12, 1)},
    ),
    "tiles": (
        [N("Tile", ["a", "times"], ["W"])],
        lambda w: {"a": w[:, :6], "times": whole(1, 2, 1)},
    ),
    "one number": (
        [N("Shape", ["a"], ["shape"]), N("ConstantOfShape", ["shape"], ["W"], value=filled(0.25))],
        lambda w: {"a": w},
    ),
    "quotient of sizes": (
        [N("Div", ["a", "b"], ["shape"]), N("ConstantOfShape", ["shape"], ["W"])],
        lambda w: {"a": whole(2, 24, 6), "b": whole(2)},
    ),
    "product over an axis": (
        [
            N("ReduceProd", ["a"], ["shape"], axes=[1], keepdims=0),
            N("ConstantOfShape", ["shape"], ["W"], value=filled(0.5)),
        ],
        lambda w: {"a": np.array([[1, 1], [3, 4], [1, 3]])},
    ),
    "constants": (
        [
            N("Constant", [], ["shape"], value_ints=[1, 12, 3]),
            N("Constant", [], ["a"], value_floats=[0.1] * 36),
            N("Reshape", ["a", "shape"], ["W"]),
        ],
        lambda w: {},
    ),
}


@pytest.mark.parametrize("name", FOLDED)
def test_weights_are_worked_out_as_onnx_runtime_does(name):
    nodes, held = FOLDED[name]
    proto, feeds = node_model(3, 5, 2, 3, 4, "forward", "after", lengths=False, start=False)
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    given = held(numpy_helper.to_array(weights.pop("W")))
    made = [numpy_helper.from_array(np.array(a, order="C"), key) for key, a in given.items()]
    every = [*nodes, *proto.graph.node], [*weights.values(), *made]
    for field, entries in zip((proto.graph.node, proto.graph.initializer), every, strict=True):
        del field[:]
        field.extend(entries)
    for ours, theirs in zip(from_onnx_model(proto).run(feeds), run(proto, feeds), strict=True):
        assert_matches(ours, theirs)


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_graph_that_no_stack_computes_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        from_onnx_model(changed(change))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x00" * 100, b"\x08\x08" * 50])
def test_a_file_that_is_no_onnx_is_refused(data, tmp_path):
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(InputError, match="cannot be read as ONNX"):
        read_onnx(tmp_path / "m.onnx")
    with pytest.raises(InputError, match="there is no such file"):
        read_onnx(tmp_path / "other.onnx")


def test_two_models_in_one_graph_need_a_choice():
    proto, _ = node_model(0, 3, 2, 3, 4, "forward", "after", lengths=False, start=False)
    again = onnx.NodeProto()
    again.CopyFrom(proto.graph.node[0])
    again.output[:] = ["Z", "Z_h"]
    proto.graph.node.append(again)
    proto.graph.output.append(info("Z", "time", 1, "batch", 4))
    with pytest.raises(InputError, match="outputs 'Y' and 'Z' that are not one stack: name one"):
        from_onnx_model(proto)
    assert from_onnx_model(proto, output="Z").output == "Z"
    assert isinstance(from_onnx_model(proto, output="Z").model.stack.layers[0], GRU)
