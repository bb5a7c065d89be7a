"""A plain call, by the shortest way.

A short sequence takes the kernels less time than Python takes for a call with every option. Here is
what `_call`, `_stack` and `_road` come to where none is used: the same kernels, the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.utils.rnn import PackedSequence

from tidegate import _kernels
from tidegate.nn._autograd import EagerLayer
from tidegate.nn._layer import Direction, Plan
from tidegate.nn._packing import pack_direction
from tidegate.nn._result import GRUResult

if TYPE_CHECKING:
    from tidegate.nn._gru import GRU


def run(
    gru: GRU, x: Tensor | PackedSequence, hx: Tensor | Sequence[Tensor] | None
) -> GRUResult | None:
    """The results of a call, or None where it is not plain."""
    if not isinstance(x, Tensor) or not (hx is None or isinstance(hx, Tensor)):
        return None
    if not (_is_plain_moment() and _is_plain_module(gru) and _is_plain_input(gru, x, hx)):
        return None
    weights = _plain_weights(gru, x.dtype)
    if weights is None:
        return None
    if not _needs_gradient(x, hx, weights):
        return _run(gru, x, hx, weights)
    return _train(gru, x, hx, weights) if gru.num_layers == 1 else None


def are_whole(gru: GRU, x: Tensor | PackedSequence, lengths: Tensor | Sequence[int]) -> bool:
    """Whether these lengths say no more than the shape of x does."""
    if torch.compiler.is_compiling() or not _is_plain_moment():
        return False
    if type(x) is not Tensor or x.dim() != 3:
        return False
    time, batch = (x.size(axis) for axis in ((1, 0) if gru.batch_first else (0, 1)))
    if isinstance(lengths, (list, tuple)):
        return len(lengths) == batch and all(type(n) is int and n == time for n in lengths)
    if not isinstance(lengths, Tensor) or type(lengths) is not Tensor or not lengths.is_cpu:
        return False
    if lengths.shape != (batch,) or lengths.dtype not in _WHOLE_NUMBERS:
        return False
    return bool(lengths.eq(time).all())


def _is_plain_moment() -> bool:
    """Whether nobody looks on: no tracing, no transform, no autocast."""
    return not (
        torch._C._is_any_autocast_enabled()
        or torch._C._is_tracing()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def _is_plain_module(gru: GRU) -> bool:
    return (
        gru.stack == "plain"
        and gru.states_in_one_tensor
        and not (gru.learn_hx or gru.zoneout)
        and not (gru.training and (gru.dropout or gru.recurrent_dropout or gru.weight_dropout))
    )


def _is_plain_input(gru: GRU, x: Tensor, hx: Tensor | None) -> bool:
    dtype, shape = x.dtype, x.shape
    if type(x) is not Tensor or len(shape) != 3 or 0 in shape or not x.is_cpu:
        return False
    if shape[2] != gru.input_size or x.stride(2) != 1:
        return False
    if dtype is not torch.float32 and dtype is not torch.float64:
        return False
    if hx is None:
        return True
    layers = gru.num_layers * (1 + gru.bidirectional)
    return (
        type(hx) is Tensor
        and hx.dtype is dtype
        and hx.is_cpu
        and hx.shape == (layers, shape[not gru.batch_first], gru.hidden_size)
        and hx.is_contiguous()
    )


def _plain_weights(gru: GRU, dtype: torch.dtype) -> list[Direction] | None:
    """The parameters of each direction of each layer; None if they are not plain tensors."""
    parameters, found = gru._parameters, []
    for names in gru._all_weights:
        weights: list[Tensor] = []
        for name in names:
            weight = parameters.get(name)
            if weight is None or type(weight) not in _TENSORS:
                return None
            if weight.dtype is not dtype or not weight.is_cpu:
                return None
            weights.append(weight)
        biases = weights[2:4] if gru.bias else _NO_BIASES
        norms = weights[-2:] if gru.layer_norm else ()
        found.append(Direction(weights[0], weights[1], *biases, *norms))
    return found


def _needs_gradient(x: Tensor, hx: Tensor | None, weights: list[Direction]) -> bool:
    if not torch.is_grad_enabled():
        return False
    if x.requires_grad or (hx is not None and hx.requires_grad):
        return True
    return any(w.requires_grad for of_direction in weights for w in of_direction if w is not None)


def _train(gru: GRU, x: Tensor, hx: Tensor | None, weights: list[Direction]) -> GRUResult:
    """One layer, under autograd."""
    first, directions = gru.batch_first, 1 + gru.bidirectional
    plan = Plan(gru.reset, directions, gru.bias, gru.layer_norm, first)
    flat = [weight for of_direction in weights for weight in of_direction if weight is not None]
    x = x.transpose(0, 1) if first else x
    output, h_n, _ = EagerLayer.apply(plan, gru.memory == "save", x, hx, *_ABSENT_TENSORS, *flat)
    return GRUResult(output.transpose(0, 1) if first else output, h_n)


def _run(gru: GRU, x: Tensor, hx: Tensor | None, weights: list[Direction]) -> GRUResult:
    """Every layer, without gradients."""
    directions, hidden, first = 1 + gru.bidirectional, gru.hidden_size, gru.batch_first
    features, strides, threads = x.size(2), x.stride(), torch.get_num_threads()
    if first:
        (batch, time, _), (x_batch, x_time, _) = x.shape, strides
    else:
        (time, batch, _), (x_time, x_batch, _) = x.shape, strides
    units, rows, reset, layers = directions * hidden, time * batch, gru.reset, gru.num_layers
    h_n = x.new_empty(layers * directions, batch, hidden)
    h_n_at, h_0_at = h_n.data_ptr(), 0 if hx is None else hx.data_ptr()
    step = units * batch * x.element_size()
    for layer in range(layers):
        sizes, at = (features, hidden), layer * directions
        packed = pack_direction(weights[at], reset, rows, False, sizes)
        reverse = None
        if directions == 2:
            reverse = pack_direction(weights[at + 1], reset, rows, False, sizes)
        if first and layer == layers - 1:  # below the top all is time first, as in `_stack`
            output, output_time, output_batch = x.new_empty(batch, time, units), units, time * units
        else:
            output, output_time, output_batch = (
                x.new_empty(time, batch, units),
                batch * units,
                units,
            )
        _kernels.gru_forward(
            packed,
            reverse,
            threads,
            time,
            batch,
            x.data_ptr(),
            x_time,
            x_batch,
            *_ABSENT,
            h_0_at and h_0_at + layer * step,
            output.data_ptr(),
            output_time,
            output_batch,
            h_n_at + layer * step,
            0,  # saved
            0,  # gates
            0,
        )
        x, features, x_time, x_batch = output, units, output_time, output_batch
    return GRUResult(x, h_n)


_WHOLE_NUMBERS = (torch.int64, torch.int32, torch.int16, torch.int8)
_TENSORS = (Tensor, torch.nn.Parameter)
_NO_BIASES = (None, None)
_ABSENT = (0,) * 7  # offsets, lengths, keep and its three strides, mask
_ABSENT_TENSORS = (None,) * 5  # keep, mask, zone, lengths, batch_sizes
