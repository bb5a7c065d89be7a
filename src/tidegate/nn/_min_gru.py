"""`MinGRU`: a recurrent layer whose gates do not see the state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from tidegate.nn import _fx
from tidegate.nn._layer import in_dtype, read_lengths, valid_steps
from tidegate.nn._min_gru_op import Scan, gates, min_gru
from tidegate.nn._result import Gates, GRUResult, GRUResultWithGates

CANDIDATES = ("linear", "positive")


class MinGRU(nn.Module):
    """A minimal gated recurrent unit (Feng et al. 2024, arXiv:2410.01201), called as `GRU` is.

        z = sigmoid(W_z x + b_z)
        n = W_n x + b_n
        h_t = (1 - z) * h_{t-1} + z * n

    Gates do not see the state: all of them are one product over the sequence, and the recurrence
    that is left costs no more than reading it. There is a third as many parameters, and a unit
    knows of others only through the layer above. **Its z admits the new**, where `GRU`'s z keeps
    the old. On a CPU the recurrence runs in kernels, elsewhere in torch operations.

    Args:
        input_size: features of each step.
        hidden_size: units of the state.
        num_layers: of them, each reading the one below.
        bias: whether there are b_z and b_n.
        batch_first: as `GRU`'s.
        dropout: on the output of each layer but the last.
        bidirectional: also from each row's end to its beginning.
        device: of the parameters.
        dtype: of the parameters; half precision is scanned in float32 on a CPU.
        candidate: "linear", as above; or "positive", n = g(W_n x + b_n) with g(a) = a + 1/2 for
            a >= 0 and sigmoid(a) below, as the paper's code has it.
        chrono_range: shortest and longest memory, in steps, that the biases b_z begin with
            (arXiv:1804.11188); as the other parameters when not given.

    Attributes:
        weight_ih_l0: (2 * hidden_size, input_size), z above n; and so on by layer, with `_reverse`
            for the other direction.
        bias_ih_l0: (2 * hidden_size,).

    Raises:
        TypeError: a size is no integer.
        ValueError: an argument is out of range.

    Example:
        >>> layer = MinGRU(input_size=3, hidden_size=8, batch_first=True)
        >>> output, h_n = layer(torch.randn(2, 5, 3), lengths=[5, 3])
        >>> output.shape, h_n.shape
        (torch.Size([2, 5, 8]), torch.Size([1, 2, 8]))
    """

    weight_ih_l0: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        candidate: str = "linear",
        chrono_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        for name, value in sizes.items():
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise TypeError(f"{name} must be an integer, but it is {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, but it is {value}")
        if candidate not in CANDIDATES:
            raise ValueError(
                f"candidate must be one of {', '.join(CANDIDATES)}, but it is {candidate!r}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be a number in [0, 1), but it is {dropout}")
        if chrono_range is not None and not (bias and 1 < chrono_range[0] <= chrono_range[1]):
            raise ValueError(
                "chrono_range must be 1 < shortest <= longest, with bias=True, "
                f"but it is {chrono_range}"
            )
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional, self.candidate = bidirectional, candidate
        self.chrono_range = chrono_range
        for layer in range(num_layers):
            size = input_size if layer == 0 else hidden_size * (1 + bidirectional)
            for suffix in self._suffixes:
                weight = torch.empty(2 * hidden_size, size, device=device, dtype=dtype)
                self.register_parameter(f"weight_ih_l{layer}{suffix}", nn.Parameter(weight))
                if bias:
                    empty = torch.empty(2 * hidden_size, device=device, dtype=dtype)
                    self.register_parameter(f"bias_ih_l{layer}{suffix}", nn.Parameter(empty))
        self.reset_parameters()

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def reset_parameters(self) -> None:
        """Draw the parameters again: uniform, scaled to each layer's inputs as a linear layer's."""
        for name, parameter in self.named_parameters():
            weight = getattr(self, name.replace("bias", "weight"))
            bound = 1 / math.sqrt(weight.size(1))
            nn.init.uniform_(parameter, -bound, bound)
            if self.chrono_range is not None and name.startswith("bias"):
                with torch.no_grad():
                    memory = torch.empty_like(parameter[: self.hidden_size])
                    memory.uniform_(*self.chrono_range)
                    parameter[: self.hidden_size] = -(memory - 1).log()

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Tensor | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        keep: Tensor | None = None,
        return_gates: bool = False,
    ) -> GRUResult | GRUResultWithGates:
        """Run it over a sequence.

        Args:
            input: (time, batch, input_size), or (batch, time, input_size) with `batch_first`, or
                (time, input_size); or packed, and then the sequences returned are packed too.
            hx: initial state, (num_layers * directions, batch, hidden_size), or without the batch.
            lengths: steps of each row, zero allowed. Past its length a row's output is zero, and
                `h_n` is its state at its own end.
            keep: multiplies the incoming state before each step: shape of `input`'s first two axes,
                or with a third of `hidden_size`. Zero restarts a row; has a gradient.
            return_gates: also return the gates, so that they read as `GRU`'s do: `update` is
                1 - z, near one where the old state stays, and `reset` is empty.

        Returns:
            `output, h_n`, or `output, h_n, gates`: tuples with names, and a method `last()`.

        Raises:
            TypeError: an argument is of the wrong type.
            ValueError: an argument has the wrong shape, dtype or value.
        """
        if isinstance(input, Proxy):
            shown = return_gates or None
            return _fx.call(self, input, hx=hx, lengths=lengths, keep=keep, return_gates=shown)
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("lengths must be None with a PackedSequence, which has its own")
            return self._run_packed(input, hx, keep, return_gates)
        for name, value in (("hx", hx), ("keep", keep)):
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(f"{name} must be a tensor, but it is a {type(value).__name__}")
        x, alone = self._read_input(input)
        rows_first = self.batch_first and not alone
        batch = x.size(0 if rows_first else 1)
        dtype = x.dtype if hx is None else hx.dtype
        states = self._read_states(hx, batch, alone, x)
        if lengths is not None:
            lengths = read_lengths(lengths, None if alone else batch, x)
        keep = None if keep is None else self._read_keep(keep, x, alone)
        x_gates = self._products(x, 0, rows_first)
        x, h_n, update, new = self._run(x_gates, states, keep, lengths, rows_first, return_gates)
        x, h_n = in_dtype(x, dtype), in_dtype(h_n, dtype)
        update, new = ([in_dtype(sequence, dtype) for sequence in gate] for gate in (update, new))
        if alone:
            x, h_n = x[:, 0], h_n[:, 0]
            update, new = ([sequence[:, 0] for sequence in gate] for gate in (update, new))
        if not return_gates:
            return GRUResult(x, h_n)
        return GRUResultWithGates(x, h_n, Gates((), tuple(update), tuple(new)))

    def _run(
        self,
        x_gates: list[Tensor],
        states: Tensor | None,
        keep: Tensor | None = None,
        lengths: Tensor | None = None,
        rows_first: bool = False,
        return_gates: bool = False,
    ) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """All layers, from the gates of the first, of each direction; output, h_n and gates."""
        positive = self.candidate == "positive"
        outputs: list[Tensor] = []
        ends: list[Tensor] = []
        update, new = [], []
        for layer in range(self.num_layers):
            if layer:
                x = _beside(outputs, rows_first)
                if self.dropout and self.training:
                    x = F.dropout(x, self.dropout)
                x_gates = self._products(x, layer, rows_first)
            outputs, kept, candidates = [], [], []
            for gate, suffix in zip(x_gates, self._suffixes, strict=True):
                h_0, factor = (
                    None if given is None else in_dtype(given, gate.dtype)
                    for given in (None if states is None else states[len(ends)], keep)
                )
                scan = Scan(gate, h_0, factor, lengths, bool(suffix), positive)
                output, h_n = min_gru(scan)
                outputs.append(output)
                ends.append(h_n)
                if return_gates:
                    z, n = gates(gate, positive)
                    kept.append(_inside(1 - z, lengths))
                    candidates.append(_inside(n, lengths))
            if return_gates:
                update.append(_beside(kept, rows_first))
                new.append(_beside(candidates, rows_first))
        return _beside(outputs, rows_first), torch.stack(ends), update, new

    def _run_packed(
        self, packed: PackedSequence, hx: Tensor | None, keep: Tensor | None, return_gates: bool
    ) -> GRUResult | GRUResultWithGates:
        padded, lengths = pad_packed_sequence(packed, self.batch_first)
        found = self.forward(padded, hx, lengths, keep, return_gates)
        assert isinstance(found.output, Tensor)  # as the input was
        output = self._pack(found.output, packed, lengths)
        if not isinstance(found, GRUResultWithGates):
            return GRUResult(output, found.h_n)
        shown = (tuple(self._pack(s, packed, lengths) for s in gate) for gate in found.gates)
        return GRUResultWithGates(output, found.h_n, Gates(*shown))

    def _pack(self, sequence: Tensor, like: PackedSequence, lengths: Tensor) -> PackedSequence:
        """A padded sequence, its rows in the order of another packed one."""
        order = like.sorted_indices
        if order is not None:
            sequence = sequence.index_select(0 if self.batch_first else 1, order)
            lengths = lengths[order.cpu()]
        return PackedSequence(
            pack_padded_sequence(sequence, lengths, self.batch_first).data, *like[1:]
        )

    def _products(self, x: Tensor, layer: int, rows_first: bool) -> list[Tensor]:
        """Both gates of each direction before their functions, time first."""
        found = [self._product(x, f"l{layer}{suffix}") for suffix in self._suffixes]
        return [gate.transpose(0, 1) for gate in found] if rows_first else found

    def _product(self, x: Tensor, name: str) -> Tensor:
        """Both gates of one direction, for all steps at once.

        On a CPU, half precision goes on in float32, which the kernels run.
        """
        # Not by `get_parameter`: under `torch.func` other tensors stand in the parameters' place.
        weight = getattr(self, f"weight_ih_{name}")
        bias = getattr(self, f"bias_ih_{name}") if self.bias else None
        product = F.linear(in_dtype(x, weight.dtype), weight, bias)
        return product.float() if product.is_cpu and product.itemsize == 2 else product

    def _read_input(self, input: Tensor) -> tuple[Tensor, bool]:
        """The input, batched; and whether it was one row."""
        if not isinstance(input, Tensor):
            raise TypeError(f"input must be a tensor or packed, but it is a {type(input).__name__}")
        if input.dim() not in (2, 3) or input.size(-1) != self.input_size:
            raise ValueError(
                f"input must be (time, batch, {self.input_size}) or (time, {self.input_size}), "
                f"rows first with batch_first, but it is {tuple(input.shape)}"
            )
        if not input.is_floating_point():
            raise TypeError(f"input must have a floating-point dtype, but it has {input.dtype}")
        dtype = self.weight_ih_l0.dtype
        if input.dtype != dtype and not torch._C._is_any_autocast_enabled():
            raise ValueError(
                f"input must have the parameters' dtype, {dtype}, but it has {input.dtype}"
            )
        if input.dim() == 2:
            return input[:, None], True
        return input, False

    def _read_states(self, hx: Tensor | None, batch: int, alone: bool, x: Tensor) -> Tensor | None:
        if hx is None:
            return None
        count = self.num_layers * (1 + self.bidirectional)
        shape = (count, self.hidden_size) if alone else (count, batch, self.hidden_size)
        if tuple(hx.shape) != shape:
            raise ValueError(f"hx must be {shape}, but it is {tuple(hx.shape)}")
        if hx.dtype != x.dtype and not torch._C._is_any_autocast_enabled():
            raise ValueError(f"hx must have input's dtype, {x.dtype}, but it has {hx.dtype}")
        return hx[:, None] if alone else hx

    def _read_keep(self, keep: Tensor, x: Tensor, alone: bool) -> Tensor:
        """`keep` as (time, batch, 1 or hidden)."""
        time, batch = x.shape[1::-1] if self.batch_first and not alone else x.shape[:2]
        lead = (time,) if alone else (batch, time) if self.batch_first else (time, batch)
        if tuple(keep.shape) not in (lead, (*lead, self.hidden_size)):
            raise ValueError(
                f"keep must be {lead} or {(*lead, self.hidden_size)}, but it is {tuple(keep.shape)}"
            )
        keep = keep[..., None] if keep.dim() == len(lead) else keep
        if alone:
            return keep[:, None]
        return keep.transpose(0, 1) if self.batch_first else keep

    def extra_repr(self) -> str:
        """The sizes, then what differs from the defaults."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0}
        defaults |= {"bidirectional": False, "candidate": "linear", "chrono_range": None}
        for name, default in defaults.items():
            if getattr(self, name) != default:
                parts.append(f"{name}={getattr(self, name)!r}")
        return ", ".join(parts)


def _inside(sequence: Tensor, lengths: Tensor | None) -> Tensor:
    """The sequence with zeros past each row's length."""
    return sequence if lengths is None else torch.where(valid_steps(sequence, lengths), sequence, 0)


def _beside(directions: list[Tensor], rows_first: bool) -> Tensor:
    """Sequences of both directions side by side, in the caller's order of axes."""
    if rows_first:
        directions = [sequence.transpose(0, 1) for sequence in directions]
    return directions[0] if len(directions) == 1 else torch.cat(directions, 2)
