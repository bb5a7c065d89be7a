"""Inputs at initial scale and the tolerance policy, shared by every test of a numerical result."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

EPS = float(np.finfo(np.float64).eps)
GATES = {"after": 3, "before": 3, "none": 2}


class GRUInputs(NamedTuple):
    """Arguments of a GRU, in the order in which `ops.gru` and `reference.gru` take them."""

    x: NDArray
    h_0: NDArray
    weight_ih: NDArray
    weight_hh: NDArray
    bias_ih: NDArray
    bias_hh: NDArray


def gru_inputs(
    seed: int,
    time: int,
    batch: int,
    features: int,
    hidden: int,
    dtype: DTypeLike = np.float64,
    reset: str = "after",
) -> GRUInputs:
    """Random arguments of a GRU, weights at the scale of `torch.nn.GRU`'s initialisation.

    With standard-normal weights a GRU is chaotic, and no two correct programs agree.
    """
    rng = np.random.default_rng(seed)
    gates, scale = GATES[reset], hidden**-0.5

    def weight(*shape: int) -> NDArray:
        return rng.uniform(-scale, scale, shape).astype(dtype)

    return GRUInputs(
        x=rng.standard_normal((time, batch, features)).astype(dtype),
        h_0=rng.uniform(-1, 1, (batch, hidden)).astype(dtype),
        weight_ih=weight(gates * hidden, features),
        weight_hh=weight(gates * hidden, hidden),
        bias_ih=weight(gates * hidden),
        bias_hh=weight(gates * hidden),
    )


def double(arrays: NamedTuple) -> list[NDArray]:
    """The same numbers in float64, for the reference."""
    return [np.asarray(array, np.float64) for array in arrays]


def rms(array: ArrayLike) -> float:
    """Root mean square; zero of an empty array."""
    array = np.asarray(array, np.float64)
    return float(np.sqrt(np.mean(np.square(array)))) if array.size else 0.0


def assert_matches(
    actual: ArrayLike, reference: ArrayLike, *, eps: float = 8, scale: float = 1.0
) -> None:
    """Assert that the RMS error against the float64 reference is at most `eps` of actual's dtype.

    The error is in units of the reference's RMS, or of `scale` where that is larger: what cancels
    to nearly nothing is only as exact as what it is a difference of. States, gates and gradients of
    a loss of slope one are of the order of one; a sum of n such terms of either sign, as the
    gradient of a weight is, of the order of sqrt(n).
    """
    actual = np.asarray(actual)
    reference = np.asarray(reference, np.float64)
    assert actual.shape == reference.shape
    assert np.isfinite(reference).all()
    error = rms(actual - reference) / max(scale, rms(reference))
    allowed = eps * np.finfo(actual.dtype).eps
    assert error <= allowed, f"RMS error {error:.3g} is over {allowed:.3g} ({eps} eps)"


def numerical_gradient(loss: Callable[[NDArray], float], array: NDArray) -> NDArray:
    """Gradient of `loss` at `array` by central differences, correct to about 1e-9."""
    gradient, step = np.zeros_like(array), np.cbrt(np.finfo(np.float64).eps)
    for index in np.ndindex(array.shape):
        above, below = array.copy(), array.copy()
        above[index] += step
        below[index] -= step
        gradient[index] = (loss(above) - loss(below)) / (above[index] - below[index])
    return gradient


def assert_gradients(
    loss: Callable[..., float], arguments: Sequence[NDArray], gradients: Sequence[NDArray]
) -> None:
    """Assert that `gradients` are those of `loss` in each of its arguments."""
    for i, (argument, gradient) in enumerate(zip(arguments, gradients, strict=True)):

        def of_one(value: NDArray, i: int = i) -> float:
            return loss(*arguments[:i], value, *arguments[i + 1 :])

        # 1e-9 is the error of the differences: 2e-10 at most was measured.
        assert_matches(numerical_gradient(of_one, argument), gradient, eps=1e-9 / EPS)
