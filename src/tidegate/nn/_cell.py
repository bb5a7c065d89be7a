"""`GRUCell`: one step at a time."""

from __future__ import annotations

from torch import Tensor, nn
from torch.fx import Proxy

from tidegate.nn import _functional, _fx
from tidegate.nn._layer import GATES, Direction


class GRUCell(nn.GRUCell):
    """`torch.nn.GRUCell` with a choice of reset gate.

    A single step is bound by what its call costs, and torch's own is the cheapest there is: with
    `reset="after"` that is what runs. A sequence known in advance belongs to `GRU`, which is many
    times faster than a loop over cells; a stream without gradients to `tidegate.runtime`.

    Args:
        input_size: features of the input.
        hidden_size: units of the state.
        bias: as torch's.
        device: of the parameters.
        dtype: of the parameters.
        reset: "after", "before" or "none", as in `GRU`.

    Raises:
        ValueError: `reset` is none of these.

    Example:
        >>> import torch
        >>> cell, h = GRUCell(3, 8, reset="before"), torch.zeros(2, 8)
        >>> for x in torch.randn(5, 2, 3):
        ...     h = cell(x, h)
    """

    reset: str = "after"  # a `torch.nn.GRUCell` that became ours has no more than this

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device=None,
        dtype=None,
        *,
        reset: str = "after",
    ) -> None:
        if reset not in GATES:
            raise ValueError(f"reset must be one of {', '.join(GATES)}, but it is {reset!r}")
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.reset = reset
        if reset == "none":
            for name, parameter in list(self.named_parameters()):
                kept = parameter.detach()[: 2 * hidden_size].clone()
                self.register_parameter(name, nn.Parameter(kept))

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next state, (batch, hidden_size), or (hidden_size,) for a single input.

        Raises:
            RuntimeError: `input` or `hx` has the wrong size, as in torch.
            ValueError: `input` or `hx` has the wrong number of axes.
        """
        if isinstance(input, Proxy):
            return _fx.call(self, input, hx=hx)
        if self.reset == "after":
            return super().forward(input, hx)
        _check(self, input, hx)
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        h = (
            x.new_zeros(len(x), self.hidden_size)
            if hx is None
            else hx.view(len(x), self.hidden_size)
        )
        weights = Direction(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        h = _functional.step(self.reset, weights, x, h)
        return h if batched else h.squeeze(0)

    def extra_repr(self) -> str:
        """As torch's, then the reset gate where it is not torch's."""
        return super().extra_repr() + (f", reset={self.reset!r}" if self.reset != "after" else "")


def _check(cell: GRUCell, input: Tensor, hx: Tensor | None) -> None:
    if input.dim() not in (1, 2):
        raise ValueError(f"GRUCell: Expected input to be 1D or 2D, got {input.dim()}D instead")
    if input.size(-1) != cell.input_size:
        raise RuntimeError(
            f"input has inconsistent input_size: got {input.size(-1)} expected {cell.input_size}"
        )
    if hx is None:
        return
    if hx.dim() not in (1, 2):
        raise ValueError(f"GRUCell: Expected hidden to be 1D or 2D, got {hx.dim()}D instead")
    if hx.size(-1) != cell.hidden_size:
        raise RuntimeError(
            f"hidden0 has inconsistent hidden_size: got {hx.size(-1)}, expected {cell.hidden_size}"
        )
    rows, states = (t.size(0) if t.dim() == 2 else 1 for t in (input, hx))
    if rows != states:
        raise RuntimeError(f"Input batch size {rows} doesn't match hidden0 batch size {states}")
