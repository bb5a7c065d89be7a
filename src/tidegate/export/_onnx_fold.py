"""Operations on what an ONNX file holds: numbers from numbers, and sizes from sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import InputError
from ._onnx_file import Node
from ._onnx_values import Constant, Filled, Size, Sizes, Value, as_sizes, product

Array = np.ndarray

# No honest weight is made out of so many numbers that the file does not hold.
MOST = 2**25


def fold(node: Node, inputs: Sequence[Array | None]) -> list[Array]:
    """Carry out a node on numbers.

    Raises:
        InputError: the operation is not one that exporters apply to weights, or it fails.
    """
    if node.op not in _FOLDED:
        known = ", ".join(sorted(_FOLDED))
        raise InputError(f"{node} works on the file's numbers; what is known there: {known}")
    try:
        result = _FOLDED[node.op](node, *inputs)
    except InputError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
        raise InputError(f"{node} cannot be carried out: {error}") from None
    results = result if isinstance(result, list) else [result]
    return [np.asarray(array) for array in results]


def _bounded(node: Node, shape: Sequence[int]) -> tuple[int, ...]:
    if math.prod(shape) > MOST or any(size < 0 for size in shape):
        raise InputError(f"{node} would make an array of shape {tuple(shape)}")
    return tuple(shape)


def _whole(node: Node, name: str, given: Array | None, default: object = None) -> list[int] | None:
    """Whole numbers that are an attribute in old files and an input in new ones."""
    if given is not None:
        return [int(number) for number in np.asarray(given).reshape(-1)]
    return node.attributes.get(name, default)


def _constant(node: Node) -> Array:
    for name, dtype in (
        ("value", None),
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if name in node.attributes:
            return np.asarray(node.attributes[name], dtype)
    raise InputError(f"{node} has no numbers")


def _cast(node: Node, x: Array) -> Array:
    kinds = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float32, 11: np.float64}
    if node.attributes["to"] not in kinds:
        raise InputError(f"{node} casts to ONNX' data type {node.attributes['to']}")
    return x.astype(kinds[node.attributes["to"]])


def _slice(
    node: Node,
    x: Array,
    starts: Array | None = None,
    ends: Array | None = None,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array:
    where = [slice(None)] * x.ndim
    for axis, start, end, step in zip(
        *slices(node, x.ndim, starts, ends, axes, steps), strict=True
    ):
        where[axis] = slice(start, end, step)
    return x[tuple(where)]


def slices(
    node: Node, rank: int, *given: Array | None
) -> tuple[list[int], list[int], list[int], list[int | None]]:
    """Axes, starts, ends and steps of a Slice, of any age."""
    starts, ends, axes, steps = (
        _whole(node, name, array)
        for name, array in zip(("starts", "ends", "axes", "steps"), given, strict=True)
    )
    if starts is None or ends is None:
        raise InputError(f"{node} does not say what it takes")
    axes = list(range(len(starts))) if axes is None else [axis % rank for axis in axes]
    steps = [1] * len(starts) if steps is None else steps
    return axes, starts, ends, list(steps)


def _reshape(node: Node, x: Array, shape: Array | None = None) -> Array:
    sizes = _whole(node, "shape", shape) or []
    if not node.attributes.get("allowzero"):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def squeezed(node: Node, shape: Sequence[Size], given: Array | None) -> list[int]:
    """Which axes a Squeeze drops."""
    axes = _whole(node, "axes", given)
    if axes is None:
        return [i for i, size in enumerate(shape) if size == 1]
    return [axis % len(shape) for axis in axes]


def unsqueezed(node: Node, rank: int, given: Array | None) -> list[int]:
    """Which axes of the result an Unsqueeze puts in."""
    axes = _whole(node, "axes", given) or []
    return sorted(axis % (rank + len(axes)) for axis in axes)


def _split(node: Node, x: Array, split: Array | None = None) -> list[Array]:
    axis = node.attributes.get("axis", 0)
    sizes = _whole(node, "split", split)
    if sizes is None:  # equal, but for a smaller last one
        sizes = [-(-x.shape[axis] // len(node.outputs))] * len(node.outputs)
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _expand(node: Node, x: Array, shape: Array) -> Array:
    sizes = np.broadcast_shapes(x.shape, tuple(int(size) for size in shape))
    return np.broadcast_to(x, _bounded(node, sizes))


def _constant_of_shape(node: Node, shape: Array) -> Array:
    value = np.asarray(node.attributes.get("value", np.zeros(1, np.float32))).reshape(-1)[0]
    return np.full(_bounded(node, [int(size) for size in shape]), value)


def _arithmetic(operation: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def run(node: Node, a: Array, b: Array) -> Array:
        _bounded(node, np.broadcast_shapes(a.shape, b.shape))
        return operation(a, b)

    return run


def _concat(node: Node, *parts: Array) -> Array:
    _bounded(node, [sum(part.size for part in parts)])
    return np.concatenate(parts, node.attributes["axis"])


def _gather(node: Node, x: Array, index: Array) -> Array:
    axis = node.attributes.get("axis", 0)
    _bounded(node, [x.size // max(x.shape[axis], 1) * index.size])
    return np.take(x, index, axis)


def _tile(node: Node, x: Array, repeats: Array) -> Array:
    _bounded(node, [size * int(n) for size, n in zip(x.shape, repeats, strict=True)])
    return np.tile(x, repeats)


def _reduce_prod(node: Node, x: Array, axes: Array | None = None) -> Array:
    which = _whole(node, "axes", axes)
    keepdims = bool(node.attributes.get("keepdims", 1))
    return np.prod(x, None if which is None else tuple(which), keepdims=keepdims)


_FOLDED: dict[str, Callable[..., Array | list[Array]]] = {
    "Constant": _constant,
    "Identity": lambda node, x: x,
    "Cast": _cast,
    "Transpose": lambda node, x: x.transpose(node.attributes.get("perm", range(x.ndim)[::-1])),
    "Slice": _slice,
    "Reshape": _reshape,
    "Squeeze": lambda node, x, axes=None: np.squeeze(x, tuple(squeezed(node, x.shape, axes))),
    "Unsqueeze": lambda node, x, axes=None: np.expand_dims(
        x, tuple(unsqueezed(node, x.ndim, axes))
    ),
    "Concat": _concat,
    "Split": _split,
    "Gather": _gather,
    "Shape": lambda node, x: np.array(x.shape)[
        node.attributes.get("start", 0) : node.attributes.get("end")
    ],
    "Expand": _expand,
    "Tile": _tile,
    "ConstantOfShape": _constant_of_shape,
    "Neg": lambda node, x: -x,
    "Add": _arithmetic(np.add),
    "Sub": _arithmetic(np.subtract),
    "Mul": _arithmetic(np.multiply),
    "ReduceProd": _reduce_prod,
    "Div": _arithmetic(lambda a, b: a // b if a.dtype.kind in "iu" else a / b),
}


def fold_sizes(node: Node, inputs: Sequence[Value | None]) -> Value | None:
    """Carry out a node on a shape that is not all numbers; None if that is not possible."""
    sizes = [as_sizes(value) for value in inputs]
    first = sizes[0] if sizes else None
    if first is None:
        return None
    rest = [value.array if isinstance(value, Constant) else None for value in inputs[1:]]
    match node.op:
        case "Cast" | "Identity":
            return inputs[0]
        case "Concat" if None not in sizes:
            return Sizes(tuple(size for part in sizes for size in part or ()))
        case "Gather" if rest and rest[0] is not None:
            index = np.asarray(rest[0])
            places = [int(i) for i in index.reshape(-1)]
            if any(not -len(first) <= i < len(first) for i in places):
                return None
            return Sizes(tuple(first[i] for i in places), scalar=index.ndim == 0)
        case "Slice":
            padded = (*rest, None, None, None, None)[:4]
            (_, starts, ends, steps) = slices(node, 1, *padded)
            return Sizes(first[starts[0] : ends[0] : steps[0]])
        case "Unsqueeze" | "Squeeze" | "Reshape" if len(first) == 1:
            return Sizes(first, scalar=node.op == "Squeeze")
        case "Mul" if len(first) == 1 and sizes[1] is not None and len(sizes[1]) == 1:
            return Sizes((product(first + sizes[1]),))
        case "ReduceProd":
            return Sizes((product(first),), scalar=not node.attributes.get("keepdims", 1))
    return None


def filled(node: Node, inputs: Sequence[Value | None]) -> Filled | None:
    """One number in a shape that is not all numbers, or a piece of such; None if it is not that."""
    first = inputs[0] if inputs else None
    if isinstance(first, Filled) and node.op in _KEEPS_FILLED:
        return first
    if node.op == "Concat" and all(value == first for value in inputs):
        return first if isinstance(first, Filled) else None
    if node.op == "ConstantOfShape" and first is not None:
        value = np.asarray(node.attributes.get("value", np.zeros(1, np.float32))).reshape(-1)
        return Filled(float(value[0])) if value.size == 1 else None
    if node.op in ("Expand", "Tile") and isinstance(first, Constant):
        values = np.unique(first.array)
        return Filled(float(values[0])) if values.size == 1 else None
    return None


_KEEPS_FILLED = {
    *("Slice", "Split", "Gather", "Expand", "Tile"),
    *("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Identity"),
}
