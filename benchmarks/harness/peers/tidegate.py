"""Tidegate itself."""

from __future__ import annotations

from functools import partial

import numpy as np

import tidegate
from harness.cases import Case, inputs
from harness.peers import STREAMED_STEPS
from harness.peers._modules import runner
from harness.runner import Runner
from tidegate import _kernels
from tidegate.nn import GRU


def prepare(case: Case) -> dict[str, Runner]:
    """The layer, in training with both uses of memory; the cell."""
    if case.mode == "training":
        return {
            f"Tidegate {memory}": runner(partial(GRU, memory=memory), case)
            for memory in ("save", "recompute")
        }
    return {"Tidegate": _stream(case) if case.mode == "stream" else runner(GRU, case)}


def version() -> str:
    """As the table names it."""
    return f"Tidegate {tidegate.__version__} ({_kernels.ISA})"


def _stream(case: Case) -> Runner:
    numbers = inputs(case)
    x, h = numbers.x[0], numbers.h_0.copy()
    w_ih, w_hh, b_ih, b_hh = (array.ctypes.data for array in numbers.weights[0])
    weights = _kernels.Weights(
        False, _kernels.RESET_AFTER, case.input, case.hidden, w_ih, w_hh, b_ih, b_hh, False
    )
    call = partial(
        _kernels.Cell([weights], case.batch, case.threads).step, x.ctypes.data, h.ctypes.data
    )

    def results() -> list[np.ndarray]:
        h[:] = numbers.h_0
        for _ in range(STREAMED_STEPS):
            call()
        return [h.copy()]

    return Runner(call, results)
