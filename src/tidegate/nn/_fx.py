"""Symbolic tracing: a recurrent module is one node of the graph, as torch's own are."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.fx import Proxy


def call(module: nn.Module, input: Proxy, **others) -> Any:
    """A node for the call of a module, in place of its result; absent arguments are left out."""
    given = {name: value for name, value in others.items() if value is not None}
    tracer: Any = input.tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(module), (input,), given)
