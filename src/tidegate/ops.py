"""GRU on NumPy arrays: arguments are checked, then the compiled kernels run.

    r, z = sigmoid(W_i x + b_i + W_h h + b_h)
    n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
    h_t = (1 - z) * n + z * h_{t-1}

with `reset="after"`; docs/equations.md has the other two forms. Gates are stacked r, z, n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tidegate import _kernels
from tidegate._shapes import check_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, Int
    from numpy.typing import ArrayLike

Array = np.ndarray

RESETS = {
    "after": _kernels.RESET_AFTER,
    "before": _kernels.RESET_BEFORE,
    "none": _kernels.RESET_NONE,
}
STORAGES = {"bfloat16": _kernels.STORED_BFLOAT16, "int8": _kernels.STORED_INT8}


@dataclass(frozen=True)
class PackedGRU:
    """Weights in the order in which the kernels read them; a copy, and immutable."""

    kernel: _kernels.Weights
    dtype: np.dtype
    input_size: int
    hidden_size: int
    gates: int


def pack_gru(
    weight_ih: Float[Array, "gates features"],
    weight_hh: Float[Array, "gates hidden"],
    bias_ih: Float[Array, " gates"] | None = None,
    bias_hh: Float[Array, " gates"] | None = None,
    *,
    reset: str = "after",
    storage: str = "native",
) -> PackedGRU:
    """Pack weights once for many calls of `gru_step`, or for a `Stepper`.

    Args:
        weight_ih, weight_hh, bias_ih, bias_hh, reset: as in `gru`.
        storage: "native"; or, of float32 weights, "bfloat16" or "int8" (255 steps of the largest
            weight of each row), which take a half or a quarter of the memory and are rounded to
            three or two digits. States and gates stay float32. The product reads the state in
            65535 steps of its largest number ("int8"), or in 16 bits a number ("bfloat16" with
            AVX512-BF16), which costs a hundredth of what the weights' rounding does, or less.

    Raises:
        ValueError: sizes disagree, or `reset` or `storage` is unknown.
        TypeError: an array is neither float32 nor float64, or dtypes are mixed.
    """
    if reset not in RESETS:
        raise ValueError(f"reset must be 'after', 'before' or 'none', not {reset!r}")
    gates = 2 if reset == "none" else 3
    dtype = np.asarray(weight_hh).dtype
    _, hidden = _array("weight_hh", weight_hh, dtype, None, None).shape
    arrays = (
        _array("weight_ih", weight_ih, dtype, gates * hidden, None),
        _array("weight_hh", weight_hh, dtype, gates * hidden, hidden),
        _optional("bias_ih", bias_ih, dtype, gates * hidden),
        _optional("bias_hh", bias_hh, dtype, gates * hidden),
    )
    features = arrays[0].shape[1]
    double, addresses = dtype == np.float64, map(_address, arrays)
    kernel = _kernels.Weights(double, RESETS[reset], features, hidden, *addresses, backward=False)
    if storage != "native":
        if storage not in STORAGES:
            raise ValueError(f"storage must be 'native', 'bfloat16' or 'int8', not {storage!r}")
        if double:
            raise TypeError(f"storage {storage!r} is of float32 weights, not of float64")
        kernel = kernel.narrow(STORAGES[storage])
    return PackedGRU(kernel, dtype, features, hidden, gates)


def gru_step(
    x: Float[Array, "batch features"],
    h: Float[Array, "batch hidden"],
    weights: PackedGRU,
    *,
    threads: int | None = None,
) -> Float[Array, "batch hidden"]:
    """Take one step and return the new state.

    >>> ones = np.ones((3, 1))
    >>> gru_step(np.ones((1, 1)), np.zeros((1, 1)), pack_gru(ones, ones)).round(4)
    array([[0.2048]])

    Args:
        x: input of each row.
        h: state of each row; it is not written to.
        weights: what `pack_gru` returned.
        threads: at most so many; by default as many as OpenMP would use.

    Raises:
        ValueError: sizes disagree.
        TypeError: a dtype is not that of the weights.
    """
    x = _array("x", x, weights.dtype, None, weights.input_size)
    h = _array("h", h, weights.dtype, len(x), weights.hidden_size)
    _, h_n, _ = _forward(weights, x[None], h, threads=threads)
    return h_n


class Stepper:
    """A stack of layers, one step at a time, in buffers of its own: a step allocates nothing.

    >>> ones = np.ones((3, 1))
    >>> stepper = Stepper([pack_gru(ones, ones)])
    >>> for _ in range(2):
    ...     h = stepper.step(np.ones((1, 1)))
    >>> h.round(4)
    array([[0.3468]])

    Attributes:
        states: the state of each layer, (batch, hidden); they may be written to.
    """

    def __init__(self, layers: Sequence[PackedGRU], batch: int = 1, threads: int = 1) -> None:
        """Start from states of zero.

        Args:
            layers: what `pack_gru` returned for each; each takes what the one before gives.
            batch: rows, each a stream of its own.
            threads: at most so many; more than one pays from about 256 units.

        Raises:
            ValueError: there are no layers or rows, or two layers do not fit.
        """
        kernels = [layer.kernel for layer in layers]
        self._cell = _kernels.Cell(kernels, batch, threads)
        dtype = layers[0].dtype
        self._x = np.empty((batch, layers[0].input_size), dtype)
        ends = np.cumsum([batch * layer.hidden_size for layer in layers])
        self._h = np.zeros(ends[-1], dtype)
        self.states = [part.reshape(batch, -1) for part in np.split(self._h, ends[:-1])]
        self._last = self.states[-1]
        self._addresses = _address(self._x), _address(self._h)

    def step(self, x: Float[Array, "batch features"]) -> Float[Array, "batch hidden"]:
        """Take one step; return the last layer's state, which the next step overwrites.

        Raises:
            ValueError: `x` does not have that shape.
            TypeError: `x` cannot be converted without loss of kind.
        """
        if np.shape(x) != self._x.shape:
            raise ValueError(f"x must have shape {self._x.shape}, not {np.shape(x)}")
        np.copyto(self._x, x, casting="same_kind")
        self._cell.step(*self._addresses)
        return self._last


def gru(
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"] | None,
    weight_ih: Float[Array, "gates features"],
    weight_hh: Float[Array, "gates hidden"],
    bias_ih: Float[Array, " gates"] | None = None,
    bias_hh: Float[Array, " gates"] | None = None,
    *,
    reset: str = "after",
    keep: Float[Array, "time batch ..."] | None = None,
    mask: Float[Array, "batch hidden"] | None = None,
    lengths: Int[Array, " batch"] | None = None,
    reverse: bool = False,
    return_gates: bool = False,
    threads: int | None = None,
) -> tuple[Array, ...]:
    """Run a GRU over `x`; return every state and each row's last, and on demand the gates.

    >>> ones = np.ones((3, 1))
    >>> output, h_n = gru(np.ones((4, 1, 1)), None, ones, ones)
    >>> output[:, 0, 0].round(4)
    array([0.2048, 0.3468, 0.4517, 0.5325])

    Args:
        x: input sequence, time first.
        h_0: initial state; zeros if None.
        weight_ih, weight_hh, bias_ih, bias_hh: gates stacked reset, update, new, as in
            `torch.nn.GRU`; update and new alone if `reset` is "none". A bias may be None.
        reset: whether the reset gate acts "after" the recurrent product, "before" it, or not at
            all ("none").
        keep: multiplies the state that comes into each step, one number a row or one a unit.
        mask: multiplies the state where it meets `weight_hh`, and only there; the same at every
            step.
        lengths: steps of each row. Past its length a row's output is zero, and its input is not
            read.
        reverse: run each row from its own end to its beginning.
        return_gates: return the gates as a third result, (gates, time, batch, hidden).
        threads: at most so many; by default as many as OpenMP would use.

    Raises:
        ValueError: sizes disagree, or a length is outside the sequence.
        TypeError: an array is neither float32 nor float64, or dtypes are mixed.
    """
    weights = pack_gru(weight_ih, weight_hh, bias_ih, bias_hh, reset=reset)
    dtype, hidden = weights.dtype, weights.hidden_size
    x = _array("x", x, dtype, None, None, weights.input_size)
    time, batch, _ = x.shape
    h_0 = _optional("h_0", h_0, dtype, batch, hidden)
    per_unit = [hidden] if keep is not None and np.ndim(keep) == 3 else []
    keep = _optional("keep", keep, dtype, time, batch, *per_unit)
    mask = _optional("mask", mask, dtype, batch, hidden)
    lengths = None if lengths is None else _lengths(lengths, time, batch)
    order = backwards(lengths, time, batch) if reverse else None
    output, h_n, gates = _forward(
        weights,
        reorder(x, order),
        h_0,
        None if keep is None else reorder(keep, order),
        mask,
        lengths,
        threads,
        return_gates,
    )
    output = reorder(output, order)
    if gates is None:
        return output, h_n
    return output, h_n, np.stack([reorder(gate, order) for gate in gates])


def min_gru(
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"] | None,
    weight: Float[Array, "gates features"],
    bias: Float[Array, " gates"] | None = None,
    *,
    candidate: str = "linear",
    keep: Float[Array, "time batch ..."] | None = None,
    lengths: Int[Array, " batch"] | None = None,
    reverse: bool = False,
    threads: int | None = None,
) -> tuple[Array, Array]:
    """Run a minGRU (arXiv:2410.01201) over `x`; return every state and each row's last.

        z = sigmoid(W_z x + b_z);  n = W_n x + b_n;  h_t = (1 - z) * h_{t-1} + z * n

    Its z admits the new: the opposite of `gru`'s.

    >>> output, h_n = min_gru(np.ones((3, 1, 1)), None, np.array([[0.0], [1.0]]))
    >>> output[:, 0, 0]
    array([0.5  , 0.75 , 0.875])

    Args:
        x: input sequence, time first.
        h_0: initial state; zeros if None.
        weight: stacked z, n.
        bias: of each gate.
        candidate: "linear", or "positive": n = g(W_n x + b_n), where g(a) is a + 1/2 for a >= 0 and
            sigmoid(a) below.
        keep, lengths, reverse: as in `gru`.
        threads: at most so many; by default as many as OpenMP would use.

    Raises:
        ValueError: sizes disagree, a length is outside the sequence, or `candidate` is unknown.
        TypeError: an array is neither float32 nor float64, or dtypes are mixed.
    """
    dtype = np.asarray(weight).dtype
    rows, features = _array("weight", weight, dtype, None, None).shape
    if rows % 2:
        raise ValueError(f"weight must have two gates of equal size, not {rows} rows")
    hidden = rows // 2
    x = _array("x", x, dtype, None, None, features, like="weight")
    time, batch, _ = x.shape
    h_0 = _optional("h_0", h_0, dtype, batch, hidden, like="weight")
    bias = _optional("bias", bias, dtype, rows, like="weight")
    per_unit = np.ndim(keep) == 3 if keep is not None else False
    units = [hidden] if per_unit else []
    keep = _optional("keep", keep, dtype, time, batch, *units, like="weight")
    lengths = None if lengths is None else _lengths(lengths, time, batch)
    x_gates = x @ np.asarray(weight).T
    x_gates = np.ascontiguousarray(x_gates if bias is None else x_gates + bias)
    output, h_n = np.empty((time, batch, hidden), dtype), np.empty((batch, hidden), dtype)
    width = hidden if per_unit else 1
    _kernels.min_gru_forward(
        dtype == np.float64,
        _kernels.default_threads() if threads is None else threads,
        time,
        batch,
        hidden,
        reverse,
        _is_positive(candidate),
        x_gates=_address(x_gates),
        x_time=batch * rows,
        x_batch=rows,
        lengths=_address(lengths),
        keep=_address(keep),
        keep_time=batch * width,
        keep_batch=width,
        keep_unit=int(per_unit),
        h_0=_address(h_0),
        output=_address(output),
        output_time=batch * hidden,
        output_batch=hidden,
        h_n=_address(h_n),
    )
    return output, h_n


def min_gru_step(
    x: Float[Array, "batch features"],
    h: Float[Array, "batch hidden"],
    weight: Float[Array, "gates features"],
    bias: Float[Array, " gates"] | None = None,
    *,
    candidate: str = "linear",
) -> Float[Array, "batch hidden"]:
    """Take one step of a minGRU and return the new state; arguments as in `min_gru`.

    >>> min_gru_step(np.ones((1, 1)), np.ones((1, 1)), np.array([[0.0], [3.0]]))
    array([[2.]])

    Raises:
        ValueError: sizes disagree, or `candidate` is unknown.
        TypeError: an array is neither float32 nor float64, or dtypes are mixed.
    """
    x = np.asarray(x)
    return min_gru(x[None], h, weight, bias, candidate=candidate, threads=1)[1]


def _is_positive(candidate: str) -> bool:
    if candidate not in ("linear", "positive"):
        raise ValueError(f"candidate must be 'linear' or 'positive', not {candidate!r}")
    return candidate == "positive"


def _forward(
    weights: PackedGRU,
    x: Float[Array, "time batch features"],
    h_0: Float[Array, "batch hidden"] | None,
    keep: Float[Array, "time batch ..."] | None = None,
    mask: Float[Array, "batch hidden"] | None = None,
    lengths: Int[Array, " batch"] | None = None,
    threads: int | None = None,
    return_gates: bool = False,
) -> tuple[Array, Array, Array | None]:
    """Output, last state and gates from arguments that were checked, all contiguous."""
    time, batch, features = x.shape
    hidden = weights.hidden_size
    output = np.empty((time, batch, hidden), weights.dtype)
    h_n = np.empty((batch, hidden), weights.dtype)
    gates = np.empty((weights.gates, *output.shape), weights.dtype) if return_gates else None
    keep_unit = int(keep is not None and keep.ndim == 3)
    keep_batch = hidden if keep_unit else 1
    _kernels.gru_forward(
        weights.kernel,
        None,
        _kernels.default_threads() if threads is None else threads,
        time,
        batch,
        x=_address(x),
        x_time=batch * features,
        x_batch=features,
        offsets=0,
        lengths=_address(lengths),
        keep=_address(keep),
        keep_time=batch * keep_batch,
        keep_batch=keep_batch,
        keep_unit=keep_unit,
        mask=_address(mask),
        h_0=_address(h_0),
        output=_address(output),
        output_time=batch * hidden,
        output_batch=hidden,
        h_n=_address(h_n),
        saved=0,
        gates=_address(gates),
        gates_gate=output.size,
    )
    return output, h_n, gates


def backwards(lengths: Int[Array, " batch"] | None, time: int, batch: int) -> Array:
    """Where each step of each row is read from: its end first, and its padding where it was."""
    step = np.arange(time)[:, None]
    mirrored = (time if lengths is None else lengths) - 1 - step
    return np.broadcast_to(np.where(mirrored >= 0, mirrored, step), (time, batch))


def reorder(array: Float[Array, "time batch ..."], order: Int[Array, "time batch"] | None) -> Array:
    """The array with its steps in that order; mirrored twice, it is itself again."""
    if order is None:
        return array
    return np.take_along_axis(array, order[:, :, None] if array.ndim == 3 else order, axis=0)


def _lengths(lengths: Int[Array, " batch"], time: int, batch: int) -> Array:
    lengths = np.asarray(lengths)
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, not {lengths.dtype}")
    if lengths.shape != (batch,):
        raise ValueError(f"lengths must have shape ({batch},), not {lengths.shape}")
    outside = np.flatnonzero((lengths < 0) | (lengths > time))
    if outside.size:
        row = outside[0]
        raise ValueError(f"lengths[{row}] must be from 0 to {time}, not {lengths[row]}")
    return np.ascontiguousarray(lengths, np.int64)


def _array(
    name: str, array: ArrayLike, dtype: np.dtype, *shape: int | None, like: str = "weight_hh"
) -> Array:
    """The array, contiguous, if it has the dtype and the shape, in which None is any size."""
    array = np.ascontiguousarray(array)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be float32 or float64, not {array.dtype}")
    if array.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, as {like} is, not {array.dtype}")
    return check_shape(name, array, *shape)


def _optional(
    name: str,
    array: ArrayLike | None,
    dtype: np.dtype,
    *shape: int | None,
    like: str = "weight_hh",
) -> Array | None:
    return None if array is None else _array(name, array, dtype, *shape, like=like)


def _address(array: Array | None) -> int:
    return 0 if array is None else array.ctypes.data
