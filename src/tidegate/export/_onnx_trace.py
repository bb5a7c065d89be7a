"""An ONNX graph read as layers: what each name means is followed from the inputs to the outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np

from ..errors import InputError
from ..runtime import GRU, Activation, AddInput, Embedding, Last, LayerNorm, Linear
from ..weights import from_onnx
from ._bounded import as_real
from ._onnx_file import GraphFile, Node
from ._onnx_fold import filled, fold, fold_sizes, slices, squeezed, unsqueezed
from ._onnx_values import (
    Axis,
    Constant,
    Data,
    Filled,
    Final,
    Size,
    Sizes,
    States,
    Value,
    as_sizes,
    reshape,
)

Array = np.ndarray


@dataclass(frozen=True)
class Start:
    """Where a GRU's initial state comes from: entries of the first axis of an input.

    Args:
        batch_first: the input is (batch, directions, hidden).
    """

    source: str
    part: tuple[int, int] | None
    batch_first: bool


@dataclass(frozen=True)
class Traced:
    """What the names of a graph mean.

    Args:
        values: of every name.
        roles: which axes of the inputs are "time" and "batch", by their keys.
        starts: of each GRU, where its initial state comes from if not zeros.
        lengths: the input that says how long each row is.
    """

    values: dict[str, Value]
    roles: dict[str, str]
    starts: dict[GRU, Start]
    lengths: str | None


class Tracer:
    """Goes through the nodes once, in their order."""

    def __init__(self, graph: GraphFile, path: object) -> None:
        """Begin with what the graph is given and what the file holds."""
        self.graph, self.path = graph, path
        self.values: dict[str, Value] = {
            name: Constant(array) for name, array in graph.constants.items()
        }
        self.roles: dict[str, str] = {}
        self.starts: dict[GRU, Start] = {}
        self.lengths: str | None = None
        held = sum(array.nbytes for array in graph.constants.values())
        self.budget = 2**28 + 4 * held
        for given in graph.inputs:
            shape = given.shape if given.shape is not None else (None, None, None)
            axes = tuple(
                Axis("free", f"{given.name}.{i}" if size is None else size, f"{given.name}.{i}")
                for i, size in enumerate(shape)
            )
            self.values[given.name] = Data(given.name, axes, integer=given.integer)

    def run(self) -> Traced:
        """Follow every node.

        Raises:
            InputError: a node does what no stack of layers can.
        """
        for node in self.graph.nodes:
            missing = [name for name in node.inputs if name and name not in self.values]
            if missing:
                self._refuse(node, f"reads {missing[0]!r}, which nothing made before it")
            inputs = [self.values[name] if name else None for name in node.inputs]
            for name, value in zip(node.outputs, self._followed(node, inputs), strict=False):
                if name:
                    self.values[name] = value
        return Traced(self.values, self.roles, self.starts, self.lengths)

    def _refuse(self, node: Node, why: str) -> NoReturn:
        raise InputError(f"{self.path}: {node} {why}")

    def _followed(self, node: Node, inputs: list[Value | None]) -> Sequence[Value]:
        try:
            return self._results(node, inputs)
        except InputError:
            raise
        except _MALFORMED as error:
            self._refuse(node, f"is not as ONNX has it: {error!r}")

    def _results(self, node: Node, inputs: list[Value | None]) -> Sequence[Value]:
        numbers = [value.array if isinstance(value, Constant) else None for value in inputs]
        if all(value is None or isinstance(value, Constant) for value in inputs):
            return self._folded(node, numbers)
        if node.op == "Shape":
            return [self._shape(node, inputs[0])]
        if (constant := filled(node, inputs)) is not None:
            return [constant] * len(node.outputs)
        if (sizes := fold_sizes(node, inputs)) is not None:
            return [sizes]
        if node.op not in _OPERATIONS:
            known = ", ".join(sorted(_OPERATIONS))
            self._refuse(node, f"is no part of a GRU model that is known; known are {known}")
        results = _OPERATIONS[node.op](self, node, inputs)
        return results if isinstance(results, list) else [results]

    def _folded(self, node: Node, numbers: list[Array | None]) -> list[Value]:
        arrays = fold(node, numbers)
        self.budget -= sum(array.nbytes for array in arrays)
        if self.budget < 0:
            self._refuse(node, "would need more memory than the whole file can mean")
        return [Constant(array) for array in arrays]

    def _shape(self, node: Node, value: Value | None) -> Sizes:
        if not isinstance(value, Data):
            self._refuse(node, "asks for the shape of what has none here")
        start, end = node.attributes.get("start", 0), node.attributes.get("end")
        return Sizes(value.sizes[start:end])

    def _data(self, node: Node, value: Value | None) -> Data:
        if not isinstance(value, Data):
            kind = type(value).__name__.lower()
            self._refuse(node, f"takes {kind} where the sequence is expected")
        return value

    def _whole(self, node: Node, value: Value | None) -> Data:
        """A sequence with all its directions and features, as layers take it."""
        data = self._data(node, value)
        if data.direction is not None:
            self._refuse(node, "takes one of two directions alone")
        if data.part is not None:
            self._refuse(node, "takes a part of the input, which no layer does")
        return data

    # One method for each operation on the sequence.

    def same(self, node: Node, inputs: list[Value | None]) -> Value:
        """Operations that change nothing when a model runs."""
        return self._data(node, inputs[0])

    def transpose(self, node: Node, inputs: list[Value | None]) -> Value:
        data = self._data(node, inputs[0])
        perm = node.attributes.get("perm", list(range(len(data.axes)))[::-1])
        if sorted(perm) != list(range(len(data.axes))):
            self._refuse(node, f"permutes {len(data.axes)} axes by {perm}")
        return replace(data, axes=tuple(data.axes[i] for i in perm))

    def squeeze(self, node: Node, inputs: list[Value | None]) -> Value:
        data = self._data(node, inputs[0])
        gone = squeezed(node, data.sizes, _second(inputs))
        if any(axis >= len(data.axes) or data.axes[axis].size != 1 for axis in gone):
            self._refuse(node, "squeezes an axis whose size is not one")
        return replace(data, axes=tuple(a for i, a in enumerate(data.axes) if i not in gone))

    def unsqueeze(self, node: Node, inputs: list[Value | None]) -> Value:
        data = self._data(node, inputs[0])
        axes = list(data.axes)
        for place in unsqueezed(node, len(axes), _second(inputs)):
            axes.insert(place, Axis("one", 1))
        return replace(data, axes=tuple(axes))

    def reshape(self, node: Node, inputs: list[Value | None]) -> Value:
        data = self._data(node, inputs[0])
        target = as_sizes(inputs[1] if len(inputs) > 1 else None)
        axes = None if target is None else reshape(data.axes, target)
        if axes is None:
            self._refuse(node, f"reshapes {data.sizes} to {target or 'what is not known'}")
        return replace(data, axes=axes)

    def gather(self, node: Node, inputs: list[Value | None]) -> Value:
        axis = node.attributes.get("axis", 0)
        if isinstance(inputs[0], Constant):
            return self._embedding(node, inputs[0].array, self._data(node, inputs[1]), axis)
        index = inputs[1].array if isinstance(inputs[1], Constant) else None
        if index is None or index.size != 1:
            self._refuse(node, "takes entries that are not one fixed place")
        picked = self._pick(node, inputs[0], axis, int(index.reshape(-1)[0]))
        if isinstance(picked, Data) and index.ndim == 1:
            axes = list(picked.axes)
            axes.insert(axis % (len(axes) + 1), Axis("one", 1))
            return replace(picked, axes=tuple(axes))
        return picked

    def _embedding(self, node: Node, table: Array, data: Data, axis: int) -> Data:
        if axis != 0 or table.ndim != 2 or data.layers or not data.integer:
            self._refuse(node, "looks up something else than rows of a table by an input")
        axes = (*data.axes, Axis("features", table.shape[1]))
        return replace(data, axes=axes, layers=(Embedding(as_real(table)),), integer=False)

    def _pick(self, node: Node, value: Value | None, axis: int, index: int) -> Value:
        """One entry of an axis, which goes away."""
        if isinstance(value, States):
            return self._pick_state(node, value, axis, index)
        data = self._data(node, value)
        axis %= len(data.axes)
        kind, size = data.axes[axis].kind, data.axes[axis].size
        rest = data.axes[:axis] + data.axes[axis + 1 :]
        if size == 1:
            return replace(data, axes=rest)
        if kind == "directions":
            return replace(data, axes=rest, direction=index % int(size))
        if self.roles.get(data.axes[axis].key) != "time":
            self._refuse(node, "takes an entry of an axis that is not time")
        return self._one_step(node, replace(data, axes=rest), index, size)

    def _one_step(self, node: Node, data: Data, index: int, size: Size) -> Data:
        """One step in place of all: the last, or the one that a reverse direction ends with."""
        is_last = index == -1 or (isinstance(size, int) and index == size - 1)
        before = data.layers[-1] if data.layers else None
        if isinstance(before, GRU) and index == 0 and (before.reverse or data.direction == 1):
            return replace(data, layers=(*data.layers, Final()))
        if not is_last or self.lengths is not None or not isinstance(before, GRU | None):
            self._refuse(node, "takes something else than the last step after a GRU")
        if data.direction == 1:
            self._refuse(node, "takes the last step of a direction that ends with the first")
        return replace(data, layers=(*data.layers, Last() if data.direction is None else Final()))

    def _pick_state(self, node: Node, states: States, axis: int, index: int) -> Value:
        entries = [
            (part, direction)
            for part in states.parts
            for direction in range(int(part.axes[0].size))
        ]
        if axis != 0 or not -len(entries) <= index < len(entries):
            self._refuse(node, "takes something else than the state of one layer")
        part, direction = entries[index]
        return self._pick(node, part, 0, direction)

    def slice(self, node: Node, inputs: list[Value | None]) -> Value:
        given = [value.array if isinstance(value, Constant) else None for value in inputs[1:]]
        if any(value is not None and not isinstance(value, Constant) for value in inputs[1:]):
            self._refuse(node, "takes a part that is not fixed")
        first = inputs[0]
        rank = 3 if isinstance(first, States) else len(self._data(node, first).axes)
        axes, starts, ends, steps = slices(node, rank, *(*given, None, None, None, None)[:4])
        if len(axes) != 1 or steps[0] != 1:
            self._refuse(node, "takes a part of several axes, or every so many steps")
        return self._part(node, first, axes[0], starts[0], ends[0])

    def _part(self, node: Node, value: Value | None, axis: int, start: int, end: int) -> Value:
        if isinstance(value, States):
            if start == -1 and end > 2**30:
                picked = self._pick(node, value, axis, -1)
                if isinstance(picked, Data):
                    return replace(picked, axes=(Axis("one", 1), *picked.axes))
            self._refuse(node, "takes something else than the state of the last layer")
        data = self._data(node, value)
        size = data.axes[axis].size
        if start in (0, -size if isinstance(size, int) else 0) and _reaches(end, size):
            return data
        if data.axes[axis].kind == "directions" and end - start == 1 and start >= 0:
            picked = self._data(node, self._pick(node, data, axis, start))
            axes = (*data.axes[:axis], Axis("one", 1), *data.axes[axis + 1 :])
            return replace(picked, axes=axes)
        ends_first = data.direction == 1 and (start, end) == (0, 1)
        if ends_first or (start == -1 and (end > 2**30 or end == size)):
            picked = self._pick(node, data, axis, start)
            if isinstance(picked, Data):
                axes = (*data.axes[:axis], Axis("one", 1), *data.axes[axis + 1 :])
                return replace(picked, axes=axes)
        if not data.layers and axis == len(data.axes) - 1 and start == 0 and end > 0:
            # The first columns of the model's input, which is what a skip connection adds.
            return replace(data, axes=(*data.axes[:-1], Axis("one", end)), part=(0, end))
        end = size if end > 2**30 and isinstance(size, int) else end
        if not data.layers and axis == 0 and data.part is None and 0 <= start < end <= 2**30:
            return replace(data, axes=(Axis("one", end - start), *data.axes[1:]), part=(start, end))
        self._refuse(node, "takes a part of the sequence that no layer takes")

    def concat(self, node: Node, inputs: list[Value | None]) -> Value:
        axis = node.attributes.get("axis", 0)
        parts = [part for value in inputs for part in _parts(value)]
        if len(inputs) == 1 and parts:
            return parts[0]
        if parts and axis == 0 and all(_is_state(part) for part in parts):
            return States(tuple(parts))
        if len(inputs) == len(parts) == 2:
            return self._both(node, parts[0], parts[1], axis)
        self._refuse(node, "joins things that no layer joins")

    def _both(self, node: Node, first: Data, second: Data, axis: int) -> Data:
        """Both directions beside each other."""
        same = first.layers == second.layers and first.axes == second.axes
        if not same or (first.direction, second.direction) != (0, 1):
            self._refuse(node, "joins what is not forward and reverse of one layer, in that order")
        axes = first.axes
        if axis % len(axes) != len(axes) - 1:
            self._refuse(node, "joins directions along another axis than their units")
        merged = Axis("features", 2 * int(axes[-1].size))
        return replace(first, axes=(*axes[:-1], merged), direction=None)

    def matmul(self, node: Node, inputs: list[Value | None]) -> Value:
        data = self._whole(node, inputs[0])
        weight = inputs[1].array if isinstance(inputs[1], Constant) else None
        if weight is None or weight.ndim != 2:
            self._refuse(node, "multiplies the sequence by something else than a matrix")
        return self._linear(node, data, weight.T)

    def _linear(self, node: Node, data: Data, weight: Array, bias: Array | None = None) -> Data:
        if not data.axes or data.axes[-1].size not in (weight.shape[1], _loose(data)):
            self._refuse(
                node, f"multiplies {data.sizes} by a matrix for {weight.shape[1]} features"
            )
        return data.then(Linear(as_real(weight), bias), weight.shape[0])

    def gemm(self, node: Node, inputs: list[Value | None]) -> Value:
        data = self._whole(node, inputs[0])
        weight = inputs[1].array if isinstance(inputs[1], Constant) else None
        scales = (node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0))
        if weight is None or weight.ndim != 2 or scales != (1.0, 1.0):
            self._refuse(node, "is not the product with a matrix and a bias")
        if node.attributes.get("transA"):
            self._refuse(node, "transposes the sequence")
        weight = weight if node.attributes.get("transB") else weight.T
        if len(inputs) < 3 or inputs[2] is None:
            return self._linear(node, data, weight)
        return self._add_bias(node, self._linear(node, data, weight), inputs[2])

    def _add_bias(self, node: Node, data: Data, value: Value) -> Data:
        layer = data.layers[-1] if data.layers else None
        bias = value.array if isinstance(value, Constant) else None
        if bias is None or not isinstance(layer, Linear) or layer.bias is not None:
            self._refuse(node, "adds numbers to what does not come from a product")
        if bias.size not in (1, len(layer.weight)) or bias.size != max(bias.shape, default=1):
            self._refuse(node, f"adds a bias of shape {bias.shape} to {len(layer.weight)} features")
        whole = np.broadcast_to(as_real(bias).reshape(-1), len(layer.weight)).copy()
        return replace(data, layers=(*data.layers[:-1], replace(layer, bias=whole)))

    def add(self, node: Node, inputs: list[Value | None]) -> Value:
        constants = [value for value in inputs if isinstance(value, Constant)]
        others = [value for value in inputs if isinstance(value, Data)]
        if len(constants) == 1 and len(others) == 1:
            return self._add_bias(node, others[0], constants[0])
        if len(others) == 2:
            return self._skip(node, *sorted(others, key=_depth))
        self._refuse(node, "adds things that no layer adds")

    def _skip(self, node: Node, given: Data, data: Data) -> Data:
        count = given.axes[-1].size
        steps = [layer for layer in (*given.layers, *data.layers) if isinstance(layer, Last)]
        alike = len(given.layers) == 0 or (isinstance(given.layers[0], Last) and len(steps) == 2)
        if (
            len(given.layers) > 1
            or not alike
            or given.source != data.source
            or given.axes[:-1] != data.axes[:-1]
        ):
            self._refuse(node, "joins two branches, and only the model's own input can be added")
        if count != data.axes[-1].size or not isinstance(count, int) or data.direction is not None:
            self._refuse(node, f"adds {count} features to {data.axes[-1].size}")
        return data.then(AddInput(count))

    def mul(self, node: Node, inputs: list[Value | None]) -> Value:
        """A sequence times its own sigmoid, which is SiLU."""
        x, gate = sorted((self._whole(node, value) for value in inputs), key=_depth)
        *before, last = gate.layers or [None]
        squashed = isinstance(last, Activation) and last.name == "sigmoid"
        if gate.source != x.source or tuple(before) != x.layers or not squashed:
            self._refuse(node, "multiplies things that no layer multiplies")
        return x.then(Activation("silu"))

    def activation(self, node: Node, inputs: list[Value | None]) -> Value:
        data = self._whole(node, inputs[0])
        name, alpha = _ACTIVATIONS[node.op]
        if "softmax" in name:
            axis = node.attributes.get("axis", -1 if self.graph.opset >= 13 else 1)
            if axis % len(data.axes) != len(data.axes) - 1:
                self._refuse(node, "normalises over another axis than the features")
        return data.then(Activation(name, node.attributes.get("alpha", alpha)))

    def layer_norm(self, node: Node, inputs: list[Value | None]) -> Value:
        data = self._whole(node, inputs[0])
        arrays = [value.array if isinstance(value, Constant) else None for value in inputs[1:]]
        axis = node.attributes.get("axis", -1)
        if axis % len(data.axes) != len(data.axes) - 1 or arrays[0] is None:
            self._refuse(node, "normalises something else than the features")
        weight, bias = (*(a if a is None else as_real(a) for a in arrays), None)[:2]
        size, eps = data.axes[-1].size, node.attributes.get("epsilon", 1e-5)
        if not isinstance(size, int):
            self._refuse(node, "normalises features whose number is not fixed")
        return data.then(LayerNorm(size, weight, bias, eps))

    def gru(self, node: Node, inputs: list[Value | None]) -> list[Value]:
        x, w, r, b, lengths, h_0 = (*inputs, *[None] * 6)[:6]
        data = self._whole(node, x)
        layer = self._gru_layer(node, w, r, b)
        if len(data.axes) != 3:
            self._refuse(node, f"has an input of {len(data.axes)} axes, not 3")
        layout = node.attributes.get("layout", 0)
        batch, time = data.axes[:2] if layout else data.axes[1::-1]
        self._role(node, time, "time")
        self._role(node, batch, "batch")
        if data.axes[-1].size not in (layer.input_size, _loose(data)):
            self._refuse(node, f"takes {layer.input_size} features, and {data.sizes} come to it")
        self._lengths(node, lengths, time.size)
        self._start(node, layer, h_0)
        layers = (*data.layers, layer)
        directions = Axis("directions", len(layer.directions))
        units = Axis("units", layer.hidden_size)
        every = (batch, time, directions, units) if layout else (time, directions, batch, units)
        last = (batch, directions, units) if layout else (directions, batch, units)
        output = replace(data, axes=every, layers=layers, integer=False)
        state = replace(data, axes=last, layers=(*layers, Final()), integer=False)
        return [output, state]

    def _gru_layer(self, node: Node, *weights: Value | None) -> GRU:
        self._check_options(node)
        arrays = [
            as_real(value.array) if isinstance(value, Constant) else None for value in weights
        ]
        if any(not isinstance(value, Constant | None) for value in weights):
            self._refuse(node, "has weights that are not in the file")
        w, r, b = arrays
        direction = node.attributes.get("direction", "forward")
        count = {"forward": 1, "reverse": 1, "bidirectional": 2}.get(direction)
        if count is None or w is None or r is None:
            self._refuse(node, f"has direction {direction!r} or lacks weights")
        flag = node.attributes.get("linear_before_reset", 0)
        if flag not in (0, 1):
            self._refuse(node, f"has linear_before_reset {flag}")
        try:
            read = from_onnx(w, r, b, linear_before_reset=flag)
        except InputError as error:
            self._refuse(node, f"has weights that do not fit: {error}")
        hidden = node.attributes.get("hidden_size", read[0].hidden_size)
        if len(read) != count or hidden != read[0].hidden_size:
            self._refuse(node, f"says {direction}, {hidden} units, and R has shape {r.shape}")
        return GRU(tuple(read), reverse=direction == "reverse")

    def _check_options(self, node: Node) -> None:
        attributes = node.attributes
        if attributes.get("layout", 0) not in (0, 1):
            self._refuse(node, f"has layout {attributes['layout']}")
        functions = [name.lower() for name in attributes.get("activations", [])]
        if functions not in ([], ["sigmoid", "tanh"], ["sigmoid", "tanh"] * 2):
            self._refuse(node, f"has activations {attributes['activations']}, not Sigmoid and Tanh")
        if attributes.get("clip"):
            self._refuse(node, f"clips what comes to its gates at {attributes['clip']}")

    def _role(self, node: Node, axis: Axis, role: str) -> None:
        if axis.key and self.roles.setdefault(axis.key, role) != role:
            other = self.roles[axis.key]
            self._refuse(node, f"takes as {role} what another GRU takes as {other}")
        if axis.kind not in ("free", "one"):
            self._refuse(node, f"takes {axis.kind} as {role}")

    def _lengths(self, node: Node, value: Value | None, time: Size) -> None:
        if value is None:
            return
        if isinstance(value, Constant) and np.all(value.array == time):
            return
        if not isinstance(value, Data) or value.layers or len(value.axes) != 1:
            self._refuse(node, "has sequence_lens that are neither an input nor all of the time")
        if self.lengths not in (None, value.source):
            self._refuse(node, f"has other lengths than {self.lengths}")
        self.lengths = value.source

    def _start(self, node: Node, layer: GRU, value: Value | None) -> None:
        if value is None or _is_zero(value):
            return
        if not isinstance(value, Data) or value.layers:
            self._refuse(node, "has an initial state that is neither zero nor an input")
        keys = [axis.key for axis in value.axes[value.part is not None :]]
        if keys != sorted(keys) or len(value.axes) != 3:
            self._refuse(node, "has an initial state that is turned around")
        self.starts[layer] = Start(value.source, value.part, bool(node.attributes.get("layout")))


# What attributes and inputs of a wrong kind or number lead to.
_MALFORMED = (TypeError, ValueError, IndexError, KeyError, AttributeError, ArithmeticError)

# Our name, and alpha where the node does not say.
_ACTIVATIONS = {
    "Relu": ("relu", 0.0),
    "Tanh": ("tanh", 0.0),
    "Sigmoid": ("sigmoid", 0.0),
    "Softplus": ("softplus", 0.0),
    "Elu": ("elu", 1.0),
    "LeakyRelu": ("leaky_relu", 0.01),
    "Softmax": ("softmax", 0.0),
    "LogSoftmax": ("log_softmax", 0.0),
}
_Operation = Callable[[Tracer, Node, list[Value | None]], Value | list[Value]]

_OPERATIONS: dict[str, _Operation] = {
    "GRU": Tracer.gru,
    "MatMul": Tracer.matmul,
    "Gemm": Tracer.gemm,
    "Add": Tracer.add,
    "Mul": Tracer.mul,
    "Transpose": Tracer.transpose,
    "Squeeze": Tracer.squeeze,
    "Unsqueeze": Tracer.unsqueeze,
    "Reshape": Tracer.reshape,
    "Gather": Tracer.gather,
    "Slice": Tracer.slice,
    "Concat": Tracer.concat,
    **dict.fromkeys(("Identity", "Cast", "Dropout"), Tracer.same),
    "LayerNormalization": Tracer.layer_norm,
    **dict.fromkeys(_ACTIVATIONS, Tracer.activation),
}


def _second(inputs: list[Value | None]) -> Array | None:
    """The axes that newer operations have as an input."""
    return inputs[1].array if len(inputs) > 1 and isinstance(inputs[1], Constant) else None


def _depth(data: Data) -> int:
    return len(data.layers)


def _parts(value: Value | None) -> tuple[Data, ...]:
    """The sequences that a value is made of."""
    if isinstance(value, States):
        return value.parts
    return (value,) if isinstance(value, Data) else ()


def _is_state(data: Data) -> bool:
    return data.layers[-1:] == (Final(),) and data.axes[0].kind == "directions"


def _is_zero(value: Value) -> bool:
    if isinstance(value, Filled):
        return value.value == 0
    return isinstance(value, Constant) and not value.array.any()


def _loose(data: Data) -> Size:
    """The size of an input's last axis where the file does not fix it."""
    size = data.axes[-1].size
    return size if isinstance(size, str) else -1


def _reaches(end: int, size: Size) -> bool:
    return end > 2**30 or end == size
