"""How fast the layer is on the user's machine, beside torch's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import torch
from rich.table import Table
from torch import Tensor, nn

from .. import __version__, _kernels
from ..errors import InputError
from ..nn import GRU
from ._terminal import messages, output

EPS = torch.finfo(torch.float32).eps
ALLOWED = 32  # eps: above, the two do not compute the same


class Shape(NamedTuple):
    """What a layer is given."""

    batch: int
    time: int
    input: int
    hidden: int


SHAPES = (
    Shape(1, 100, 32, 32),
    Shape(1, 1000, 256, 256),
    Shape(32, 100, 64, 64),
    Shape(256, 24, 1, 64),
    Shape(64, 100, 256, 256),
)


def run_bench(threads: int | None, seconds: float) -> None:
    """Time both layers, a forward pass and a training step of each shape, and print a table."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        versions = f"tidegate {__version__} ({_kernels.ISA}), torch {torch.__version__}"
        output.print(f"{versions}; threads: {torch.get_num_threads()}; medians\n")
        output.print(_measure(seconds / len(SHAPES) / len(CALLS)))
    finally:
        torch.set_num_threads(before)


def _measure(seconds: float) -> Table:
    """Every shape, each way of calling it for so many seconds."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in (*Shape._fields, "", "tidegate, ms", "torch, ms", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for shape, (name, make) in product(SHAPES, CALLS.items()):
        with messages.status(f"{name}: batch {shape.batch}, hidden {shape.hidden}"):
            ours, theirs = _layers(shape)
            times = _interleave(make(ours, shape), make(theirs, shape), seconds)
        cells = (*(f"{1e3 * time:.3f}" for time in times), f"{times[1] / times[0]:.1f}")
        table.add_row(*map(str, shape), name, *cells)
    return table


def _layers(shape: Shape) -> tuple[nn.Module, nn.Module]:
    """Ours and torch's, with the same parameters."""
    torch.manual_seed(0)
    theirs = nn.GRU(shape.input, shape.hidden)
    ours = GRU(shape.input, shape.hidden)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


Call = Callable[[], list[Tensor]]


def _forward(layer: nn.Module, shape: Shape) -> Call:
    x = _numbers(shape)

    @torch.inference_mode()
    def call() -> list[Tensor]:
        return list(layer(x))

    return call


def _training(layer: nn.Module, shape: Shape) -> Call:
    x = _numbers(shape).requires_grad_()
    wanted = [x, *layer.parameters()]
    d_output = torch.ones(shape.time, shape.batch, shape.hidden)

    def call() -> list[Tensor]:
        return list(torch.autograd.grad(layer(x)[0], wanted, d_output))

    return call


CALLS = {"forward": _forward, "training": _training}


def _numbers(shape: Shape) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape.time, shape.batch, shape.input, generator=generator)


def _interleave(ours: Call, theirs: Call, seconds: float) -> tuple[float, float]:
    """Median times of both, by turns, after comparing what they compute."""
    _compare(ours(), theirs())
    times: tuple[list[float], list[float]] = ([], [])
    until = time.perf_counter() + seconds
    while not times[0] or time.perf_counter() < until:
        for call, taken in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def _compare(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        error = (a - b).square().mean().sqrt() / max(1.0, b.square().mean().sqrt().item())
        if not error <= ALLOWED * EPS:
            raise InputError(f"tidegate and torch disagree by {error:.2g}: please report this")
