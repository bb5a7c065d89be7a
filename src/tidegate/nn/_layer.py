"""What one layer is given, what it returns, and what is known of it without its numbers.

One layer is one or two directions over a sequence. Every road through it (kernels, torch
operations, the registered operator) takes a `Layer` and a `Plan` and returns the same three.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

GATES = {"after": ("r", "z", "n"), "before": ("r", "z", "n"), "none": ("z", "n")}


class Plan(NamedTuple):
    """The choices of a layer; all are constants of a traced graph."""

    reset: str = "after"
    directions: int = 1
    bias: bool = True
    norm: bool = False  # layer normalisation of the gates
    batch_first: bool = False  # memory layout of the results only; shapes are always time first
    gates: bool = False  # return the gates


class Direction(NamedTuple):
    """The parameters of one direction; `gates` is 3, or 2 without a reset gate."""

    weight_ih: Tensor  # (gates * hidden, input)
    weight_hh: Tensor  # (gates * hidden, hidden)
    bias_ih: Tensor | None = None  # (gates * hidden,)
    bias_hh: Tensor | None = None
    norm_ih: Tensor | None = None  # (gates * hidden,): gains of the layer normalisation
    norm_hh: Tensor | None = None


class Layer(NamedTuple):
    """The tensors of a layer. Packed input is (rows, input), with `batch_sizes`."""

    x: Tensor  # (time, batch, input), any strides
    h_0: Tensor | None  # (directions, batch, hidden)
    keep: Tensor | None  # (time, batch, 1 or hidden): multiplies the state before each step
    mask: (
        Tensor | None
    )  # (directions, batch, hidden): multiplies the state where it meets weight_hh
    zone: Tensor | None  # (time, batch, directions * hidden): share of the old state that stays
    lengths: Tensor | None  # int64 (batch,)
    batch_sizes: Tensor | None  # int64 (time,), on the CPU, as PackedSequence has them
    weights: Sequence[Tensor]  # of each direction in turn, those that the plan has


class Outputs(NamedTuple):
    """The results of a layer; cells past a row's length are zero."""

    output: Tensor  # (time, batch, directions * hidden), or (rows, directions * hidden)
    h_n: Tensor  # (directions, batch, hidden)
    gates: Tensor | None  # (gate, ...) as output for each gate


class Cotangents(NamedTuple):
    """Gradients of the loss with respect to the `Outputs`; None is zero."""

    output: Tensor | None
    h_n: Tensor | None
    gates: Tensor | None


class Gradients(NamedTuple):
    """Of the tensors of a `Layer` that can have one, and of its weights in their order."""

    x: Tensor | None
    h_0: Tensor | None
    keep: Tensor | None
    weights: list[Tensor | None]


class Wanted(NamedTuple):
    """Which gradients are wanted; those of the weights come all together."""

    x: bool
    h_0: bool
    keep: bool
    weights: bool


def directions(weights: Sequence[Tensor], plan: Plan) -> list[Direction]:
    """The flat `weights` of a layer, by direction and name."""
    count = len(weights) // plan.directions
    found = []
    for start in range(0, len(weights), count):
        given = weights[start : start + count]
        biases = tuple(given[2:4]) if plan.bias else (None, None)
        norms = tuple(given[-2:]) if plan.norm else (None, None)
        found.append(Direction(given[0], given[1], *biases, *norms))
    return found


def hidden_size(layer: Layer) -> int:
    """Units of a layer: columns of its first weight_hh."""
    return layer.weights[1].size(1)


def valid_steps(x: Tensor, lengths: Tensor) -> Tensor:
    """Which steps of x (time, batch, ...) lie before each row's end, (time, batch, 1)."""
    time = torch.arange(x.size(0), device=x.device)
    return (time[:, None] < lengths)[..., None]


def in_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor.to(dtype)`, which takes its time even where there is nothing to do."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def read_lengths(lengths: Tensor | Sequence[int], batch: int | None, like: Tensor) -> Tensor:
    """The steps of each row as the caller gave them, int64 (batch,), on the device of `like`.

    Raises:
        TypeError: they are no integers.
        ValueError: they are not one a row, or there are no rows: `batch` is None.
    """
    if batch is None:
        raise ValueError("lengths must be None with unbatched input: cut the one sequence instead")
    if not isinstance(lengths, Tensor):
        lengths = _as_tensor(lengths)
    if lengths.is_meta and not like.is_meta:
        raise ValueError("lengths must hold numbers, but it is on meta")
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths must be integers, but they are {lengths.dtype}")
    if lengths.shape != (batch,):
        raise ValueError(f"lengths must be ({batch},), but it is {tuple(lengths.shape)}")
    return lengths.to(device=like.device, dtype=torch.int64)


def _as_tensor(lengths: Sequence[int]) -> Tensor:
    try:
        none = len(lengths) == 0  # has no dtype to be wrong
        return torch.as_tensor(lengths, dtype=torch.int64 if none else None)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"lengths must be integers, one a row, but they are {lengths!r}") from error


def check_lengths(layer: Layer) -> None:
    """Raise unless every length lies between zero and the number of time steps.

    While a CUDA graph is captured nothing can be read; every road keeps to the steps there are.
    """
    if layer.lengths is None:
        return
    if layer.lengths.is_cuda and torch.cuda.is_current_stream_capturing():
        return
    check_length_values(layer.lengths, layer.x.size(0))


def check_length_values(lengths: Tensor, time: int) -> None:
    """Raise unless every length lies between zero and `time`."""
    if not lengths.numel():
        return
    shortest, longest = (int(extreme) for extreme in lengths.aminmax())
    if shortest < 0 or longest > time:
        wrong = shortest if shortest < 0 else longest
        raise ValueError(
            f"lengths must lie between 0 and {time}, the time steps, but one is {wrong}"
        )
