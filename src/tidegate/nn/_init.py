"""Initial values of a GRU's parameters.

The update gate is z = sigmoid(W x + U h + b), and the state keeps the share z of itself. Small
weights do not hold it open or shut: the sigmoid of zero is one half, and a state that keeps half of
itself has forgotten a thousandth after ten steps. It is the bias that sets how long a unit
remembers: with z = sigmoid(b) the memory decays over 1 + exp(b) steps.
"""

from __future__ import annotations

import math
import re
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import init

INITS = ("torch", "orthogonal", "chrono")


def uniform_(gru: nn.GRU, hidden_sizes: tuple[int, ...]) -> None:
    """As torch does: every weight and bias uniform within 1 / sqrt(hidden_size)."""
    for name, parameter in gru.named_parameters():
        if name.startswith("norm_"):
            init.ones_(parameter)
        elif name.startswith("hx_"):
            init.zeros_(parameter)
        else:
            layer = re.search(r"_l(\d+)", name)
            bound = 1 / math.sqrt(hidden_sizes[int(layer[1]) if layer else 0])
            init.uniform_(parameter, -bound, bound)


def orthogonal_(gru: nn.GRU) -> None:
    """Make each gate's recurrent matrix orthogonal: products of many neither grow nor fade."""
    for name, parameter in gru.named_parameters():
        if "weight_hh" in name:
            gates = parameter.size(0) // _hidden(gru, name)
            for block in parameter.detach().chunk(gates):
                init.orthogonal_(block)


def chrono_(gru: nn.GRU, shortest: float, longest: float) -> None:
    """Draw memories between `shortest` and `longest` steps, and the update biases that give them.

    Tallec & Ollivier 2018 (arXiv:1804.11188): for a memory of T steps, log(T - 1).
    """
    for name, parameter in gru.named_parameters():
        if "bias_" in name:
            hidden = _hidden(gru, name)
            update = parameter.detach()[-2 * hidden : -hidden]
            if "bias_ih" in name:
                update.copy_(_memories(update, shortest, longest).sub(1).log())
            else:
                update.zero_()


def _memories(like: Tensor, shortest: float, longest: float) -> Tensor:
    return torch.empty_like(like).uniform_(shortest, longest)


def _hidden(gru: nn.GRU, name: str) -> int:
    layer = int(re.sub(r".*_l(\d+).*", r"\1", name))
    sizes = cast("tuple[int, ...] | None", getattr(gru, "hidden_sizes", None))
    return sizes[layer] if sizes else gru.hidden_size
