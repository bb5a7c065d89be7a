"""An ONNX file as plain nodes and arrays; no size in it is believed before the bytes are there."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

Array = np.ndarray

LARGEST = 2**31 - 1  # bytes: protobuf's own limit
_MOST_PARTS = 100_000  # an empty one takes two bytes in a file, and hundreds in memory
# What the importer reads: numbers, and shapes. Sub-byte types and strings are none of a GRU's.
_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
}
_FIELDS = {1: "float_data", 6: "int32_data", 7: "int64_data", 11: "double_data"}


@dataclass(frozen=True)
class Node:
    """One operation: names in, names out, attributes as numbers, strings and arrays."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        """As an error names it."""
        return f"node {self.name or ', '.join(self.outputs)} ({self.op})"


@dataclass(frozen=True)
class Input:
    """A graph input: sizes are numbers where they are fixed, else None."""

    name: str
    shape: tuple[int | None, ...] | None
    integer: bool


@dataclass(frozen=True)
class GraphFile:
    """What an ONNX file holds."""

    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    opset: int
    producer: str


def read_graph(path: str | os.PathLike[str]) -> GraphFile:
    """Read an ONNX file, and its external data where they lie beside it.

    Raises:
        InputError: the file is not there, damaged, or holds what no GRU model needs.
        ModuleNotFoundError: onnx is not installed.
    """
    from onnx import ModelProto  # first, since it is the one to be missing

    from google.protobuf.message import DecodeError  # isort: skip

    path = Path(path)
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise InputError(f"{path} has {size:,} bytes, more than an ONNX file can")
        model = ModelProto.FromString(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, DecodeError) as error:
        raise InputError(f"{path} cannot be read as ONNX: {error}") from None
    return graph_of(model, path)


def graph_of(model: Any, path: str | os.PathLike[str] = "the model") -> GraphFile:
    """The same from an `onnx.ModelProto`; external data are looked for beside `path`."""
    graph = model.graph
    if not graph.node:
        raise InputError(f"{path} cannot be read as ONNX: it has no nodes")
    parts = [graph.node, graph.initializer, graph.input, graph.output]
    if max(map(len, parts)) > _MOST_PARTS:
        raise InputError(f"{path} has more than {_MOST_PARTS:,} nodes or tensors")
    if model.functions:
        raise InputError(
            f"{path} has functions of its own: inline them first, with "
            "onnx.inliner.inline_local_functions"
        )
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    try:
        constants = {_text(tensor.name): _array(tensor, path) for tensor in graph.initializer}
        nodes = tuple(_node(node, path) for node in graph.node)
        inputs = tuple(_input(value) for value in graph.input if value.name not in constants)
        outputs = tuple(_text(value.name) for value in graph.output)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read as ONNX: {error}") from None
    return GraphFile(nodes, constants, inputs, outputs, opset, model.producer_name)


def _input(value: Any) -> Input:
    tensor = value.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        shape = tuple(size if size and size > 0 else None for size in sizes)
    return Input(_text(value.name), shape, tensor.elem_type in (6, 7))


def _node(node: Any, path: object) -> Node:
    if node.domain not in ("", "ai.onnx"):
        raise InputError(f"{path}: operation {node.domain}.{node.op_type} is not ONNX's own")
    attributes = {_text(a.name): _attribute(a, path) for a in node.attribute}
    inputs, outputs = (tuple(map(_text, names)) for names in (node.input, node.output))
    return Node(_text(node.op_type), _text(node.name), inputs, outputs, attributes)


def _text(name: str | bytes) -> str:
    """A name; protobuf gives bytes where it is not UTF-8."""
    return name if isinstance(name, str) else name.decode()


def _attribute(attribute: Any, path: object) -> Any:
    match attribute.type:
        case 1:
            return attribute.f
        case 2:
            return attribute.i
        case 3:
            return attribute.s.decode()
        case 4:
            return _array(attribute.t, path)
        case 6:
            return list(attribute.floats)
        case 7:
            return list(attribute.ints)
        case 8:
            return [text.decode() for text in attribute.strings]
    # A graph inside a node is a loop or a branch.
    return None


def _array(tensor: Any, path: object) -> Array:
    what = f"{path}: tensor {tensor.name!r}"
    shape = tuple(tensor.dims)
    if tensor.data_type not in _DTYPES:
        raise InputError(f"{what} has ONNX' data type {tensor.data_type}, which no GRU model needs")
    dtype = np.dtype(_DTYPES[tensor.data_type])
    if any(size < 0 for size in shape) or len(shape) > 8:
        raise InputError(f"{what} has shape {shape}")
    count = math.prod(shape)
    if tensor.data_location == 1:
        data = _external(tensor, count * dtype.itemsize, path)
        flat = np.frombuffer(data, dtype.newbyteorder("<"))
    elif tensor.HasField("raw_data"):
        raw = tensor.raw_data
        if len(raw) != count * dtype.itemsize:
            raise InputError(f"{what} has shape {shape} and {len(raw)} bytes of {dtype}")
        flat = np.frombuffer(raw, dtype.newbyteorder("<"))
    else:
        values = getattr(tensor, _FIELDS.get(tensor.data_type, "int32_data"))
        if len(values) != count:
            raise InputError(f"{what} has shape {shape} and {len(values)} numbers")
        flat = _from_values(values, dtype)
    if dtype == np.float16:
        flat = flat.astype(np.float32)
    return flat.astype(flat.dtype.newbyteorder("="), copy=False).reshape(shape)


def _from_values(values: Any, dtype: np.dtype) -> Array:
    if dtype == np.float16:  # its bits, in whole numbers
        return np.array(values, np.uint32).astype(np.uint16).view(np.float16)
    if dtype.kind in "iub":
        return np.array(values, np.int64).astype(dtype)
    return np.array(values, dtype)


def _external(tensor: Any, expected: int, path: object) -> bytes:
    what = f"{path}: tensor {tensor.name!r}"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    parts = Path(location).parts
    if len(parts) != 1 or parts[0] in (os.sep, ".."):
        raise InputError(f"{what} lies in {location!r}, which is not a file beside the model")
    file = Path(str(path)).parent / location
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", expected))
        size = file.stat().st_size
        if length != expected or offset < 0 or offset + length > size:
            raise InputError(
                f"{what} needs {expected} bytes, and {location} has {length} of {size} for it"
            )
        with file.open("rb") as opened:
            opened.seek(offset)
            return opened.read(length)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{what} has an offset or length that is no number") from None
    except OSError as error:
        raise InputError(f"{what} lies in {location}: {error.strerror}") from None
