"""Truncated backpropagation through time: long sequences in chunks, the state carried over."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from tidegate.nn._call import check_types
from tidegate.nn._gru import GRU
from tidegate.nn._result import GRUResult, GRUResultWithGates


class TruncatedBPTT(nn.Module):
    """A GRU that remembers its state from call to call, without its history.

    Each call runs one chunk; gradients end at its beginning. The state is no parameter and no
    buffer: it is neither saved nor trained.

    Args:
        gru: the GRU; calls take its arguments, except `hx`.

    Example:
        >>> reader = TruncatedBPTT(GRU(3, 8))
        >>> for chunk in torch.randn(40, 2, 3).split(10):
        ...     reader(chunk).output.square().mean().backward()
        >>> reader.forget()
    """

    def __init__(self, gru: GRU) -> None:
        super().__init__()
        if not isinstance(gru, GRU):
            raise TypeError(f"gru must be a tidegate.nn.GRU, but it is a {_name(gru)}")
        self.gru = gru
        self.state: Tensor | tuple[Tensor, ...] | None = None

    def forward(
        self, input: Tensor | PackedSequence, *, restart: Tensor | None = None, **options
    ) -> GRUResult | GRUResultWithGates:
        """Run one chunk from where the last one ended.

        Args:
            input: the chunk, in any of the forms that the GRU takes.
            restart: rows (batch,), as bool, whose sequences begin anew with this chunk.
            options: those of `GRU.forward`.

        Raises:
            TypeError: `input` or `restart` is no tensor, or `hx` is among the options.
            ValueError: the chunk has another number of rows than the last, or `restart` has.
        """
        if restart is not None and not isinstance(restart, Tensor):
            raise TypeError(f"restart must be a tensor, but it is a {type(restart).__name__}")
        if "hx" in options:
            raise TypeError("hx is the state that is carried: set `state` instead")
        check_types(input, None, None, return_gates=False)
        hx = self.state
        if hx is not None and (rows := _rows(self.gru, input)) != _first(hx).shape[1:-1]:
            raise ValueError(
                f"input has {list(rows)} rows and the state that is carried "
                f"{list(_first(hx).shape[1:-1])}: call forget() before other rows"
            )
        if hx is not None and restart is not None:
            hx = self._restarted(hx, restart)
        result = self.gru(input, hx, **options)
        self.state = _each(result.h_n, Tensor.detach)
        return result

    def forget(self) -> None:
        """Begin anew with the next chunk."""
        self.state = None

    def _restarted(self, state: Tensor | tuple[Tensor, ...], restart: Tensor):
        rows = _first(state).shape[1:-1]
        if restart.dtype != torch.bool or restart.shape != rows:
            raise ValueError(
                f"restart must be bool of {tuple(rows)}, "
                f"but it is {restart.dtype} of {tuple(restart.shape)}"
            )
        begin = self._beginning(state)
        if isinstance(state, Tensor):
            return torch.where(restart[..., None], begin, state)
        pairs = zip(begin, state, strict=True)
        return tuple(torch.where(restart[..., None], new, old) for new, old in pairs)

    def _beginning(self, state: Tensor | tuple[Tensor, ...]):
        """The state at which a sequence begins, of the same form."""
        if not getattr(self.gru, "learn_hx", False):
            return _each(state, torch.zeros_like)
        states = self.gru.initial_states()
        if _first(state).dim() == 3:
            states = [learnt[:, None] for learnt in states]
        return torch.cat(states) if isinstance(state, Tensor) else tuple(states)


def _rows(gru: GRU, input: Tensor | PackedSequence) -> torch.Size | tuple[int, ...]:
    """Rows of the batch, as the one axis that they are; no axis where it is not batched."""
    if isinstance(input, PackedSequence):
        return (int(input.batch_sizes[0]),)
    if input.dim() != 3:
        return ()
    return (input.size(0 if gru.batch_first else 1),)


def _first(state: Tensor | tuple[Tensor, ...]) -> Tensor:
    return state if isinstance(state, Tensor) else state[0]


def _each(state: Tensor | tuple[Tensor, ...], function):
    return function(state) if isinstance(state, Tensor) else tuple(map(function, state))


def _name(what: object) -> str:
    return f"{type(what).__module__}.{type(what).__qualname__}"
