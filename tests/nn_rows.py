"""A stack of layers in float64, row by row and step by step, every option written out.

Rows share nothing but parameters and what was drawn for them: a length is a slice, and no step is
masked. All of it is torch operations, so that it has derivatives of every order.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tidegate.nn import GRU
from tidegate.nn._draw import draw

EPSILON = 1e-5  # of layer normalisation
Parameters = dict[str, Tensor]


class Drawn(NamedTuple):
    """What one layer draws for a call; None where it draws nothing."""

    weights: list[Tensor] | None  # (gates * hidden, seen) of each direction
    mask: Tensor | None  # (directions, batch, hidden)
    zone: Tensor | None  # (time, batch, directions * hidden)
    dropout: Tensor | None  # (time, batch, directions * seen)


class Rows(NamedTuple):
    """The results of a stack: lists of rows, each as long as it is."""

    output: list[Tensor]  # (length, directions * seen)
    states: list[Tensor]  # of each layer (directions, batch, hidden)
    gates: list[list[Tensor]]  # of each layer and row (length, gates, directions * hidden)


def drawn(gru: GRU, lengths: list[int], time: int, packed: bool, dtype: torch.dtype) -> list[Drawn]:
    """Draw what a call draws, in its order; `dtype` is the one that is computed in."""
    batch, directions, found = len(lengths), 1 + gru.bidirectional, []
    for layer, hidden in enumerate(gru.hidden_sizes):
        weights = mask = zone = dropout = None
        if gru.training and gru.weight_dropout:
            shapes = [getattr(gru, f"weight_hh_l{layer}{s}").shape for s in suffixes(gru)]
            weights = [_ones_dropped(shape, gru.weight_dropout, dtype) for shape in shapes]
        if gru.training and gru.recurrent_dropout:
            mask = _ones_dropped((directions, batch, hidden), gru.recurrent_dropout, dtype)
        if gru.zoneout:
            shape = (time, batch, directions * hidden)
            zone = torch.full(shape, gru.zoneout, dtype=torch.float64)
            if gru.training:
                zone = draw(shape, gru.zoneout, torch.empty(0, dtype=dtype)).double()
        if gru.training and gru.dropout and layer < gru.num_layers - 1:
            width = directions * (gru.proj_size or hidden)
            dropout = _between_layers(gru.dropout, lengths, time, width, packed, dtype)
        found.append(Drawn(weights, mask, zone, dropout))
    return found


def _between_layers(chance, lengths, time, width, packed, dtype) -> Tensor:
    if not packed:
        return _ones_dropped((time, len(lengths), width), chance, dtype)
    valid = torch.arange(time)[:, None] < torch.tensor(lengths)
    dropout = torch.zeros(time, len(lengths), width, dtype=torch.float64)
    dropout[valid] = _ones_dropped((sum(lengths), width), chance, dtype)
    return dropout


def _ones_dropped(shape, chance: float, dtype: torch.dtype) -> Tensor:
    return F.dropout(torch.ones(shape, dtype=dtype), chance).double()


def suffixes(gru: GRU) -> list[str]:
    """Ends of the names of the parameters of each direction."""
    return ["", "_reverse"][: 1 + gru.bidirectional]


def by_rows(
    gru: GRU,
    parameters: Parameters,
    x: Tensor,
    states: list[Tensor],
    keep: Tensor | None,
    lengths: list[int],
    draws: list[Drawn],
) -> Rows:
    """Run a stack on x (time, batch, input), `keep` (time, batch, 1 or hidden) as a layer's."""
    below = [x[:length, row] for row, length in enumerate(lengths)]
    last_states, all_gates = [], []
    for layer, of_layer in enumerate(draws):
        top = layer == gru.num_layers - 1
        results = [
            _row(gru, parameters, layer, row, x_row, states[layer], keep, of_layer)
            for row, x_row in enumerate(below)
        ]
        output, h_n, gates = (list(kind) for kind in zip(*results, strict=True))
        last_states.append(torch.stack(h_n, 1))
        all_gates.append(gates)
        if of_layer.dropout is not None:
            output = [o * of_layer.dropout[: len(o), row] for row, o in enumerate(output)]
        if gru.stack == "residual" and output[0].size(-1) == below[0].size(-1):
            output = [o + b for o, b in zip(output, below, strict=True)]
        if gru.stack == "dense" and not top:
            output = [torch.cat((b, o), -1) for o, b in zip(output, below, strict=True)]
        below = output
    return Rows(below, last_states, all_gates)


def _row(gru, parameters, layer, row, x, states, keep, draws) -> tuple[Tensor, Tensor, Tensor]:
    """Both directions of one layer over one row."""
    hidden, length = gru.hidden_sizes[layer], len(x)
    count = 2 if gru.reset == "none" else 3
    outputs, h_n, gates = [], [], []
    for d, suffix in enumerate(suffixes(gru)):
        end = f"_l{layer}{suffix}"
        w = {n.removesuffix(end): p for n, p in parameters.items() if n.endswith(end)}
        if draws.weights is not None:
            w["weight_hh"] = w["weight_hh"] * draws.weights[d]
        if "weight_hr" in w:
            w["weight_hh"] = w["weight_hh"] @ w["weight_hr"]
        h, seen = states[d, row], [x.new_zeros(hidden)] * length
        opened = [x.new_zeros(count, hidden)] * length
        for t in reversed(range(length)) if d else range(length):
            kept = h if keep is None else keep[t, row] * h
            met = kept if draws.mask is None else kept * draws.mask[d, row]
            h, opened[t] = _step(gru.reset, w, x[t], kept, met)
            if draws.zone is not None:
                zone = draws.zone[t, row, d * hidden : (d + 1) * hidden]
                h = zone * kept + (1 - zone) * h
            seen[t] = h
        output = torch.stack(seen) if length else x.new_zeros(0, hidden)
        outputs.append(output @ w["weight_hr"].T if "weight_hr" in w else output)
        h_n.append(h)
        gates.append(torch.stack(opened) if length else x.new_zeros(0, count, hidden))
    return torch.cat(outputs, -1), torch.stack(h_n), torch.cat(gates, -1)


def _step(reset: str, w: Parameters, x: Tensor, h: Tensor, met: Tensor) -> tuple[Tensor, Tensor]:
    """The next state (hidden,), and the gates; `met` is the state as the weights see it."""
    some, rest = slice(None, -len(h)), slice(-len(h), None)
    opened = torch.sigmoid(_product(w, "ih", some, x) + _product(w, "hh", some, met))
    r, z = (None, opened) if reset == "none" else opened.chunk(2)
    if reset == "before":
        n = torch.tanh(_product(w, "ih", rest, x) + _product(w, "hh", rest, r * met))
    else:
        of_h = _product(w, "hh", rest, met)
        n = torch.tanh(_product(w, "ih", rest, x) + (of_h if r is None else r * of_h))
    gates = (z, n) if r is None else (r, z, n)
    return (1 - z) * n + z * h, torch.stack(gates)


def _product(w: Parameters, side: str, rows: slice, v: Tensor) -> Tensor:
    product = w[f"weight_{side}"][rows] @ v
    if f"norm_{side}" in w:
        centred = product - product.mean()
        product = centred / (centred.square().mean() + EPSILON).sqrt() * w[f"norm_{side}"][rows]
    return product + w[f"bias_{side}"][rows] if f"bias_{side}" in w else product
