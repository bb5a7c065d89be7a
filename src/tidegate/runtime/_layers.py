"""The layers that a stack is made of: small frozen dataclasses that hold arrays and check them.

A layer that only looks at one step has `__call__`, over the last axis of any array; those that know
of time (`GRU`, `Last`) or of the model's input (`Embedding`, `AddInput`) are run by the stack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _kernels
from .._shapes import check_shape
from ..errors import InputError
from ..ops import PackedGRU, pack_gru
from ..weights import GRUWeights

if TYPE_CHECKING:
    from jaxtyping import Float

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class GRU:
    """One layer of gated recurrent units, in one direction or two.

    Args:
        directions: the weights, or two for forward and backward, whose outputs stand side by side.
        reverse: the only direction runs from each row's end to its beginning.
        final: give the state after a direction's last step alone, not that of every step.

    Raises:
        InputError: there are not one or two directions, or they do not fit each other.
    """

    directions: tuple[GRUWeights, ...]
    reverse: bool = False
    final: bool = False

    def __post_init__(self) -> None:
        """Check that the directions fit each other."""
        object.__setattr__(self, "directions", tuple(self.directions))
        if len(self.directions) not in (1, 2) or (self.reverse and len(self.directions) == 2):
            raise InputError("a GRU layer has one direction, either way, or two")
        first, last = self.directions[0], self.directions[-1]
        same = first.weight_ih.shape == last.weight_ih.shape and first.reset == last.reset
        if not same:
            raise InputError("the two directions of a GRU layer must have equal sizes and reset")

    @property
    def input_size(self) -> int:
        """Features of its input."""
        return self.directions[0].weight_ih.shape[1]

    @property
    def hidden_size(self) -> int:
        """Units of each direction."""
        return self.directions[0].hidden_size

    @cached_property
    def packed(self) -> list[PackedGRU]:
        """Its weights as the kernels read them: as they are when this is first asked for."""
        return [pack_gru(*weights.arrays, reset=weights.reset) for weights in self.directions]

    def __getstate__(self) -> dict[str, Any]:
        """All but the packed weights: they are in the order of this machine's kernels."""
        return {name: value for name, value in vars(self).items() if name != "packed"}

    def output_size(self, input_size: int) -> int:
        """Features that it gives, if it takes so many."""
        _require_input(self, self.input_size, input_size)
        return self.hidden_size * len(self.directions)


@dataclass(frozen=True, eq=False)
class Linear:
    """`y = W x + b`, with `weight` as torch has it."""

    weight: Float[Array, "outputs inputs"]
    bias: Float[Array, " outputs"] | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        check_shape("weight", self.weight, None, None)
        if self.bias is not None:
            check_shape("bias", self.bias, len(self.weight))

    def output_size(self, input_size: int) -> int:
        """Features that it gives, if it takes so many."""
        _require_input(self, self.weight.shape[1], input_size)
        return len(self.weight)

    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        """Apply it to the last axis."""
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


@dataclass(frozen=True, eq=False)
class Embedding:
    """A row of `weight` for each whole number; the first layer of a model that reads them."""

    weight: Float[Array, "symbols features"]

    def __post_init__(self) -> None:
        """Check the shape."""
        check_shape("weight", self.weight, None, None)

    def output_size(self, input_size: int) -> int:
        """Features that it gives; `input_size` is 0, since it takes whole numbers."""
        if input_size != 0:
            raise InputError("an Embedding can only be the first layer of a stack")
        return self.weight.shape[1]


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """The last axis brought to mean 0 and variance 1, then scaled and shifted."""

    size: int
    weight: Float[Array, " size"] | None = None
    bias: Float[Array, " size"] | None = None
    eps: float = 1e-5

    def __post_init__(self) -> None:
        """Check the shapes."""
        for name in ("weight", "bias"):
            if getattr(self, name) is not None:
                check_shape(name, getattr(self, name), self.size)

    def output_size(self, input_size: int) -> int:
        """Features that it gives, if it takes so many."""
        _require_input(self, self.size, input_size)
        return input_size

    def __call__(self, x: Float[Array, "... size"]) -> Float[Array, "... size"]:
        """Apply it to the last axis."""
        centred = x - x.mean(-1, keepdims=True)
        y = centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + x.dtype.type(self.eps))
        y = y if self.weight is None else y * self.weight
        return y if self.bias is None else y + self.bias


@dataclass(frozen=True, eq=False)
class Activation:
    """A function of each number, or of the last axis: see `ACTIVATIONS`.

    Args:
        name: which.
        alpha: the slope of "leaky_relu" below zero, or the lowest value of "elu" with its sign
            turned; no other has one.
    """

    name: str
    alpha: float = 0.0

    def __post_init__(self) -> None:
        """Check the name."""
        if self.name not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise InputError(f"activation must be one of {known}, not {self.name!r}")

    def output_size(self, input_size: int) -> int:
        """As many features as it takes."""
        return input_size

    def __call__(self, x: Float[Array, "... features"]) -> Float[Array, "... features"]:
        """Apply it."""
        return ACTIVATIONS[self.name](x, x.dtype.type(self.alpha))


@dataclass(frozen=True, eq=False)
class Last:
    """The last step of each row alone.

    After a layer of two directions this is not what `GRU.final` gives: at a row's last step, the
    backward direction has read that step only.
    """

    def output_size(self, input_size: int) -> int:
        """As many features as it takes."""
        return input_size


@dataclass(frozen=True, eq=False)
class AddInput:
    """Adds the first features of the model's own input: a connection around all layers before.

    Args:
        columns: how many, as many as come out of the layer before.
    """

    columns: int

    def output_size(self, input_size: int) -> int:
        """As many features as it takes."""
        _require_input(self, self.columns, input_size)
        return input_size


Layer = GRU | Linear | Embedding | LayerNorm | Activation | Last | AddInput


def _by_kernel(kernel: Callable[[bool, int, int, int], None]) -> Callable[[Array, float], Array]:
    def apply(x: Array, alpha: float) -> Array:
        x = np.ascontiguousarray(x)
        y = np.empty_like(x)
        kernel(x.dtype == np.float64, x.size, x.ctypes.data, y.ctypes.data)
        return y

    return apply


def _log_softmax(x: Array, alpha: float) -> Array:
    below = x - x.max(-1, keepdims=True)
    return below - np.log(np.exp(below).sum(-1, keepdims=True))


def _softmax(x: Array, alpha: float) -> Array:
    y = np.exp(x - x.max(-1, keepdims=True))
    return y / y.sum(-1, keepdims=True)


_sigmoid = _by_kernel(_kernels.sigmoid)
ACTIVATIONS: dict[str, Callable[[Array, float], Array]] = {
    "relu": lambda x, alpha: np.maximum(x, 0),
    "leaky_relu": lambda x, alpha: np.where(x < 0, alpha * x, x),
    "elu": lambda x, alpha: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x),
    "tanh": _by_kernel(_kernels.tanh),
    "sigmoid": _sigmoid,
    "silu": lambda x, alpha: x * _sigmoid(x, alpha),
    "softplus": lambda x, alpha: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "softmax": _softmax,
    "log_softmax": _log_softmax,
}


def _require_input(layer: Layer, expected: int, input_size: int) -> None:
    if input_size != expected:
        raise InputError(
            f"a {type(layer).__name__} layer takes {expected} features, and the layer before it "
            f"gives {input_size}"
        )
