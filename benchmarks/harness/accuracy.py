"""Errors of the activations in units of the last place, over numbers of every magnitude."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

STRIDE = 1021  # every so many of the 2**32 float32 are tried
NEIGHBOURS = 8  # and every so many where the functions saturate
DOUBLES = 1 << 20


class Accuracy(NamedTuple):
    """Of one function in one precision."""

    function: str
    dtype: str
    ulp: float  # the largest error, down to twice the smallest normal number
    monotone: bool  # where it saturates
    exact: bool  # limits at plus and minus infinity, value at zero, NaN stays NaN


Kernel = Callable[[bool, int, int, int], None]

LIMITS = {"sigmoid": (0.0, 0.5, 1.0), "tanh": (-1.0, 0.0, 1.0)}  # at -inf, 0, inf


def sweep(function: str, kernel: Kernel, dtype: type[np.floating]) -> Accuracy:
    """Try a function of the kernels on many numbers."""

    def apply(x: NDArray) -> NDArray:
        x = np.ascontiguousarray(x, dtype)
        y = np.full_like(x, np.nan)
        kernel(dtype is np.float64, x.size, x.ctypes.data, y.ctypes.data)
        return y

    edges = apply(np.array([-np.inf, 0.0, np.inf, np.nan], dtype))
    exact = tuple(edges[:3].tolist()) == LIMITS[function] and bool(np.isnan(edges[3]))
    x = _numbers(dtype)
    ulp = _largest_error(apply(x), _truth(function, x), dtype)
    name = np.dtype(dtype).name
    return Accuracy(function, name, ulp, all(map(_rises(apply), _saturating())), exact)


def _numbers(dtype: type[np.floating]) -> NDArray:
    """Finite numbers of every magnitude, the interesting ones more often."""
    if dtype is np.float32:
        bits = np.arange(0, 1 << 32, STRIDE, dtype=np.uint32)
        x = bits.view(np.float32)
        return x[np.isfinite(x)]
    rng = np.random.default_rng(0)
    wide = np.exp2(rng.uniform(-60, 10, DOUBLES)) * rng.choice([-1.0, 1.0], DOUBLES)
    return np.concatenate([wide, rng.uniform(-40, 40, DOUBLES)])


def _truth(function: str, x: NDArray) -> NDArray:
    """The function in a wider type."""
    wide = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
    if function == "tanh":
        return np.tanh(wide)
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-wide))


def _largest_error(y: NDArray, truth: NDArray, dtype: type[np.floating]) -> float:
    normal = np.abs(truth) >= 2 * np.finfo(dtype).tiny  # below, the kernels may flush to zero
    y, truth = y[normal], truth[normal]
    spacing = np.spacing(np.abs(truth).astype(dtype)).astype(truth.dtype)
    return float(np.max(np.abs(y.astype(truth.dtype) - truth) / spacing))


def _saturating() -> list[NDArray[np.float32]]:
    """Close float32, ascending, from -128 to -4 and from 4 to 128."""
    low, high = np.array([4, 128], np.float32).view(np.uint32)
    x = np.arange(low, high + 1, NEIGHBOURS, dtype=np.uint32).view(np.float32)
    return [-x[::-1], x]


def _rises(apply: Callable[[NDArray], NDArray]) -> Callable[[NDArray], bool]:
    return lambda x: bool((np.diff(apply(x)) >= 0).all())
