"""Runners of a class with the interface of `torch.nn.GRU`: ours and torch's, by the same code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from harness.cases import Case, inputs
from harness.memory import kept_by
from harness.peers import STREAMED_STEPS
from harness.runner import Runner

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def runner(gru: Callable[..., nn.Module], case: Case, dtype: torch.dtype = torch.float32) -> Runner:
    """How a module made by `gru`, called as torch's class is, computes a case."""
    torch.set_num_threads(case.threads)
    numbers = inputs(case)
    x, h_0, d_output = (
        torch.from_numpy(array).to(dtype) for array in (numbers.x, numbers.h_0, numbers.d_output)
    )
    module = gru(case.input, case.hidden, case.layers, bidirectional=case.directions == 2).to(dtype)
    weights = _load(module, numbers.weights)
    mode = {"inference": _inference, "training": _training, "stream": _stream}[case.mode]
    return mode(module, weights, x, h_0, d_output)


def _load(module: nn.Module, directions: Sequence[Sequence[np.ndarray]]) -> list[Tensor]:
    """Set the parameters, return them in the order of `Inputs.weights`."""
    count = 2 if module.bidirectional else 1
    parameters = [
        getattr(module, f"{name}_l{i // count}" + "_reverse" * (i % count))
        for i in range(len(directions))
        for name in NAMES
    ]
    with torch.no_grad():
        for parameter, array in zip(parameters, chain(*directions), strict=True):
            parameter.copy_(torch.from_numpy(array))
    return parameters


def _arrays(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    return [tensor.detach().numpy() for tensor in tensors]


def _inference(
    module: nn.Module, weights: list[Tensor], x: Tensor, h_0: Tensor, _: Tensor
) -> Runner:
    @torch.inference_mode()
    def call() -> Sequence[Tensor]:
        return module(x, h_0)

    return Runner(call, lambda: _arrays(call()[:2]))


def _training(
    module: nn.Module, weights: list[Tensor], x: Tensor, h_0: Tensor, d_output: Tensor
) -> Runner:
    wanted = [x.requires_grad_(), h_0.requires_grad_(), *weights]

    def forward() -> Sequence[Tensor]:
        return module(x, h_0)

    def call() -> Sequence[Tensor]:
        return torch.autograd.grad(forward()[0], wanted, d_output)

    return Runner(call, lambda: _arrays([*forward()[:2], *call()]), lambda: kept_by(forward))


def _stream(module: nn.Module, weights: list[Tensor], x: Tensor, h_0: Tensor, _: Tensor) -> Runner:
    state = h_0

    @torch.inference_mode()
    def call() -> None:
        nonlocal state
        state = module(x, state)[1]

    def results() -> list[np.ndarray]:
        nonlocal state
        state = h_0
        for _ in range(STREAMED_STEPS):
            call()
        return _arrays([state])

    return Runner(call, results)
