"""A layer on a GPU through torch's own GRU, where our kernels do not run and it has the options.

A plain call of eager torch never comes here: it goes to torch as a whole. What comes is a layer
with lengths, of a stack of ours, or in a compiled graph, each far faster so than step by step.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tidegate.nn import _functional
from tidegate.nn._layer import Layer, Outputs, Plan, check_length_values, hidden_size

if TYPE_CHECKING:
    from tidegate.nn._gru import GRU


def runs(layer: Layer, plan: Plan) -> bool:
    """Whether torch's own GRU computes this layer."""
    given = [t for t in (layer.x, layer.h_0, *layer.weights) if t is not None]
    return (
        is_at_home(layer.x)
        and plan.reset == "after"
        and not (plan.norm or plan.gates)
        and layer.keep is layer.mask is layer.zone is None
        and layer.x.numel() > 0
        and all(t.dtype == layer.x.dtype for t in given)
        # What is packed by lengths is packed on the host, which a captured graph cannot wait for.
        and not (layer.lengths is not None and _is_captured(layer.x))
    )


def is_at_home(x: Tensor) -> bool:
    """Whether torch's own GRU is the fast one where x lies."""
    return x.is_cuda


def call_dtype(gru: GRU, data: Tensor, plain: bool) -> torch.dtype | None:
    """What torch computes a call in, without `keep` and gates if `plain`; None if it does not."""
    noise = gru.recurrent_dropout and gru.training
    lacks = gru.reset != "after" or gru.layer_norm or gru.zoneout or noise
    if not plain or lacks or not is_at_home(data):
        return None
    device = data.device.type
    if data.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return data.dtype
    return torch.get_autocast_dtype(device)


def gru_layer(layer: Layer, plan: Plan) -> Outputs:
    """Run a layer; its gradients are torch's."""
    with torch.autocast(layer.x.device.type, enabled=False):
        if layer.lengths is not None:
            output, h_n = _ragged(layer, plan, layer.lengths)
        else:
            output, h_n = _run(layer, plan, layer.x, layer.batch_sizes, _state(layer, plan))
        return Outputs(_functional.by_batch(output, plan), h_n, None)


def _ragged(layer: Layer, plan: Plan, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Pack the rows by their lengths, run, and lay them out again."""
    time, on_host, x, h_0 = layer.x.size(0), lengths.cpu(), layer.x, _state(layer, plan)
    check_length_values(on_host, time)
    some_empty = not on_host.all()
    there = (lengths > 0)[:, None]
    if some_empty:  # packed rows have a step at least: it is zero, and nothing is seen of it
        x = torch.where(there, x, 0)
    packed = pack_padded_sequence(x, on_host.clamp(min=1), enforce_sorted=False)
    assert packed.sorted_indices is not None
    assert packed.unsorted_indices is not None
    state = h_0.index_select(1, packed.sorted_indices)
    output, h_n = _run(layer, plan, packed.data, packed.batch_sizes, state)
    output, _ = pad_packed_sequence(packed._replace(data=output), total_length=time)
    h_n = h_n.index_select(1, packed.unsorted_indices)
    if some_empty:
        output, h_n = torch.where(there, output, 0), torch.where(there, h_n, h_0)
    return output, h_n


def _state(layer: Layer, plan: Plan) -> Tensor:
    if layer.h_0 is not None:
        return layer.h_0.contiguous()
    sizes = layer.batch_sizes
    batch = layer.x.size(1) if sizes is None else int(sizes[0])
    return layer.x.new_zeros(plan.directions, batch, hidden_size(layer))


def _run(
    layer: Layer, plan: Plan, x: Tensor, batch_sizes: Tensor | None, h_0: Tensor
) -> tuple[Tensor, Tensor]:
    weights, both = list(layer.weights), plan.directions == 2
    training = torch.is_grad_enabled() and any(t.requires_grad for t in (x, h_0, *weights))
    with _no_word_of_layout():
        if batch_sizes is None:
            return torch.gru(x, h_0, weights, plan.bias, 1, 0.0, training, both, False)
        return torch.gru(x, batch_sizes, h_0, weights, plan.bias, 1, 0.0, training, both)


@contextlib.contextmanager
def _no_word_of_layout() -> Iterator[None]:
    """A layer of several does not have the layout that cuDNN wants of a whole module."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous")
        yield


def _is_captured(x: Tensor) -> bool:
    return x.is_cuda and torch.cuda.is_current_stream_capturing()
