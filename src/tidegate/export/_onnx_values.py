"""What a name of an ONNX graph can stand for while it is read: no numbers flow, only meanings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..runtime import Layer

Array = np.ndarray
Size = int | str  # a name where the size is not fixed


@dataclass(frozen=True)
class Axis:
    """One axis of a tensor that comes from an input.

    Args:
        kind: "free" is the axis of an input, time or batch; "one" was put in, of size one;
            "directions" and "units" are a GRU's, "features" any layer's; "rows" are several axes
            made one, so that a matrix can be multiplied.
        size: a number, or a name of its own.
        key: of a free axis, which input it is of and its place there.
        parts: of rows, the axes.
    """

    kind: Literal["free", "one", "directions", "units", "features", "rows"]
    size: Size
    key: str = ""
    parts: tuple[Axis, ...] = ()


@dataclass(frozen=True)
class Final:
    """After a GRU: the state that each direction ended with, in place of every step."""


Step = Layer | Final


@dataclass(frozen=True)
class Constant:
    """Numbers that the file holds, or that follow from them."""

    array: Array


@dataclass(frozen=True)
class Sizes:
    """A shape, or some of it, in which names stand for what is not fixed."""

    sizes: tuple[Size, ...]
    scalar: bool = False


@dataclass(frozen=True)
class Filled:
    """One number everywhere, in a tensor of any shape."""

    value: float


@dataclass(frozen=True, eq=False)
class Data:
    """What comes out of `layers` when `source`, an input of the graph, goes in.

    Args:
        part: which entries of the source's first axis, where it is an input cut into pieces.
        direction: which direction of the last GRU it is, where its axis of directions is gone.
    """

    source: str
    axes: tuple[Axis, ...]
    layers: tuple[Step, ...] = ()
    integer: bool = False
    part: tuple[int, int] | None = None
    direction: int | None = None

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Of each axis."""
        return tuple(axis.size for axis in self.axes)

    def then(self, layer: Step, width: int | None = None) -> Data:
        """After one more layer on the last axis."""
        axes = self.axes
        if width is not None:
            axes = (*axes[:-1], Axis("features", width))
        return replace(self, axes=axes, layers=(*self.layers, layer), integer=False)


@dataclass(frozen=True, eq=False)
class States:
    """Last states of several layers, one after another on the first axis, as `h_n` has them."""

    parts: tuple[Data, ...]


Value = Constant | Sizes | Filled | Data | States


def as_sizes(value: Value | None) -> tuple[Size, ...] | None:
    """A shape that a value spells, if it does."""
    if isinstance(value, Sizes):
        return value.sizes
    if isinstance(value, Constant) and value.array.dtype.kind in "iu" and value.array.ndim <= 1:
        return tuple(int(size) for size in value.array.reshape(-1))
    return None


def reshape(axes: tuple[Axis, ...], target: tuple[Size, ...]) -> tuple[Axis, ...] | None:
    """Axes after a reshape that only merges or drops some, in order; None if it does more.

    Directions and units merge into features, others into rows, which come apart again; axes of
    size one go away or come.
    """
    sizes = [axes[i].size if size == 0 and i < len(axes) else size for i, size in enumerate(target)]
    axes = tuple(part for axis in axes for part in (axis.parts or (axis,)))
    if sizes.count(-1) > 1:
        return None
    if -1 not in sizes:
        return _forward(axes, sizes)
    hole = sizes.index(-1)
    head = _split(axes, sizes[:hole])
    if head is None:
        return None
    # The sizes after the hole take axes from the end; the hole takes what is left.
    tail = _split(head[1][::-1], sizes[:hole:-1], backwards=True)
    if tail is None:
        return None
    rest = _merge(tail[1][::-1])
    return None if rest is None else (*head[0], rest, *tail[0][::-1])


def _forward(axes: tuple[Axis, ...], sizes: list[Size]) -> tuple[Axis, ...] | None:
    taken = _split(axes, sizes)
    if taken is None or any(axis.size != 1 for axis in taken[1]):
        return None
    return taken[0]


def _split(
    axes: tuple[Axis, ...], sizes: list[Size], backwards: bool = False
) -> tuple[tuple[Axis, ...], tuple[Axis, ...]] | None:
    """Axes of those sizes from the front, and the axes left over."""
    made = []
    for size in sizes:
        group: list[Axis] = []
        while _product(group) != size:
            if not axes or (group and size == 1):
                break
            if size == 1 and axes[0].size != 1:
                break
            group.append(axes[0])
            axes = axes[1:]
        if size == 1 and not group:
            made.append(Axis("one", 1))
            continue
        axis = (
            _merge(tuple(group[::-1] if backwards else group)) if _product(group) == size else None
        )
        if axis is None:
            return None
        made.append(axis)
    return tuple(made), axes


def product(sizes: Iterable[Size]) -> Size:
    """A number, or a name that equal products share."""
    numbers = [size for size in sizes if isinstance(size, int)]
    names = sorted(name for size in sizes if isinstance(size, str) for name in size.split(" * "))
    number = math.prod(numbers)
    if not names:
        return number
    return " * ".join(names if number == 1 else [str(number), *names])


def _product(axes: list[Axis]) -> Size | None:
    return product([axis.size for axis in axes]) if axes else None


def _merge(axes: tuple[Axis, ...]) -> Axis | None:
    """One axis for several in a row, or None where that would mix what is apart."""
    real = [axis for axis in axes if axis.size != 1]
    if not real:
        return axes[0] if axes else Axis("one", 1)
    if len(real) == 1:
        (only,) = real
        kinds = {axis.kind for axis in axes}
        merged = "features" if kinds == {"directions", "units"} else only.kind
        return Axis(merged, only.size, only.key)
    if [axis.kind for axis in real] == ["directions", "units"]:
        return Axis("features", int(real[0].size) * int(real[1].size))
    if all(axis.kind == "free" for axis in real):
        return Axis("rows", product([axis.size for axis in axes]), parts=axes)
    return None
