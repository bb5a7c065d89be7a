"""A training step of `MinGRU` beside GRUs and the published scan: `python benchmarks/min_gru.py`.

The scan is Feng et al.'s (arXiv:2410.01201, appendix B) in torch operations: the positive
candidate, all steps at once by a cumulative sum of logarithms. All are one layer; a step is forward
and backward with the gradients of the input and all weights; by turns, medians.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from cyclopts import App
from harness import machine
from harness.tables import Table, markdown_of
from torch import Tensor, nn
from torch.nn.functional import softplus

from tidegate.nn import GRU, MinGRU

SHAPES = ((32, 100, 64, 64), (32, 500, 64, 64), (8, 2000, 128, 128), (64, 200, 256, 256))
# Largest errors allowed against float64: sums of logarithms cancel in the published scan.
ALLOWED = {"MinGRU": 1e-5, "published scan": 1e-2}

app = App(help=__doc__)


class LogScan(nn.Module):
    """The published parallel scan, with the parameters of a `MinGRU`."""

    def __init__(self, like: MinGRU):
        super().__init__()
        self.gates = nn.Linear(like.input_size, 2 * like.hidden_size)
        parameters = dict(like.named_parameters())
        with torch.no_grad():
            self.gates.weight.copy_(parameters["weight_ih_l0"])
            self.gates.bias.copy_(parameters["bias_ih_l0"])

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Every state, from a state of zero."""
        x_z, x_n = self.gates(x).chunk(2, -1)
        log_z, log_kept = -softplus(-x_z), -softplus(x_z)
        log_n = torch.where(x_n >= 0, (x_n.relu() + 0.5).log(), -softplus(-x_n))
        decay = log_kept.cumsum(0)
        return (decay + (log_z + log_n - decay).logcumsumexp(0)).exp(), None


@app.default
def main(*, threads: int = 2, seconds: float = 5.0) -> None:
    """Time all shapes and print a table.

    Args:
        threads: Number of threads.
        seconds: How long to time each shape.
    """
    torch.set_num_threads(threads)
    cells, found = [], {}
    for shape in SHAPES:
        found = measure(shape, seconds)
        ours = found["MinGRU"]
        row = [f"{1e3 * s:.2f} (x{s / ours:.1f})" for s in list(found.values())[1:]]
        cells.append([",".join(map(str, shape)), f"{1e3 * ours:.2f}", *row])
    table = Table(f"Training step, {threads} threads, ms", ["B,T,I,H", *found], cells)
    print(f"{'. '.join(machine.describe().values())}.\n\n{markdown_of(table)}")


def measure(shape: tuple[int, int, int, int], seconds: float) -> dict[str, float]:
    batch, time, features, hidden = shape
    torch.manual_seed(0)
    ours = MinGRU(features, hidden, candidate="positive")
    layers = {
        "MinGRU": ours,
        "published scan": LogScan(ours),
        "tidegate GRU": GRU(features, hidden),
        "torch GRU": nn.GRU(features, hidden),
    }
    x = torch.randn(time, batch, features, requires_grad=True)
    exact = copy.deepcopy(ours).double()(x.double())[0]
    for name, allowed in ALLOWED.items():
        error = (layers[name](x)[0] - exact).abs().max().item()
        print(f"{shape}: {name}: largest error {error:.1e}")
        if not error < allowed:
            raise SystemExit(f"{name} is wrong by {error:.2g}: nothing was timed")
    steps = {name: step_of(layer, x) for name, layer in layers.items()}
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    end = perf_counter() + seconds
    while perf_counter() < end:
        for name, step in steps.items():
            begun = perf_counter()
            step()
            taken[name].append(perf_counter() - begun)
    return {name: median(times) for name, times in taken.items()}


def step_of(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    inputs = [x, *layer.parameters()]
    weight = torch.randn_like(layer(x)[0])

    def step() -> None:
        torch.autograd.grad((layer(x)[0] * weight).sum(), inputs)

    return step


if __name__ == "__main__":
    app()
