"""What a GRU returns: tuples with names, which still unpack as `torch.nn.GRU`'s do."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree


class Gates(NamedTuple):
    """The gates of every step: one tensor a layer, laid out as `output`.

    `update` near one keeps the old state. `reset` is empty for a GRU without a reset gate. The
    last axis holds the forward direction, then the reverse.
    """

    reset: tuple
    update: tuple
    new: tuple


class GRUResult(NamedTuple):
    """`output, h_n = gru(x)`; the same shapes as `torch.nn.GRU`'s."""

    output: Tensor | PackedSequence
    h_n: Tensor | tuple[Tensor, ...]

    def last(self) -> Tensor:
        """The top layer's state (batch, directions * hidden) after each row's own last step.

        The reverse direction's last step is at each row's beginning.
        """
        return _last(self.output, self.h_n)


class GRUResultWithGates(NamedTuple):
    """`output, h_n, gates = gru(x, return_gates=True)`."""

    output: Tensor | PackedSequence
    h_n: Tensor | tuple[Tensor, ...]
    gates: Gates

    def last(self) -> Tensor:
        """As `GRUResult.last`."""
        return _last(self.output, self.h_n)


def _last(output: Tensor | PackedSequence, h_n: Tensor | tuple[Tensor, ...]) -> Tensor:
    if isinstance(h_n, tuple):  # one tensor a layer
        top = h_n[-1]
    else:
        width = (output.data if isinstance(output, PackedSequence) else output).size(-1)
        top = h_n[-(width // h_n.size(-1)) :]
    return top.movedim(0, -2).flatten(-2)


def _from_fields_or_iterable(fields):
    """As a named tuple is made, and as a tuple is: code that maps over results does either."""

    def new(cls, *given, **named):
        return fields(cls, *(given[0] if len(given) == 1 and not named else given), **named)

    return new


for _result in (Gates, GRUResult, GRUResultWithGates):
    _result.__new__ = _from_fields_or_iterable(_result.__new__)
    # So that an exported program that returns them can be saved.
    _pytree._register_namedtuple(_result, serialized_type_name=f"tidegate.nn.{_result.__name__}")
