"""A layer whose input is whole numbers: each step has a one at that place, and zeros elsewhere.

The input product is then a column of `weight_ih`, and the gradient of a column is the sum over the
steps that took it: nothing is multiplied. An embedding before a layer is of this kind too, its
product with `weight_ih` worked out once a token instead of once a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from tidegate import _kernels
from tidegate.nn._kernel import address, gates_buffer, steps
from tidegate.nn._layer import Direction, Layer, Plan
from tidegate.nn._packing import pack_direction
from tidegate.nn._stack import Inputs, Regularisers, parameter_kinds, run

if TYPE_CHECKING:
    from tidegate.nn._gru import GRU
    from tidegate.nn._min_gru import MinGRU


class TokenLayer(NamedTuple):
    """A layer of one direction; `gates` is 3, or 2 without a reset gate."""

    tokens: Tensor  # int64 (time, batch), contiguous, on the CPU
    h_0: Tensor  # (1, batch, hidden)
    keep: Tensor | None  # (time, batch, 1)
    mask: Tensor | None  # (1, batch, hidden)
    weight_ih: Tensor  # (gates * hidden, vocabulary)
    weight_hh: Tensor  # (gates * hidden, hidden)
    bias_ih: Tensor
    bias_hh: Tensor


def gru_of_tokens(layer: TokenLayer, reset: str) -> tuple[Tensor, Tensor]:
    """Run the layer; return its output (time, batch, hidden) and h_n (1, batch, hidden).

    Raises:
        IndexError: a token is outside the vocabulary.
        TypeError: the tokens are not int64, or the tensors are not on the CPU.
    """
    tokens = layer.tokens
    if tokens.dtype != torch.int64 or not all(
        t.device.type == "cpu" for t in layer if t is not None
    ):
        raise TypeError(
            f"tokens must be int64 on the CPU, but are {tokens.dtype} on {tokens.device}"
        )
    if tokens.numel():
        least, most = (int(extreme) for extreme in tokens.aminmax())
        if least < 0 or most >= layer.weight_ih.size(1):
            wrong = least if least < 0 else most
            raise IndexError(f"tokens must be below {layer.weight_ih.size(1)}, but one is {wrong}")
    return _TokenFunction.apply(reset, torch.is_grad_enabled(), *layer)


_NO_GATES, _NO_ZONE = (0, 0, 0, 0), (0, 0, 0, 0)


class _TokenFunction(Function):
    """The kernels, told where the ones are."""

    @staticmethod
    def forward(ctx, reset: str, save: bool, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        given = TokenLayer(*tensors)
        layer = _as_layer(given)
        time, batch = given.tokens.shape
        sizes = given.weight_ih.size(1), given.h_0.size(-1)
        forward = pack_direction(Direction(*given[4:]), reset, time * batch, save, sizes)
        output = given.h_0.new_empty(time, batch, given.h_0.size(-1))
        saved = gates_buffer(output, 1, _kernels.saved_size(forward, time * batch) if save else 0)
        h_n = torch.empty_like(given.h_0)
        addresses = [
            *_read(layer),
            *_sequence(output),
            h_n.data_ptr(),
            address(saved if save else None),
            *_NO_GATES[:2],
            *_NO_ZONE,
            given.tokens.data_ptr(),
        ]
        _kernels.gru_forward(forward, None, torch.get_num_threads(), *addresses)
        if save:
            ctx.save_for_backward(output, saved, *tensors)
            ctx.packed = forward
            ctx.set_materialize_grads(False)
        return output, h_n

    @staticmethod
    @once_differentiable
    def backward(ctx, *d_outputs: Tensor | None):  # pyrefly: ignore[bad-override]
        output, saved, *tensors = ctx.saved_tensors
        given = TokenLayer(*tensors)
        d_output, d_h_n = (None if d is None else d.contiguous() for d in d_outputs)
        d_h_0 = torch.empty_like(given.h_0) if ctx.needs_input_grad[3] else None
        d_weights = [torch.empty_like(weight) for weight in given[4:]]
        addresses = [
            *_read(_as_layer(given)),
            *_sequence(output),
            saved.data_ptr(),
            *_sequence(d_output),
            address(d_h_n),
            *_NO_GATES,
            *_sequence(None),  # d_x
            address(d_h_0),
            0,  # d_keep
            *map(address, d_weights),
            *_NO_ZONE,
            given.tokens.data_ptr(),
        ]
        _kernels.gru_backward(ctx.packed, None, torch.get_num_threads(), *addresses)
        return None, None, None, d_h_0, None, None, *d_weights


def _as_layer(given: TokenLayer) -> Layer:
    x = given.tokens.unsqueeze(-1)
    return Layer(x, given.h_0, given.keep, given.mask, None, None, None, list(given[4:]))


def _read(layer: Layer) -> list[int]:
    """The arguments of a call from `time` to `h_0`, in the order of the kernels."""
    time, batch, _ = layer.x.shape
    keep, mask, h_0 = layer.keep, layer.mask, layer.h_0
    places = (batch, 1, 0, 0)  # x_time, x_batch, offsets, lengths
    return [time, batch, 0, *places, *_sequence(keep), 0, address(mask), address(h_0)]


def _sequence(states: Tensor | None) -> list[int]:
    """Where a sequence (time, batch, ...) is, and their strides."""
    return [address(states), *steps(states)]


def min_gru_of_embedding(
    layers: MinGRU, tokens: Tensor, embedding: Tensor, states: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What `layers` give for `embedding[tokens]`, and their last states.

    Args:
        layers: of one direction, time first.
        tokens: (time, batch), int64.
        embedding: (vocabulary, input_size).
        states: (layers, batch, hidden).
        keep: (time, batch).
    """
    x_gates = F.embedding(tokens, layers._product(embedding, "l0"))
    output, h_n, _, _ = layers._run([x_gates], states, None if keep is None else keep[..., None])
    return output, h_n


def gru_of_embedding(
    gru: GRU, tokens: Tensor, embedding: Tensor, states: list[Tensor], keep: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """What `gru` gives for `embedding[tokens]`, with its dropouts, and the state of each layer.

    Args:
        gru: of one direction, time first, with biases, a plain stack without normalisation and
            zoneout.
        tokens: (time, batch), int64.
        embedding: (vocabulary, input_size).
        states: of each layer, (1, batch, hidden).
        keep: (time, batch).
    """
    first, *rest = gru._weights(embedding.dtype)
    weight_ih, weight_hh, *biases = first
    if gru.training and gru.weight_dropout:
        weight_hh = F.dropout(weight_hh, gru.weight_dropout)
    mask = None
    if gru.training and gru.recurrent_dropout:
        mask = F.dropout(torch.ones_like(states[0]), gru.recurrent_dropout)
    keep = None if keep is None else keep[..., None]
    columns = weight_ih @ embedding.T
    layer = TokenLayer(tokens.contiguous(), states[0], keep, mask, columns, weight_hh, *biases)
    output, h_n = gru_of_tokens(layer, gru.reset)
    if not rest:
        return output, [h_n]
    output = F.dropout(output, gru.dropout, gru.training)
    chances = Regularisers(
        gru.dropout, gru.recurrent_dropout, 0.0, gru.weight_dropout, gru.training
    )
    kinds = parameter_kinds(True, 0, False)
    above = run(
        Inputs(output, list(states[1:]), keep, None, None),
        rest,
        kinds,
        Plan(gru.reset),
        "plain",
        chances,
        gru.memory == "save",
    )
    return above.output, [h_n, *above.states]
