"""A call of `GRU`, brought into one form for its layers, and the results back into the caller's.

The forms are torch's: batched or not, batch first or time first, padded or packed. Messages that
torch's own tests know begin with torch's words.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from tidegate.nn import _torchs, gpu
from tidegate.nn._layer import GATES, in_dtype, read_lengths
from tidegate.nn._result import Gates, GRUResult, GRUResultWithGates
from tidegate.nn._stack import Inputs, StackOutputs

if TYPE_CHECKING:
    from tidegate.nn._gru import GRU

State = Tensor | Sequence[Tensor]


class Form(NamedTuple):
    """How a call was made, and so how it is answered."""

    batched: bool
    batch_first: bool
    packed: PackedSequence | None
    x: Tensor  # time first and batched, or packed; the caller's dtype
    batch: int
    dtype: torch.dtype  # of the results
    compute: torch.dtype


def check_types(
    input: Tensor | PackedSequence, hx: State | None, keep: Tensor | None, return_gates: bool
) -> None:
    """Raise unless the arguments of a call are dense tensors, or hold them."""
    if not isinstance(input, (Tensor, PackedSequence)):
        raise TypeError(f"input must be a tensor or packed, but it is a {type(input).__name__}")
    _check_dense("input", input.data if isinstance(input, PackedSequence) else input)
    if isinstance(hx, (tuple, list)):
        if not hx:
            raise TypeError(f"hx must be tensors, but it is an empty {type(hx).__name__}")
        for state in hx:
            if not isinstance(state, Tensor):
                raise TypeError(f"hx must hold tensors, but it holds a {type(state).__name__}")
            _check_dense("hx", state)
    elif hx is not None:
        if not isinstance(hx, Tensor):
            raise TypeError(f"hx must be a tensor, but it is a {type(hx).__name__}")
        _check_dense("hx", hx)
    if keep is not None:
        if not isinstance(keep, Tensor):
            raise TypeError(f"keep must be a tensor, but it is a {type(keep).__name__}")
        _check_dense("keep", keep)
        if keep.is_complex():
            raise TypeError(f"keep must be real or bool, but it is {keep.dtype}")
    # The older ONNX exporter makes tensors of flags.
    if not isinstance(return_gates, bool) and not torch.jit.is_tracing():
        raise TypeError(f"return_gates must be True or False, but it is {return_gates!r}")


def _check_dense(name: str, tensor: Tensor) -> None:
    if tensor.is_nested or tensor.layout != torch.strided:
        kind = "nested" if tensor.is_nested else tensor.layout
        raise TypeError(f"{name} must be a dense tensor, but it is {kind}")


def read(
    gru: GRU,
    input: Tensor | PackedSequence,
    hx: State | None,
    lengths: Tensor | Sequence[int] | None,
    keep: Tensor | None,
    return_gates: bool = False,
) -> tuple[Form, Inputs]:
    """Check the arguments of a call, and bring them into one form."""
    form = _read_form(gru, input, hx, plain=keep is None and not return_gates)
    packed = form.packed
    inputs = Inputs(
        x=in_dtype(form.x, form.compute),
        states=_read_states(gru, hx, form),
        keep=None if keep is None else _read_keep(gru, keep, form),
        lengths=None if lengths is None else _read_lengths(lengths, form),
        batch_sizes=None if packed is None else packed.batch_sizes,
    )
    return form, inputs


def write(
    gru: GRU, form: Form, outputs: StackOutputs, return_gates: bool
) -> GRUResult | GRUResultWithGates:
    """Give the results of a stack the form of the call."""
    output = _write_sequence(outputs.output, form)
    h_n = _write_states(gru, outputs.states, form)
    if not return_gates:
        return GRUResult(output, h_n)
    by_name: dict[str, tuple] = {"r": ()}
    for index, name in enumerate(GATES[gru.reset]):
        by_name[name] = tuple(
            _write_sequence(gates[index], form) for gates in outputs.gates if gates is not None
        )
    return GRUResultWithGates(output, h_n, Gates(by_name["r"], by_name["z"], by_name["n"]))


def _read_form(gru: GRU, input: Tensor | PackedSequence, hx: State | None, plain: bool) -> Form:
    if isinstance(input, PackedSequence):
        packed, data = input, input.data
    else:
        packed, data = None, input
    if packed is None and data.dim() not in (2, 3):
        raise ValueError(f"GRU: Expected input to be 2D or 3D, got {data.dim()}D instead")
    weight = getattr(gru, gru._flat_weights_names[0])
    _check_data(gru, data, weight)
    batched = packed is not None or data.dim() == 3
    batch_first = batched and packed is None and gru.batch_first
    if batch_first:
        data = data.transpose(0, 1)
    elif not batched:
        data = data.unsqueeze(1)
    if packed is None:
        batch = data.size(1)
    elif torch.compiler.is_compiling():
        batch = _compiled_packed_batch(packed, hx)
    else:
        batch = _packed_batch(packed)
    dtype = data.dtype if hx is None else _first(hx).dtype
    compute = torch.float64 if weight.dtype == torch.float64 else torch.float32
    own = gpu.call_dtype(gru, data, batch, packed is not None)
    own = _torchs.call_dtype(gru, data, plain) if own is None else own
    if own is not None:  # in half precision too, and under autocast with its results, as torch's
        dtype, compute = (own if dtype == data.dtype else dtype), own
    return Form(batched, batch_first, packed, data, batch, dtype, compute)


def _packed_batch(packed: PackedSequence) -> int:
    """Rows of a packed sequence, whose sizes must be those of its data."""
    sizes, rows = packed.batch_sizes.tolist(), packed.data.size(0)
    falling = all(this >= following for this, following in itertools.pairwise(sizes))
    if not sizes or not falling or sizes[-1] < 1 or sum(sizes) != rows:
        raise RuntimeError(
            f"input.batch_sizes must fall from step to step and add up to the {rows} rows of "
            f"input.data, but they are {sizes[:8]}{' ...' if len(sizes) > 8 else ''}"
        )
    return sizes[0]


def _compiled_packed_batch(packed: PackedSequence, hx: State | None) -> int:
    """As `_packed_batch`, from what a compiler knows: sizes are no constants of a graph."""
    if packed.sorted_indices is not None:
        return packed.sorted_indices.size(0)
    return int(packed.batch_sizes[0]) if hx is None else _first(hx).size(-2)


def _check_data(gru: GRU, data: Tensor, weight: Tensor) -> None:
    if data.device != weight.device:
        raise RuntimeError(
            "Input and parameter tensors are not at the same device, found input tensor at "
            f"{data.device} and parameter tensor at {weight.device}"
        )
    if data.dtype != weight.dtype and not torch._C._is_any_autocast_enabled():
        raise ValueError(
            f"RNN input dtype ({data.dtype}) does not match weight dtype ({weight.dtype}). "
            f"Convert input: input.to({weight.dtype}), or convert model: model.to({data.dtype})"
        )
    if not data.is_floating_point():
        raise TypeError(f"input must have a floating-point dtype, but it has {data.dtype}")
    if data.size(-1) != gru.input_size:
        raise RuntimeError(
            "input.size(-1) must be equal to input_size. "
            f"Expected {gru.input_size}, got {data.size(-1)}"
        )


def _first(hx: State) -> Tensor:
    return hx if isinstance(hx, Tensor) else hx[0]


def _read_states(gru: GRU, hx: State | None, form: Form) -> list[Tensor | None]:
    """The initial state of each layer, (directions, batch, hidden), or None for zeros."""
    if hx is None:
        return _initial_states(gru, form)
    directions = 1 + gru.bidirectional
    if gru.states_in_one_tensor:
        if not isinstance(hx, Tensor):
            raise TypeError(f"hx must be a tensor, but it is a {type(hx).__name__}")
        shape = (gru.num_layers * directions, form.batch, gru.hidden_size)
        state = _read_state(hx, shape, form)
        return [state] if gru.num_layers == 1 else list(state.split(directions))
    if isinstance(hx, Tensor) or len(hx) != gru.num_layers:
        came = "one tensor" if isinstance(hx, Tensor) else f"{len(hx)} of them"
        raise TypeError(
            "hx must be a sequence of tensors (directions, batch, hidden_size), one for each "
            f"layer, {gru.num_layers} in all, but it is {came}"
        )
    shapes = [(directions, form.batch, size) for size in gru.hidden_sizes]
    return [_read_state(h, shape, form) for h, shape in zip(hx, shapes, strict=True)]


def _initial_states(gru: GRU, form: Form) -> list[Tensor | None]:
    if gru.learn_hx:
        learnt = gru.initial_states()
        return [h[:, None].expand(-1, form.batch, -1).to(form.compute) for h in learnt]
    if form.packed is None:
        return [None] * gru.num_layers
    like = form.x.to(form.compute).new_zeros
    return [like(1 + gru.bidirectional, form.batch, size) for size in gru.hidden_sizes]


def _read_state(hx: Tensor, shape: tuple[int, int, int], form: Form) -> Tensor:
    dims = 3 if form.batched else 2
    if hx.dim() != dims:
        batched = "batched" if form.batched else "unbatched"
        raise RuntimeError(
            f"For {batched} {dims}-D input, hx should also be {dims}-D but got {hx.dim()}-D tensor"
        )
    if hx.device != form.x.device:
        raise RuntimeError(
            "Input and hidden tensors are not at the same device, found input tensor at "
            f"{form.x.device} and hidden tensor at {hx.device}"
        )
    hx = hx if form.batched else hx.unsqueeze(1)
    if hx.shape != shape:
        raise RuntimeError(
            f"Expected hidden size {shape}, got {list(hx.shape)}; hx is (num_layers * directions, "
            "batch, hidden_size), or (directions, batch, hidden_size) for each layer"
        )
    if hx.dtype != form.x.dtype and not torch._C._is_any_autocast_enabled():
        raise ValueError(f"hx must have input's dtype, {form.x.dtype}, but it has {hx.dtype}")
    return in_dtype(_sort(hx, form, dim=1), form.compute)


def _sort(rows: Tensor, form: Form, dim: int) -> Tensor:
    """The caller's rows in the order of a packed sequence."""
    if form.packed is None or form.packed.sorted_indices is None:
        return rows
    return rows.index_select(dim, form.packed.sorted_indices)


def _read_keep(gru: GRU, keep: Tensor, form: Form) -> Tensor:
    """`keep` as (time, batch, 1 or hidden)."""
    time = form.x.size(0) if form.packed is None else form.packed.batch_sizes.numel()
    first = (form.batch, time) if gru.batch_first else (time, form.batch)
    lead = first if form.batched else (time,)
    sizes = set(gru.hidden_sizes)
    a_row = keep.dim() == len(lead)
    if tuple(keep.shape[: len(lead)]) != lead or not (
        a_row or (keep.dim() == len(lead) + 1 and sizes == {keep.size(-1)})
    ):
        wanted = ", ".join(map(str, lead))
        by_unit = f" or ({wanted}, {gru.hidden_size})" if len(sizes) == 1 else ""
        raise ValueError(f"keep must be ({wanted}){by_unit}, but it is {tuple(keep.shape)}")
    if keep.device != form.x.device:
        raise ValueError(f"keep must be on {form.x.device}, but it is on {keep.device}")
    keep = keep.unsqueeze(-1) if a_row else keep
    if not form.batched:
        keep = keep.unsqueeze(1)
    elif gru.batch_first:
        keep = keep.transpose(0, 1)
    return in_dtype(_sort(keep, form, dim=1), form.compute)


def _read_lengths(lengths: Tensor | Sequence[int], form: Form) -> Tensor:
    if form.packed is not None:
        raise ValueError("lengths must be None with a PackedSequence, which has its own")
    return read_lengths(lengths, form.batch if form.batched else None, form.x)


def _write_sequence(sequence: Tensor, form: Form) -> Tensor | PackedSequence:
    sequence = in_dtype(sequence, form.dtype)
    if form.packed is not None:
        return PackedSequence(sequence, *form.packed[1:])
    if form.batch_first:
        return sequence.transpose(0, 1)
    return sequence if form.batched else sequence.squeeze(1)


def _write_states(gru: GRU, states: list[Tensor], form: Form) -> Tensor | tuple[Tensor, ...]:
    if gru.states_in_one_tensor:
        return _write_state(states[0] if len(states) == 1 else torch.cat(states), form)
    return tuple(_write_state(state, form) for state in states)


def _write_state(state: Tensor, form: Form) -> Tensor:
    state = in_dtype(state, form.dtype)
    if not form.batched:
        return state.squeeze(1)
    if form.packed is None or form.packed.unsorted_indices is None:
        return state
    return state.index_select(1, form.packed.unsorted_indices)
