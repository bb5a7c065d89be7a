"""A GRU's weights in the layouts of other libraries, to and from torch's, on NumPy arrays.

Two equations are in use and no conversion turns one into the other (`reset`: docs/equations.md);
a converter carries which it is, and refuses what its target cannot say. All else is order,
transposition, sign and the folding of biases:

| layout     | gates | product  | biases                          | reset               |
| ---------- | ----- | -------- | ------------------------------- | ------------------- |
| torch      | r z n | W x      | two of every gate               | any: it is ours     |
| Keras      | z r n | x K      | two of every gate, or one       | after, or before    |
| ONNX       | z r n | W x      | two of every gate               | after, or before    |
| haste      | z r n | x K      | two of every gate               | after               |
| Flax Linen | apart | x K      | one of r and z, two of n        | after               |
| Flax NNX   | r z n | x K      | one of every gate               | after, b_hn = 0     |
| Equinox    | r z n | W x      | one of r and z, two of n        | after               |
| TF 1       | r z n | [x, h] K | one of every gate               | before              |
| Ng         | apart | W [h, x] | one of every gate               | before, none; 1 - z |
| stacked    | r z n | [x, h] K | one of r and z, two of n if any | any                 |

Where a layout has one bias for torch's two it gets their sum, and it is read into `bias_ih` beside
zeros: the function is kept, the split is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy import concatenate

from tidegate._shapes import check_shape
from tidegate.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class GRUWeights:
    """One direction of one layer in torch's layout; a bias that is left out is zero.

    >>> weights = GRUWeights(np.ones((3, 2)), np.ones((3, 1)))
    >>> kernel, recurrent_kernel, bias = to_keras(weights)
    >>> kernel.shape, recurrent_kernel.shape, bias.shape
    ((2, 3), (1, 3), (2, 3))

    Raises:
        InputError: `reset` is unknown, or shapes disagree.
    """

    weight_ih: Float[Array, "gates features"]
    weight_hh: Float[Array, "gates hidden"]
    bias_ih: Float[Array, " gates"] | None = None
    bias_hh: Float[Array, " gates"] | None = None
    reset: str = "after"

    def __post_init__(self) -> None:
        """Check the shapes and fill in missing biases."""
        check_shape("weight_hh", self.weight_hh, None, None)
        gates = _gates(self.reset) * self.hidden_size
        check_shape("weight_hh", self.weight_hh, gates, None)
        check_shape("weight_ih", self.weight_ih, gates, None)
        for name in ("bias_ih", "bias_hh"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.zeros(gates, self.weight_hh.dtype))
            check_shape(name, getattr(self, name), gates)

    @property
    def hidden_size(self) -> int:
        """Number of units."""
        return self.weight_hh.shape[1]

    @property
    def arrays(self) -> tuple[Array, Array, Array, Array]:
        """`weight_ih, weight_hh, bias_ih, bias_hh`, in the order in which `ops.gru` takes them."""
        assert self.bias_ih is not None  # filled in above
        assert self.bias_hh is not None
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh


def from_keras(
    kernel: Float[Array, "features gates"],
    recurrent_kernel: Float[Array, "hidden gates"],
    bias: Float[Array, "2 gates"] | Float[Array, " gates"] | None = None,
    *,
    reset_after: bool,
) -> GRUWeights:
    """Read what `keras.layers.GRU.get_weights()` returns; with `reset_after` bias has two rows."""
    check_shape("recurrent_kernel", recurrent_kernel, None, None)
    gates = 3 * len(recurrent_kernel)
    check_shape("recurrent_kernel", recurrent_kernel, None, gates)
    check_shape("kernel", kernel, None, gates)
    w_ih, w_hh = _swap_r_z(kernel.T), _swap_r_z(recurrent_kernel.T)
    if not reset_after:
        b_ih = None if bias is None else _swap_r_z(check_shape("bias", bias, gates))
        return GRUWeights(w_ih, w_hh, b_ih, reset="before")
    if bias is None:
        return GRUWeights(w_ih, w_hh)
    b_ih, b_hh = map(_swap_r_z, check_shape("bias", bias, 2, gates))
    return GRUWeights(w_ih, w_hh, b_ih, b_hh)


def to_keras(weights: GRUWeights) -> tuple[Array, Array, Array]:
    """Kernel, recurrent kernel and bias of a layer with `reset_after = (reset == "after")`."""
    _require(weights, "Keras", "after", "before")
    w_ih, w_hh, b_ih, b_hh = map(_swap_r_z, weights.arrays)
    return w_ih.T, w_hh.T, np.stack((b_ih, b_hh)) if weights.reset == "after" else b_ih + b_hh


def from_onnx(
    w: Float[Array, "directions gates features"],
    r: Float[Array, "directions gates hidden"],
    b: Float[Array, "directions gates+gates"] | None = None,
    *,
    linear_before_reset: int,
) -> list[GRUWeights]:
    """Read the inputs W, R and B of a GRU node: forward first, then reverse if there is one."""
    check_shape("R", r, None, None, None)
    directions, _, hidden = r.shape
    check_shape("R", r, directions, 3 * hidden, hidden)
    check_shape("W", w, directions, 3 * hidden, None)
    b = np.zeros((directions, 6 * hidden), r.dtype) if b is None else b
    check_shape("B", b, directions, 6 * hidden)
    reset = "after" if linear_before_reset else "before"
    return [
        GRUWeights(*map(_swap_r_z, (w_d, r_d, *np.split(b_d, 2))), reset=reset)
        for w_d, r_d, b_d in zip(w, r, b, strict=True)
    ]


def to_onnx(*directions: GRUWeights) -> tuple[Array, Array, Array]:
    """Inputs W, R and B of a node with `linear_before_reset = (reset == "after")`."""
    for weights in directions:
        _require(weights, "an ONNX node", "after", "before")
        _require(weights, "the node's first direction", directions[0].reset)
    arrays = [map(_swap_r_z, weights.arrays) for weights in directions]
    w, r, b_ih, b_hh = map(np.stack, zip(*arrays, strict=True))
    return w, r, concatenate((b_ih, b_hh), axis=1)


def from_haste(
    kernel: Float[Array, "features gates"],
    recurrent_kernel: Float[Array, "hidden gates"],
    bias: Float[Array, " gates"],
    recurrent_bias: Float[Array, " gates"],
) -> GRUWeights:
    """Read the parameters of `haste_pytorch.GRU`."""
    check_shape("recurrent_bias", recurrent_bias, *np.shape(bias))
    return from_keras(kernel, recurrent_kernel, np.stack((bias, recurrent_bias)), reset_after=True)


def to_haste(weights: GRUWeights) -> tuple[Array, Array, Array, Array]:
    """Kernel, recurrent kernel, bias and recurrent bias."""
    _require(weights, "haste", "after")
    kernel, recurrent_kernel, (bias, recurrent_bias) = to_keras(weights)
    return kernel, recurrent_kernel, bias, recurrent_bias


def from_linen(params: Mapping[str, Mapping[str, Array]]) -> GRUWeights:
    """Read the parameters of `flax.linen.GRUCell`, whose layers are ir, iz, in, hr, hz and hn."""
    try:
        kernels = {layer: params[layer]["kernel"] for layer in ("ir", "iz", "in", "hr", "hz", "hn")}
        biases = {layer: params[layer]["bias"] for layer in ("ir", "iz", "in", "hn")}
    except KeyError as missing:
        raise InputError(f"parameters of flax.linen.GRUCell lack {missing}") from None
    features, hidden = check_shape("in/kernel", kernels["in"], None, None).shape
    for layer, kernel in kernels.items():
        check_shape(f"{layer}/kernel", kernel, features if layer[0] == "i" else hidden, hidden)
    for layer, bias in biases.items():
        check_shape(f"{layer}/bias", bias, hidden)
    *bias, bias_n = biases.values()
    return from_equinox(
        concatenate([kernels[layer].T for layer in ("ir", "iz", "in")]),
        concatenate([kernels[layer].T for layer in ("hr", "hz", "hn")]),
        concatenate(bias),
        bias_n,
    )


def to_linen(weights: GRUWeights) -> dict[str, dict[str, Array]]:
    """Parameters of `flax.linen.GRUCell`."""
    _require(weights, "flax.linen", "after")
    w_ih, w_hh, bias, bias_n = to_equinox(weights)
    params = {f"h{gate}": {"kernel": w.T} for gate, w in zip("rzn", np.split(w_hh, 3), strict=True)}
    for gate, w, b in zip("rzn", np.split(w_ih, 3), np.split(bias, 3), strict=True):
        params[f"i{gate}"] = {"kernel": w.T, "bias": b}
    params["hn"]["bias"] = bias_n
    return params


def from_nnx(
    dense_i_kernel: Float[Array, "features gates"],
    dense_i_bias: Float[Array, " gates"],
    dense_h_kernel: Float[Array, "hidden gates"],
) -> GRUWeights:
    """Read `dense_i.kernel`, `dense_i.bias` and `dense_h.kernel` of `flax.nnx.GRUCell`."""
    return from_equinox(dense_i_kernel.T, dense_h_kernel.T, dense_i_bias)


def to_nnx(weights: GRUWeights) -> tuple[Array, Array, Array]:
    """`dense_i.kernel`, `dense_i.bias` and `dense_h.kernel`; the cell has no b_hn."""
    _require(weights, "flax.nnx", "after")
    w_ih, w_hh, bias, bias_n = to_equinox(weights)
    if bias_n.any():
        raise InputError("flax.nnx.GRUCell has no bias inside the reset product, and b_hn is not 0")
    return w_ih.T, bias, w_hh.T


def from_equinox(
    weight_ih: Float[Array, "gates features"],
    weight_hh: Float[Array, "gates hidden"],
    bias: Float[Array, " gates"] | None = None,
    bias_n: Float[Array, " hidden"] | None = None,
) -> GRUWeights:
    """Read the fields of `equinox.nn.GRUCell`."""
    if bias_n is None:
        return GRUWeights(weight_ih, weight_hh, bias)
    check_shape("weight_hh", weight_hh, None, None)
    hidden = weight_hh.shape[1]
    bias_hh = concatenate(
        (np.zeros(2 * hidden, bias_n.dtype), check_shape("bias_n", bias_n, hidden))
    )
    return GRUWeights(weight_ih, weight_hh, bias, bias_hh)


def to_equinox(weights: GRUWeights) -> tuple[Array, Array, Array, Array]:
    """`weight_ih`, `weight_hh`, `bias` and `bias_n`."""
    _require(weights, "Equinox", "after")
    r_z_end = 2 * weights.hidden_size
    weight_ih, weight_hh, bias_ih, bias_hh = weights.arrays
    bias = bias_ih.copy()
    bias[:r_z_end] += bias_hh[:r_z_end]
    return weight_ih, weight_hh, bias, bias_hh[r_z_end:]


def from_tf1(
    gates_kernel: Float[Array, "both gates"],
    gates_bias: Float[Array, " gates"],
    candidate_kernel: Float[Array, "both hidden"],
    candidate_bias: Float[Array, " hidden"],
) -> GRUWeights:
    """Read TensorFlow 1's `GRUCell`, whose gates are r and u; there u keeps the old state."""
    check_shape("candidate/kernel", candidate_kernel, None, None)
    both, hidden = candidate_kernel.shape
    check_shape("gates/kernel", gates_kernel, both, 2 * hidden)
    check_shape("gates/bias", gates_bias, 2 * hidden)
    check_shape("candidate/bias", candidate_bias, hidden)
    kernel = concatenate((gates_kernel, candidate_kernel), axis=1)
    return from_stacked(kernel, concatenate((gates_bias, candidate_bias)), reset="before")


def to_tf1(weights: GRUWeights) -> tuple[Array, Array, Array, Array]:
    """`gates/kernel`, `gates/bias`, `candidate/kernel` and `candidate/bias`."""
    _require(weights, "TensorFlow 1", "before")
    kernel, bias = to_stacked(weights)
    r_z_end = 2 * weights.hidden_size
    return kernel[:, :r_z_end], bias[:r_z_end], kernel[:, r_z_end:], bias[r_z_end:]


class NgGRU(NamedTuple):
    """The gates of Andrew Ng's course, each (hidden, hidden + input) on [c, x], biases as columns.

    Γ_u admits the candidate: it is 1 - z. The simplified unit has no Γ_r.
    """

    w_u: Array
    w_r: Array | None
    w_c: Array
    b_u: Array
    b_r: Array | None
    b_c: Array


def from_ng(
    w_u: Float[Array, "hidden both"],
    w_r: Float[Array, "hidden both"] | None,
    w_c: Float[Array, "hidden both"],
    b_u: Float[Array, "hidden 1"],
    b_r: Float[Array, "hidden 1"] | None,
    b_c: Float[Array, "hidden 1"],
) -> GRUWeights:
    """Read the matrices of the course; without `w_r` and `b_r`, the simplified unit."""
    check_shape("w_c", w_c, None, None)
    hidden, both = w_c.shape
    gates = {"u": (w_u, b_u), "c": (w_c, b_c)}
    if w_r is not None and b_r is not None:
        gates = {"r": (w_r, b_r), **gates}
    for gate, (w, b) in gates.items():
        check_shape(f"w_{gate}", w, hidden, both)
        check_shape(f"b_{gate}", b, hidden, 1)
    gates["u"] = -w_u, -b_u  # 1 - sigmoid(a) = sigmoid(-a)
    w, b = map(concatenate, zip(*gates.values(), strict=True))
    reset = "none" if w_r is None else "before"
    return GRUWeights(w[:, hidden:], w[:, :hidden], b[:, 0], reset=reset)


def to_ng(weights: GRUWeights) -> NgGRU:
    """The matrices of the course; the simplified unit where `reset` is "none"."""
    _require(weights, "the course's unit", "before", "none")
    w = concatenate((weights.weight_hh, weights.weight_ih), axis=1)
    _, _, bias_ih, bias_hh = weights.arrays
    b = (bias_ih + bias_hh)[:, None]
    *w_r, w_z, w_n = np.split(w, _gates(weights.reset))
    *b_r, b_z, b_n = np.split(b, _gates(weights.reset))
    return NgGRU(-w_z, w_r[0] if w_r else None, w_n, -b_z, b_r[0] if b_r else None, b_n)


def from_stacked(
    weight: Float[Array, "features+hidden columns"],
    bias: Float[Array, " columns"],
    *,
    reset: str,
) -> GRUWeights:
    """Read the weights of `reference.gru_stacked`, which multiply [x, h].

    With `reset="after"` there are four blocks of columns, r, z and the candidate's shares of x and
    of h, and zeros where either share would meet the other source.
    """
    check_shape("weight", weight, None, None)
    rows, columns = weight.shape
    blocks = 4 if reset == "after" else _gates(reset)
    hidden = columns // blocks
    check_shape("weight", weight, None, blocks * hidden)
    check_shape("bias", bias, blocks * hidden)
    w_x, w_h = np.split(weight, [rows - hidden])
    if reset != "after":
        return GRUWeights(w_x.T, w_h.T, bias, reset=reset)
    x_r, x_z, x_n, no_h = np.split(w_x, 4, axis=1)
    h_r, h_z, no_x, h_n = np.split(w_h, 4, axis=1)
    if no_h.any() or no_x.any():
        raise InputError("stacked weight has numbers where x meets h's candidate, or h meets x's")
    w_ih, w_hh = concatenate((x_r, x_z, x_n), axis=1).T, concatenate((h_r, h_z, h_n), axis=1).T
    return from_equinox(w_ih, w_hh, bias[: 3 * hidden], bias[3 * hidden :])


def to_stacked(weights: GRUWeights) -> tuple[Array, Array]:
    """Weight and bias for `reference.gru_stacked`."""
    if weights.reset != "after":
        w_ih, w_hh, b_ih, b_hh = weights.arrays
        return concatenate((w_ih.T, w_hh.T)), b_ih + b_hh
    w_ih, w_hh, bias, bias_n = to_equinox(weights)
    h_r, h_z, h_n = np.split(w_hh.T, 3, axis=1)
    w_x = concatenate((w_ih.T, np.zeros_like(w_ih.T[:, : len(h_n)])), axis=1)
    w_h = concatenate((h_r, h_z, np.zeros_like(h_n), h_n), axis=1)
    return concatenate((w_x, w_h)), concatenate((bias, bias_n))


def _gates(reset: str) -> int:
    """How many gates a row of units has."""
    if reset not in ("after", "before", "none"):
        raise InputError(f"reset must be 'after', 'before' or 'none', not {reset!r}")
    return 2 if reset == "none" else 3


def _swap_r_z(array: Array) -> Array:
    """Gates r z n made z r n along the first axis, and the other way."""
    r, z, n = np.split(array, 3)
    return concatenate((z, r, n))


def _require(weights: GRUWeights, target: str, *resets: str) -> None:
    if weights.reset not in resets:
        allowed = " or ".join(repr(reset) for reset in resets)
        raise InputError(f"{target} has reset {allowed} only, and the weights {weights.reset!r}")
