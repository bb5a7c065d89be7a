"""A stack of layers, run over whole sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ._gru import run_gru
from ._layers import GRU, Activation, AddInput, Embedding, Last, Layer, LayerNorm, Linear

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy.typing import ArrayLike

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Stack:
    """Layers, each of which takes what the one before gives; all arrays are of one dtype.

    >>> from tidegate.weights import GRUWeights
    >>> weights = GRUWeights(np.ones((3, 2)), np.ones((3, 1)))
    >>> stack = Stack([GRU((weights,)), Linear(np.ones((4, 1)))])
    >>> stack.input_size, stack.output_size
    (2, 4)
    >>> stack(np.ones((5, 3, 2))).shape
    (5, 3, 4)

    Raises:
        InputError: the layers do not fit each other.
        TypeError: an array is neither float32 nor float64, or dtypes are mixed.
    """

    layers: Sequence[Layer]

    def __post_init__(self) -> None:
        """Check that the layers fit."""
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise InputError("a stack needs a layer")
        size = self.input_size
        whole = True
        for layer in self.layers:
            size = layer.output_size(size)
            if not whole and isinstance(layer, GRU | Last):
                raise InputError(f"a {type(layer).__name__} layer comes after the end of time")
            whole = whole and not (isinstance(layer, Last) or getattr(layer, "final", False))
            if isinstance(layer, AddInput) and layer.columns > self.input_size:
                raise InputError(
                    f"AddInput adds {layer.columns} columns, and the input has {self.input_size}"
                )
        _ = self.dtype

    @property
    def input_size(self) -> int:
        """Features that it takes; 0 where it takes whole numbers, an Embedding being first."""
        for layer in self.layers:
            match layer:
                case GRU():
                    return layer.input_size
                case Linear():
                    return layer.weight.shape[1]
                case LayerNorm():
                    return layer.size
                case Embedding():
                    return 0
        raise InputError("a stack needs a layer that has a size: a GRU, Linear or Embedding")

    @property
    def output_size(self) -> int:
        """Features that it gives."""
        size = self.input_size
        for layer in self.layers:
            size = layer.output_size(size)
        return size

    @cached_property
    def dtype(self) -> np.dtype:
        """The type of every array, and of what is computed."""
        dtypes = {array.dtype for _, array in self.arrays()}
        if len(dtypes) != 1 or not dtypes <= {np.dtype(np.float32), np.dtype(np.float64)}:
            found = ", ".join(sorted(map(str, dtypes)))
            raise TypeError(f"the layers' arrays must be all float32 or all float64, not {found}")
        return dtypes.pop()

    @property
    def state_sizes(self) -> list[int]:
        """Units of each state, in the order of torch: forward, then backward, layer by layer."""
        return [w.hidden_size for layer in self.recurrent for w in layer.directions]

    @property
    def recurrent(self) -> list[GRU]:
        """The layers that have a state."""
        return [layer for layer in self.layers if isinstance(layer, GRU)]

    @property
    def gives_sequence(self) -> bool:
        """Whether it gives something for each step, not only for the last."""
        return not any(isinstance(x, Last) or getattr(x, "final", False) for x in self.layers)

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """Every array with its name, as a file has them."""
        for number, layer in enumerate(self.layers):
            for name, array in arrays_of(layer):
                yield f"{number}.{name}", array

    def __call__(
        self,
        x: ArrayLike,
        hx: Sequence[Float[Array, "batch hidden"]] | None = None,
        lengths: Int[Array, " batch"] | None = None,
    ) -> Array:
        """Run it over `x`; see `run`."""
        return self.run(x, hx, lengths)[0]

    def run(
        self,
        x: ArrayLike,
        hx: Sequence[Float[Array, "batch hidden"]] | None = None,
        lengths: Int[Array, " batch"] | None = None,
    ) -> tuple[Array, list[Array]]:
        """Run it over `x`; return its output, and the state of each direction of each layer.

        Args:
            x: (time, batch, features); whole numbers (time, batch) where an Embedding is first.
            hx: where each state begins, in the order of `state_sizes`; zeros if None.
            lengths: steps of each row. What is given for steps past it is zero.

        Returns:
            (time, batch, features); or (batch, features) where only the last step is given.

        Raises:
            InputError: a shape is wrong, a length is outside the sequence, or a number is no row
                of the Embedding.
        """
        x = self._input(x)
        lengths = None if lengths is None else _lengths(lengths, *x.shape[:2])
        before = self._states(hx, x.shape[1])
        after: list[Array] = []
        y = x
        for layer in self.layers:
            match layer:
                case GRU():
                    begin = [next(before) for _ in layer.directions]
                    y, ends = run_gru(layer, y, begin, lengths)
                    after += ends
                    y = np.concatenate(ends, -1) if layer.final else y
                case Last():
                    y = _last(y, lengths)
                case AddInput():
                    first = x[..., : layer.columns]
                    y = y + (first if y.ndim == 3 else _last(first, lengths))
                case Embedding():
                    y = layer.weight[y]
                case Linear() | LayerNorm() | Activation():
                    y = layer(y)
        if lengths is not None and y.ndim == 3:
            y = np.where(np.arange(len(y))[:, None, None] < lengths[:, None], y, 0)
        return y, after

    def _input(self, x: ArrayLike) -> Array:
        x = np.asarray(x)
        if isinstance(self.layers[0], Embedding):
            return _symbols(x, len(self.layers[0].weight))
        if x.dtype.kind not in "fiu":
            raise InputError(f"x must be numbers, not {x.dtype}")
        if x.ndim != 3 or x.shape[2] != self.input_size:
            raise InputError(f"x must have shape (*, *, {self.input_size}), not {x.shape}")
        return np.ascontiguousarray(x, self.dtype)

    def _states(self, hx: Sequence[Array] | None, batch: int) -> Iterator[Array]:
        sizes = self.state_sizes
        if hx is None:
            return (np.zeros((batch, size), self.dtype) for size in sizes)
        shapes, expected = [np.shape(h) for h in hx], [(batch, size) for size in sizes]
        if shapes != expected:
            raise InputError(f"hx must be states of shapes {expected}, not {shapes}")
        return (np.ascontiguousarray(h, self.dtype) for h in hx)


def arrays_of(layer: Layer) -> Iterator[tuple[str, Array]]:
    """The arrays of one layer with their names."""
    if isinstance(layer, GRU):
        for prefix, weights in zip(("", "reverse."), layer.directions, strict=False):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                yield prefix + name, getattr(weights, name)
    for name, value in vars(layer).items():
        if isinstance(value, np.ndarray):
            yield name, value


def scalars_of(layer: Layer) -> dict[str, bool | int | float | str]:
    """All of a layer that is no array."""
    scalars = {k: v for k, v in vars(layer).items() if isinstance(v, bool | int | float | str)}
    return scalars | ({"reset": layer.directions[0].reset} if isinstance(layer, GRU) else {})


def _symbols(x: Array, count: int) -> Array:
    """Whole numbers (time, batch), each the number of a row."""
    if x.dtype.kind not in "iu" or x.ndim != 2:
        raise InputError(
            f"x must be whole numbers of shape (*, *), not {x.dtype} of shape {x.shape}"
        )
    if x.size and not (x.min() >= 0 and x.max() < count):
        raise InputError(f"x must be from 0 to {count - 1}, but goes from {x.min()} to {x.max()}")
    return x


def _lengths(lengths: ArrayLike, time: int, batch: int) -> Array:
    lengths = np.asarray(lengths)
    if lengths.dtype.kind not in "iu" or lengths.shape != (batch,):
        raise InputError(
            f"lengths must be whole numbers of shape ({batch},), not {lengths.dtype} of shape "
            f"{lengths.shape}"
        )
    if batch and not (lengths.min() >= 1 and lengths.max() <= time):
        raise InputError(
            f"lengths must be from 1 to {time}, but go from {lengths.min()} to {lengths.max()}"
        )
    return np.ascontiguousarray(lengths, np.int64)


def _last(y: Float[Array, "time batch features"], lengths: Array | None) -> Array:
    if not len(y):
        raise InputError("x has no steps, and the model gives what comes of the last one")
    return y[-1] if lengths is None else y[lengths - 1, np.arange(y.shape[1])]
