"""ONNX models in: a graph around GRU nodes becomes layers, and runs as it was asked to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..runtime import GRU, Last, Layer, Model, Stack
from ._onnx_file import GraphFile, graph_of, read_graph
from ._onnx_trace import Traced, Tracer
from ._onnx_values import Axis, Data, Final, States, Step, Value

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """An ONNX model as layers, together with how its graph lays out inputs and outputs.

    Args:
        model: the layers, from the sequence that goes in to `output`.
        output: the output of the graph that the layers give.
    """

    model: Model
    output: str
    graph: GraphFile
    traced: Traced

    @property
    def source(self) -> str:
        """The input that is the sequence."""
        return _data(self.traced.values[self.output]).source

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """What the graph would answer, for each of its outputs, from our layers and kernels."""
        return [self._evaluate(self.traced.values[name], feeds) for name in self.graph.outputs]

    def _roles(self, source: str) -> list[str]:
        return _roles(self.graph, self.traced, source)

    def _evaluate(self, value: Value, feeds: Mapping[str, Array]) -> Array:
        if isinstance(value, States):
            return np.concatenate([self._evaluate(part, feeds) for part in value.parts])
        value = _data(value)
        stack = Stack(_layers(value.layers))
        lengths = None if self.traced.lengths is None else feeds[self.traced.lengths]
        x = self._sequence(value.source, feeds)
        hx = [h for step in value.layers if isinstance(step, GRU) for h in self._start(step, feeds)]
        output = stack(x, hx or None, lengths)
        if value.direction is not None:
            width = output.shape[-1] // 2
            output = output[..., value.direction * width :][..., :width]
        return self._arrange(output, value)

    def _sequence(self, source: str, feeds: Mapping[str, Array]) -> Array:
        """The input with time first and batch second."""
        x, roles = np.asarray(feeds[source]), self._roles(source)
        order = [roles.index(role) for role in ("time", "batch") if role in roles]
        x = x.transpose(order + [i for i in range(x.ndim) if i not in order])
        missing = tuple(i for i, role in enumerate(("time", "batch")) if role not in roles)
        return np.ascontiguousarray(np.expand_dims(x, missing))

    def _start(self, layer: GRU, feeds: Mapping[str, Array]) -> list[Array]:
        """The initial state of each direction; none where the graph begins with zeros."""
        start = self.traced.starts.get(layer)
        if start is None:
            return []
        h = np.asarray(feeds[start.source])
        h = h if start.part is None else h[slice(*start.part)]
        return list(h.swapaxes(0, 1) if start.batch_first else h)

    def _arrange(self, output: Array, data: Data) -> Array:
        """From (time, batch, features), or without time, to the axes of the graph."""
        named = [] if any(isinstance(step, Last | Final) for step in data.layers) else ["time"]
        named.append("batch")
        kinds = [axis.kind for axis in data.axes]
        if "units" in kinds:
            units = next(int(axis.size) for axis in data.axes if axis.kind == "units")
            output = output.reshape(*output.shape[:-1], -1, units)
            named += ["directions", "units"]
        else:
            named.append("features")
        wanted = [self._name(axis) for axis in data.axes]
        for i, name in reversed(list(enumerate(named))):
            if name not in wanted:  # of size one, and squeezed
                output = output.squeeze(i)
                del named[i]
        output = output.transpose([named.index(name) for name in wanted if name in named])
        return np.expand_dims(
            output, tuple(i for i, name in enumerate(wanted) if name not in named)
        )

    def _name(self, axis: Axis) -> str:
        return self.traced.roles.get(axis.key, axis.kind)


def read_onnx(path: str | os.PathLike[str], *, output: str | None = None) -> OnnxModel:
    """Read an ONNX model whose graph is a stack of layers with at least one GRU node.

    Args:
        path: the file; external data must lie beside it.
        output: which output of the graph to take, where it has several that differ.

    Raises:
        InputError: the file is damaged, or a node does what no layer does; it is named.
        ModuleNotFoundError: onnx is not installed.
    """
    return _read(read_graph(path), path, output)


def read_onnx_stack(path: str | os.PathLike[str], *, output: str | None = None) -> Model:
    """The layers alone of what `read_onnx` reads."""
    return read_onnx(path, output=output).model


def from_onnx_model(model: Any, *, output: str | None = None) -> OnnxModel:
    """The same from an `onnx.ModelProto`."""
    return _read(graph_of(model), "the model", output)


def _read(graph: GraphFile, path: object, output: str | None) -> OnnxModel:
    if not any(node.op == "GRU" for node in graph.nodes):
        found = ", ".join(sorted({node.op for node in graph.nodes}))
        raise InputError(f"{path} has no GRU node; it has {found}")
    traced = Tracer(graph, path).run()
    chosen = _chosen(graph, traced, path, output)
    data = _data(traced.values[chosen])
    _check_others(graph, traced, path, chosen, output)
    _check_whole(data, path, chosen)
    roles = _roles(graph, traced, data.source)
    model = Model(Stack(_layers(data.layers)), batch_first=roles[:1] == ["batch"])
    return OnnxModel(model, chosen, graph, traced)


def _check_whole(data: Data, path: object, chosen: str) -> None:
    kinds = {axis.kind for axis in data.axes}
    if not any(isinstance(step, GRU) for step in data.layers):
        raise InputError(f"{path}: output {chosen!r} comes from no GRU")
    if data.direction is not None or "rows" in kinds:
        raise InputError(f"{path}: output {chosen!r} is only a part of what the layers give")


def _layers(steps: Sequence[Step]) -> list[Layer]:
    """Layers of the runtime, whose GRU knows itself whether it gives its final state."""
    layers: list[Layer] = []
    for step in steps:
        if isinstance(step, Final):
            layers[-1] = _with_final(layers[-1])
        else:
            layers.append(step)
    return layers


def _with_final(layer: Layer) -> Layer:
    return replace(layer, final=True) if isinstance(layer, GRU) else layer


def _roles(graph: GraphFile, traced: Traced, source: str) -> list[str]:
    """What each axis of an input is."""
    shape = next(given.shape for given in graph.inputs if given.name == source)
    rank = 3 if shape is None else len(shape)
    return [traced.roles.get(f"{source}.{i}", "features") for i in range(rank)]


def _chosen(graph: GraphFile, traced: Traced, path: object, output: str | None) -> str:
    names = [name for name in graph.outputs if isinstance(traced.values.get(name), Data)]
    if output is not None:
        if output not in names:
            raise InputError(f"{path} has no output {output!r}; it has {', '.join(names)}")
        return output
    if not names:
        raise InputError(f"{path} has no output that comes from its input through a GRU")
    plain = [name for name in names if not _is_state(traced.values[name])]
    return (plain or names)[0]


def _check_others(
    graph: GraphFile, traced: Traced, path: object, chosen: str, output: str | None
) -> None:
    """Other outputs must be states that the stack has anyway, or be left out by the caller."""
    layers = set(map(id, _data(traced.values[chosen]).layers))
    for name in graph.outputs:
        value = traced.values.get(name)
        parts = value.parts if isinstance(value, States) else [value]
        known = all(isinstance(part, Data) and _own(part.layers, layers) for part in parts)
        if name != chosen and output is None and not known:
            raise InputError(
                f"{path} has outputs {chosen!r} and {name!r} that are not one stack: name one"
            )


def _own(steps: Sequence[Step], chosen: set[int]) -> bool:
    return all(id(step) in chosen or isinstance(step, Last | Final) for step in steps)


def _data(value: Value) -> Data:
    """What was checked to be one."""
    if not isinstance(value, Data):
        raise InputError("an output of the graph does not come from its input")
    return value


def _is_state(value: Value) -> bool:
    return isinstance(value, Data) and value.layers[-1:] == (Final(),) and len(value.axes) == 3
