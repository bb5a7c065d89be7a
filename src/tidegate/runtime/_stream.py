"""`Stream`: a model step by step, all of it behind one call into the kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _kernels
from .._stream_state import fingerprint, pack_state, unpack_state
from ..errors import InputError
from ..ops import pack_gru
from ._layers import (
    ACTIVATIONS,
    GRU,
    Activation,
    AddInput,
    Embedding,
    Last,
    Layer,
    LayerNorm,
    Linear,
)
from ._stack import Stack, scalars_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import ArrayLike

Array = np.ndarray

_MISSING = {"refuse": 0, "skip": 1, "pass": 2}
_NOTHING = np.empty(0)
_RECURRENT, _LINEAR, _EMBEDDING, _NORM, _ACTIVATION, _ADD_INPUT = range(6)


class Stream:
    """A model that takes a step at a time, for one row or many, and keeps its states between.

    A step of a small model takes about a microsecond and allocates nothing: what `step` returns is
    the same array each time, and the next step overwrites it. `run` takes many steps and returns a
    new array.

    One thread at a time may use a stream. After a fork, parent and child each go on with their own.

    >>> from tidegate.runtime import GRU, Linear, Stack
    >>> from tidegate.weights import GRUWeights
    >>> weights = GRUWeights(np.ones((3, 2)), np.ones((3, 1)))
    >>> stream = Stream(Stack([GRU((weights,)), Linear(np.ones((1, 1)))]))
    >>> for _ in range(2):
    ...     y = stream.step([0.5, 0.5])
    >>> y.round(4)
    array([0.3468])

    Args:
        stack: the layers; each GRU has one direction, forward.
        batch: rows, each a stream of its own.
        hx: where the states begin, (batch, hidden) each; zeros if None.
        missing: what to do with a number that is not finite, which would stay in the state for
            good: "refuse" the step; "skip" its row, whose state stays and whose output is NaN; or
            let it "pass".
        threads: at most so many share the rows; it pays from some hundred rows.
        storage: "native", or how the GRUs' weights are held in memory, "bfloat16" or "int8".

    Attributes:
        states: the state of each GRU layer, (batch, hidden); they may be written to.
        steps: how many steps were taken.

    Raises:
        InputError: a layer cannot be run step by step, or `hx` does not fit.
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        stack: Stack,
        batch: int = 1,
        *,
        hx: Sequence[Float[Array, "batch hidden"]] | None = None,
        missing: str = "refuse",
        threads: int = 1,
        storage: str = "native",
    ):
        if batch < 1 or threads < 1:
            raise ValueError(f"batch and threads must be at least 1, got {batch} and {threads}")
        if missing not in _MISSING:
            raise ValueError(f"missing must be 'refuse', 'skip' or 'pass', not {missing!r}")
        check_stack(stack)
        self.stack, self.batch, self.steps = stack, batch, 0
        dtype = stack.dtype
        sizes = stack.state_sizes
        ends = np.cumsum([batch * size for size in sizes])
        self._h = np.zeros(ends[-1] if sizes else 0, dtype)
        self.states = [
            part.reshape(batch, size)
            for part, size in zip(np.split(self._h, ends[:-1]), sizes, strict=False)
        ]
        self._y = np.zeros((batch, stack.output_size), dtype)
        self._symbols = isinstance(stack.layers[0], Embedding)
        self._convert = partial(_convert, self._symbols, dtype)  # no method: it would hold self
        self._layers, self._alive = _layer_facts(stack, self.states, storage)
        self._kernel = _kernels.Stream(
            self._layers,
            dtype == np.float64,
            stack.input_size,
            len(stack.layers[0].weight) if isinstance(stack.layers[0], Embedding) else 0,
            batch,
            threads,
            _MISSING[missing],
            self._y,
            self._y[0],
            self._y.ctypes.data,
            self._convert,
        )
        if hx is not None:
            self._set_states(hx)

    def step(self, x: ArrayLike) -> Array:
        """Take one step; return the output, which the next step overwrites.

        Args:
            x: (batch, features), or (features,) where there is one row; a whole number a row where
                the model reads those.

        Returns:
            (batch, outputs); (outputs,) if `x` came without the axis of rows.

        Raises:
            ValueError: `x` has the wrong shape, or a number that is not finite (`missing`).
            RuntimeError: another thread is inside a step of this stream.
        """
        y = self._kernel.step(x)
        self.steps += 1
        return y

    def run(self, x: ArrayLike) -> Array:
        """Take many steps; return every output, in a new array.

        Args:
            x: (steps, batch, features), or (steps, features) where there is one row; without the
                features where the model reads whole numbers.

        Raises:
            ValueError: `x` has the wrong shape, or a number that is not finite (`missing`): the
                steps before it were taken.
            RuntimeError: another thread is inside a step of this stream.
        """
        x = self._convert(x)
        inside = (self.batch,) if self._symbols else (self.batch, self.stack.input_size)
        alone = self.batch == 1 and x.shape[1:] == inside[1:]
        if not alone and x.shape[1:] != inside:
            wanted = ", ".join(map(str, inside))
            raise ValueError(f"x must have shape (steps, {wanted}), not {x.shape}")
        if self._symbols and x.size and not 0 <= x.min() <= x.max() < len(self._weight):
            raise ValueError(f"x must be from 0 to {len(self._weight) - 1}")
        y = np.empty((len(x), *self._y.shape), self._y.dtype)
        try:
            self._kernel.run(x.ctypes.data, len(x), y.ctypes.data)
        except ValueError:
            self.steps += self._kernel.taken
            raise
        self.steps += len(x)
        return y[:, 0] if alone else y

    def reset(self, rows: ArrayLike | None = None) -> None:
        """Put the states of some rows back to zero, or of all.

        Args:
            rows: their numbers, or a mask.
        """
        for state in self.states:
            state[... if rows is None else np.asarray(rows)] = 0

    def to_bytes(self, notes: Mapping[str, str] | None = None) -> bytes:
        """The states, to go on from on any machine with `from_bytes`.

        Args:
            notes: words of one's own to keep beside them.
        """
        states = {str(i): state for i, state in enumerate(self.states)}
        return pack_state(_fingerprint(self.stack), states, self.steps, notes)

    def from_bytes(self, data: bytes) -> dict[str, str]:
        """Go on from what `to_bytes` gave; nothing changes if it does not fit.

        Returns:
            The notes that were kept beside the states.

        Raises:
            InputError: the bytes are damaged, or of another model or number of rows.
        """
        arrays, steps, notes = unpack_state(data, _fingerprint(self.stack))
        self._set_states([arrays.get(str(i), _NOTHING) for i in range(len(arrays))])
        self.steps = steps
        return notes

    @property
    def _weight(self) -> Array:
        first = self.stack.layers[0]
        assert isinstance(first, Embedding)
        return first.weight

    def _set_states(self, hx: Sequence[Array]) -> None:
        shapes, expected = [np.shape(h) for h in hx], [h.shape for h in self.states]
        if shapes != expected:
            raise InputError(f"the states must have shapes {expected}, not {shapes}")
        for state, h in zip(self.states, hx, strict=True):
            np.copyto(state, h, casting="same_kind")


def _fingerprint(stack: Stack) -> str:
    """A digest of all layers and numbers of a stack."""
    layers = [(type(layer).__name__, scalars_of(layer)) for layer in stack.layers]
    return fingerprint(layers, stack.arrays())


def _convert(symbols: bool, dtype: np.dtype, x: ArrayLike) -> Array:
    """Anything as an array that the kernel can read."""
    x = np.asarray(x)
    wanted, kinds = ("whole numbers", "iu") if symbols else ("numbers", "fiu")
    if x.dtype.kind not in kinds:
        raise ValueError(f"x must be {wanted}, not {x.dtype}")
    return np.ascontiguousarray(x, np.int64 if symbols else dtype).reshape(x.shape)


def check_stack(stack: Stack) -> None:
    """Refuse a stack that cannot be run step by step.

    Raises:
        InputError: a layer reads backward.
    """
    for layer in stack.layers:
        if isinstance(layer, GRU) and (layer.reverse or len(layer.directions) == 2):
            raise InputError(
                "a GRU layer that reads backward needs the end of the sequence first: such a model "
                "cannot be run step by step"
            )


def _layer_facts(
    stack: Stack, states: Sequence[Array], storage: str
) -> tuple[list[tuple[Any, ...]], list[Any]]:
    """Each layer as the kernel wants it, and what must stay alive beside it."""
    facts: list[tuple[Any, ...]] = []
    alive: list[Any] = []
    size, begin = stack.input_size, iter(states)

    def add(kind: int, output: int, layer: Layer, function: int = 0, alpha: float = 0.0) -> None:
        arrays = [getattr(layer, name, None) for name in ("weight", "bias")]
        arrays = [None if a is None else np.ascontiguousarray(a) for a in arrays]
        alive.extend(arrays)
        addresses = [0 if a is None else a.ctypes.data for a in arrays]
        facts.append((kind, function, size, output, *addresses, alpha, None, 0))

    for layer in stack.layers:
        output = layer.output_size(size)
        match layer:
            case GRU():
                (weights,), state = layer.directions, next(begin)
                if storage == "native":
                    (packed,) = layer.packed
                else:
                    packed = pack_gru(*weights.arrays, reset=weights.reset, storage=storage)
                alive.append(packed)
                facts.append(
                    (_RECURRENT, 0, size, output, 0, 0, 0.0, packed.kernel, state.ctypes.data)
                )
            case Linear():
                add(_LINEAR, output, layer)
            case Embedding():
                add(_EMBEDDING, output, layer)
            case LayerNorm():
                add(_NORM, output, layer, alpha=layer.eps)
            case Activation():
                function = list(ACTIVATIONS).index(layer.name)
                add(_ACTIVATION, output, layer, function, layer.alpha)
            case AddInput():
                add(_ADD_INPUT, output, layer)
            case Last():
                pass
        size = output
    return facts, alive
