"""The compiled kernels by themselves, without torch: nothing is timed here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness.accuracy import Accuracy, sweep
from tidegate import _kernels


def instruction_sets() -> list[str]:
    """Those that this machine has, the widest first."""
    return _kernels.isas()


def accuracy() -> list[Accuracy]:
    """Of both activations, in both precisions, with the instruction set of this process."""
    functions: list[tuple[str, Callable]] = [("sigmoid", _kernels.sigmoid), ("tanh", _kernels.tanh)]
    return [sweep(name, f, dtype) for name, f in functions for dtype in (np.float32, np.float64)]
