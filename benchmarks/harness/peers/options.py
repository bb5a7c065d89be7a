"""The layer of Tidegate with each of its options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from harness.cases import Case, inputs
from harness.runner import Runner
from tidegate.nn import GRU

PLAIN = "plain"
TWO = "two layers"
RAGGED = "lengths from 1 to T"


class Option(NamedTuple):
    """Arguments of the constructor, and of the call for a case."""

    layer: dict[str, Any] = {}  # noqa: RUF012
    call: Callable[[Case], dict[str, Any]] = lambda _: {}
    neutral: bool = False  # whether the results are those of the plain layer
    beside: str = PLAIN  # what it is compared with


OPTIONS = {
    PLAIN: Option(neutral=True),
    "memory=recompute": Option({"memory": "recompute"}, neutral=True),
    "return_gates": Option(call=lambda _: {"return_gates": True}, neutral=True),
    "lengths, all T": Option(call=lambda c: {"lengths": [c.time] * c.batch}, neutral=True),
    RAGGED: Option(call=lambda c: {"lengths": ragged(c)}),
    "keep, one a row": Option(call=lambda c: {"keep": torch.ones(c.time, c.batch)}, neutral=True),
    "keep, one a unit": Option(
        call=lambda c: {"keep": torch.ones(c.time, c.batch, c.hidden)}, neutral=True
    ),
    "reset=before": Option({"reset": "before"}),
    "reset=none": Option({"reset": "none"}),
    "recurrent_dropout": Option({"recurrent_dropout": 0.1}),
    "weight_dropout": Option({"weight_dropout": 0.1}),
    "zoneout": Option({"zoneout": 0.1}),
    "layer_norm": Option({"layer_norm": True}),
    "learn_hx": Option({"learn_hx": True}),
    "proj_size=16": Option({"proj_size": 16}),
    TWO: Option({"num_layers": 2}),
    "two layers, dropout": Option({"num_layers": 2, "dropout": 0.1}, beside=TWO),
    "two layers, residual": Option({"num_layers": 2, "stack": "residual"}, beside=TWO),
    "two layers, dense": Option({"num_layers": 2, "stack": "dense"}, beside=TWO),
}


def prepare(case: Case) -> dict[str, Runner]:
    """A runner for each option."""
    torch.set_num_threads(case.threads)
    return {name: _runner(option, case) for name, option in OPTIONS.items()}


def ragged(case: Case) -> list[int]:
    """Lengths spread evenly from one to the time, in no order."""
    lengths = np.linspace(1, case.time, case.batch).astype(int)
    return np.random.default_rng(0).permutation(lengths).tolist()


def _runner(option: Option, case: Case) -> Runner:
    torch.manual_seed(0)
    numbers = inputs(case)
    layer = GRU(case.input, case.hidden, **option.layer).train(case.mode == "training")
    if option.neutral:
        layer.load_state_dict(_state(numbers.weights[0]._asdict()))
    width = layer.proj_size or layer.hidden_size
    x, d_output = torch.from_numpy(numbers.x), torch.from_numpy(numbers.d_output[..., :width])
    arguments = option.call(case)
    call = _training if case.mode == "training" else _inference
    return call(layer, x, arguments, d_output)


def _state(weights: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {f"{name}_l0": torch.from_numpy(array) for name, array in weights.items()}


def _arrays(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    return [tensor.detach().numpy() for tensor in tensors]


def _inference(layer: nn.Module, x: Tensor, arguments: dict[str, Any], _: Tensor) -> Runner:
    @torch.inference_mode()
    def call() -> Sequence[Tensor]:
        return layer(x, **arguments)

    return Runner(call, lambda: _arrays(call()[:2]))


def _training(layer: nn.Module, x: Tensor, arguments: dict[str, Any], d_output: Tensor) -> Runner:
    wanted = [x.requires_grad_(), *layer.parameters()]

    def call() -> Sequence[Tensor]:
        return torch.autograd.grad(layer(x, **arguments)[0], wanted, d_output)

    return Runner(call, lambda: _arrays(call()))
