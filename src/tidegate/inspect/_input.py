"""What a user gives (a module with arrays, or an estimator with a frame or a text) in one form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .._inspectable import CanBeInspected, Inspectable

Labels = Sequence[str] | Sequence[Sequence[str]]


def read_input(
    model: Any, x: Any, labels: Labels | None = None, *, known: bool = False
) -> Inspectable:
    """A module and its arguments, or what an estimator shows of itself.

    Args:
        model: a module, or an estimator.
        x: for a module its argument, or a tuple of them; NumPy arrays become tensors. For an
            estimator what its user would give it.
        labels: names of the steps, for every row the same or for each its own.
        known: whether an estimator is to choose an input whose truth is known.
    """
    if isinstance(model, Inspectable):
        item = model
    elif isinstance(model, nn.Module):
        item = Inspectable(module=model, inputs=_arguments(model, x), title=type(model).__name__)
    elif isinstance(model, CanBeInspected):
        item = model._inspectable(x, known=known)
    else:
        raise TypeError(
            "model must be a torch module or a fitted estimator of tidegate, but it is a "
            f"{type(model).__name__}"
        )
    return item if labels is None else replace(item, labels=_each_row(labels))


def _each_row(labels: Labels) -> list[list[str]]:
    """Labels of each row; one row of them stands for all."""
    if len(labels) and isinstance(labels[0], (str, int, float, np.generic)):
        return [[str(label) for label in labels]]
    return [[str(label) for label in row] for row in labels]


def _arguments(model: nn.Module, x: Any) -> tuple[Any, ...]:
    if x is None:
        raise TypeError("x must be the module's input, a tensor or an array, but it is None")
    if type(x) is not tuple:
        return (_tensor(model, x),)
    # A state may be several tensors: an LSTM's, or one for each layer.
    return tuple(each if _holds_tensors(each) else _tensor(model, each) for each in x)


def _holds_tensors(x: Any) -> bool:
    return isinstance(x, (tuple, list)) and bool(x) and all(isinstance(y, Tensor) for y in x)


def _tensor(model: nn.Module, x: Any) -> Any:
    if isinstance(x, (Tensor, PackedSequence)) or x is None:
        return x
    array = np.asarray(x)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"x must hold numbers, but it is a {type(x).__name__} of {array.dtype}")
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    dtype = parameter.dtype if array.dtype.kind == "f" else torch.int64
    return torch.as_tensor(array).to(parameter.device, dtype)


@contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode, so that nothing is drawn; then each part as it was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def forward_replaced(replacements: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Modules compute something else for a while."""
    before = {module: module.__dict__.get("forward") for module in replacements}
    for module, forward in replacements.items():
        module.__dict__["forward"] = forward
    try:
        yield
    finally:
        for module, forward in before.items():
            del module.__dict__["forward"]
            if forward is not None:
                module.__dict__["forward"] = forward
