"""One GRU layer over a whole sequence, its weights packed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .. import _kernels
from ..ops import backwards, reorder
from ._layers import GRU

if TYPE_CHECKING:
    from jaxtyping import Float, Int

Array = np.ndarray


def run_gru(
    layer: GRU,
    x: Float[Array, "time batch features"],
    h_0: Sequence[Float[Array, "batch hidden"]],
    lengths: Int[Array, " batch"] | None,
) -> tuple[Float[Array, "time batch outputs"], list[Float[Array, "batch hidden"]]]:
    """The output at each step, directions side by side; and the state after each one's last step.

    The arrays were checked: contiguous, of the layer's dtype and sizes.
    """
    time, batch, features = x.shape
    order = backwards(lengths, time, batch) if layer.reverse else None
    x = np.ascontiguousarray(reorder(x, order))
    directions = layer.packed
    width = layer.hidden_size * len(directions)
    output = np.empty((time, batch, width), x.dtype)
    h_n = np.empty((len(directions), batch, layer.hidden_size), x.dtype)
    begin = np.stack(h_0)
    _kernels.gru_forward(
        directions[0].kernel,
        directions[1].kernel if len(directions) == 2 else None,
        _kernels.default_threads(),
        time,
        batch,
        x=x.ctypes.data,
        x_time=batch * features,
        x_batch=features,
        offsets=0,
        lengths=0 if lengths is None else lengths.ctypes.data,
        keep=0,
        keep_time=0,
        keep_batch=0,
        keep_unit=0,
        mask=0,
        h_0=begin.ctypes.data,
        output=output.ctypes.data,
        output_time=batch * width,
        output_batch=width,
        h_n=h_n.ctypes.data,
        saved=0,
        gates=0,
        gates_gate=0,
    )
    return reorder(output, order), list(h_n)
