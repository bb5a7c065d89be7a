"""Training throughput of a language model, ours and on torch's layers, by turns.

python benchmarks/language.py --quiet
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Annotated

import torch
import torch.nn.functional as F
from cyclopts import App, Parameter
from harness import machine
from harness.tables import Table, markdown_of
from torch import Tensor, nn

from tidegate.language._loss import cross_entropy
from tidegate.language._network import Network, Shape, Trainee
from tidegate.nn import GRU
from tidegate.nn._tokens import gru_of_embedding

app = App(help=__doc__)
# Of the loss of the first steps, ours against torch's, in float32.
ALLOWED = 1e-4


class Torch(nn.Module):
    """The same model as anyone writes it: `nn.Embedding`, `nn.GRU`, `F.cross_entropy`."""

    def __init__(self, shape: Shape, cell: type[nn.GRU | nn.LSTM] = nn.GRU):
        super().__init__()
        self.embedding = nn.Embedding(shape.vocab_size, shape.embedding_size)
        self.cells = cell(shape.embedding_size, shape.hidden_sizes[0], len(shape.hidden_sizes))
        self.bias = nn.Parameter(torch.zeros(shape.vocab_size))
        self.state: Tensor | tuple[Tensor, ...] | None = None

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """One chunk, from the state that the last one left."""
        output, state = self.cells(self.embedding(tokens), self.state)
        self.state = (
            state.detach() if isinstance(state, Tensor) else tuple(map(Tensor.detach, state))
        )
        scores = F.linear(output, self.embedding.weight, self.bias)
        return F.cross_entropy(scores.flatten(0, 1), targets.flatten())


@dataclass(frozen=True)
class Case:
    """A model and a batch."""

    name: str
    vocabulary: int
    hidden: int = 256
    layers: int = 1
    batch: int = 32
    steps: int = 100

    @property
    def shape(self) -> Shape:
        return Shape(self.vocabulary, self.hidden, (self.hidden,) * self.layers)


CASES = (
    Case("characters", 66),
    Case("characters, two layers", 66, layers=2),
    Case("characters, hidden 512", 66, hidden=512),
    Case("bytes", 256),
    Case("subwords", 4000),
    Case("words", 10000),
)


class Training:
    """A model with its optimiser; each call takes a step on a batch of its own."""

    def __init__(self, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor]):
        self.model, self.loss = model, loss
        self.optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)

    def __call__(self, batch: Tensor) -> float:
        self.optimizer.zero_grad()
        loss = self.loss(batch[:-1], batch[1:])
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()


def contestants(case: Case) -> dict[str, Training]:
    """Ours, torch's GRU and torch's LSTM; the two GRUs have the same numbers."""
    torch.manual_seed(0)
    network = Network(case.shape)
    trainee, plain = Trainee(network, case.batch), Torch(case.shape)
    plain.load_state_dict(network.state_dict())
    lstm = Torch(case.shape, nn.LSTM)
    return {
        "Tidegate": Training(trainee, lambda x, y: trainee.loss(x, y, fresh=False)),
        "torch.nn.GRU": Training(plain, plain.loss),
        "torch.nn.LSTM": Training(lstm, lstm.loss),
    }


def batches(case: Case) -> Callable[[], Tensor]:
    """Batches of random tokens, of which few are frequent, as in a text."""
    generator = torch.Generator().manual_seed(1)
    chances = 1 / torch.arange(1, case.vocabulary + 1, dtype=torch.float64)

    def draw() -> Tensor:
        count = (case.steps + 1) * case.batch
        drawn = torch.multinomial(chances, count, replacement=True, generator=generator)
        return drawn.view(case.steps + 1, case.batch)

    return draw


def measure(case: Case, seconds: float) -> dict[str, float]:
    """Median seconds of a step of each, by turns; refused where the losses differ."""
    found, draw = contestants(case), batches(case)
    for _ in range(3):
        batch = draw()
        losses = {name: step(batch) for name, step in found.items()}
        if abs(losses["Tidegate"] - losses["torch.nn.GRU"]) > ALLOWED:
            raise SystemExit(f"{case.name}: the losses differ: {losses}")
    taken: dict[str, list[float]] = {name: [] for name in found}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken["Tidegate"]) < 3:
        batch = draw()
        for name, step in found.items():
            begun = time.perf_counter()
            step(batch)
            taken[name].append(time.perf_counter() - begun)
    return {name: median(times) for name, times in taken.items()}


def parts(case: Case, seconds: float) -> dict[str, float]:
    """Median seconds of the parts of our step: layers, softmax, optimiser."""
    network, draw = Network(case.shape), batches(case)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    states, table = network.states(case.batch), network.embedding.weight
    rows = torch.randn(case.steps * case.batch, case.hidden, requires_grad=True)
    batch = draw()

    def layers() -> None:
        if isinstance(network.cells, GRU) and network._few(batch[:-1]):
            output, _ = gru_of_embedding(network.cells, batch[:-1], table, states, None)
        else:
            output, _ = network._layers(network.embedding(batch[:-1]), states, None)
        output.backward(torch.ones_like(output))

    def softmax() -> None:
        cross_entropy(rows, table, network.bias, batch[1:].reshape(-1)).backward()

    def update() -> None:
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    named = {"layers": layers, "softmax": softmax, "clip and AdamW": update}
    taken: dict[str, list[float]] = {name: [] for name in named}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken["layers"]) < 4:
        for name, part in named.items():
            begun = time.perf_counter()
            part()
            taken[name].append(time.perf_counter() - begun)
    return {name: median(times[1:]) for name, times in taken.items()}


@app.default
def main(*, threads: int = 2, seconds: float = 8.0, only: Annotated[str, Parameter()] = "") -> None:
    """Time a training step of each model, and print two tables.

    Args:
        threads: Number of threads.
        seconds: How long to time each case.
        only: Cases whose names begin with this.
    """
    torch.set_num_threads(threads)
    cases = [case for case in CASES if case.name.startswith(only)]
    speed, where = [], []
    for case in cases:
        found = measure(case, seconds * 0.75)
        ours, tokens = found["Tidegate"], case.steps * case.batch
        sizes = f"{case.vocabulary:,}, {case.hidden} x {case.layers}, {case.batch} x {case.steps}"
        peers = [
            f"{tokens / found[name]:,.0f} (x{found[name] / ours:.2f})"
            for name in ("torch.nn.GRU", "torch.nn.LSTM")
        ]
        speed.append([case.name, sizes, f"{tokens / ours:,.0f}", *peers])
        ms = {name: 1e3 * value for name, value in parts(case, seconds * 0.25).items()}
        where.append([case.name, f"{1e3 * ours:.1f}", *(f"{value:.1f}" for value in ms.values())])
    print(". ".join(machine.describe().values()) + f". {threads} threads.\n")
    heads = ["", "vocabulary, hidden x layers, batch x steps", "Tidegate", "torch.nn.GRU"]
    print(markdown_of(Table("Tokens a second in training", [*heads, "torch.nn.LSTM"], speed)))
    heads = ["", "step", "layers", "softmax", "clip and AdamW"]
    print(markdown_of(Table("Where our step goes, ms", heads, where)))


if __name__ == "__main__":
    app()
