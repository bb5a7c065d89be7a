"""The network: embedding, recurrent layers, and scores of the next token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn import GRU, MinGRU
from ..nn._tokens import gru_of_embedding, min_gru_of_embedding
from ._loss import cross_entropy

CELLS = ("gru", "mingru", "lstm", "rnn")
# From so many steps a token on, what the first layer reads is worked out once a token.
_STEPS_A_TOKEN = 4
States = list[Tensor]


@dataclass(frozen=True)
class Shape:
    """Sizes of a network; with its tensors, all that is needed to run it."""

    vocab_size: int
    embedding_size: int
    hidden_sizes: tuple[int, ...]
    cell: str = "gru"
    reset: str = "after"
    tied: bool = True
    lines: bool = False
    boundary: int = 0

    @property
    def parameters(self) -> int:
        """How many numbers are learnt."""
        gates = {"gru": 2 if self.reset == "none" else 3, "mingru": 2, "lstm": 4, "rnn": 1}[
            self.cell
        ]
        total = self.vocab_size * (1 + self.embedding_size)
        for before, hidden in zip(
            (self.embedding_size, *self.hidden_sizes), self.hidden_sizes, strict=False
        ):
            seen = before + 1 if self.cell == "mingru" else before + hidden + 2
            total += gates * hidden * seen
        last = self.hidden_sizes[-1]
        if not self.tied:
            return total + self.vocab_size * last
        return total + (self.embedding_size * last if last != self.embedding_size else 0)


@dataclass(frozen=True)
class Regularisers:
    """Probabilities of dropping what a network reads, passes on and carries along."""

    dropout: float = 0.0
    embedding_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    weight_dropout: float = 0.0


class Network(nn.Module):
    """Reads tokens (time, batch) and gives, for each, what the next one is foreseen from.

    With tied weights, the scores are products with the embedding itself, through a projection
    where the last layer has another size.
    """

    def __init__(self, shape: Shape, chances: Regularisers | None = None):
        super().__init__()
        self.shape, self.chances = shape, chances or Regularisers()
        self.embedding = nn.Embedding(shape.vocab_size, shape.embedding_size)
        nn.init.normal_(self.embedding.weight, std=shape.embedding_size**-0.5)
        self.cells = _cells(shape, self.chances)
        last = shape.hidden_sizes[-1]
        if not shape.tied:
            self.decoder = nn.Linear(last, shape.vocab_size, bias=False)
        elif last != shape.embedding_size:
            self.project = nn.Linear(last, shape.embedding_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(shape.vocab_size))

    @property
    def scores_weight(self) -> Tensor:
        """The matrix by which scores are made, (vocabulary, features)."""
        return self.embedding.weight if self.shape.tied else self.decoder.weight

    def states(self, batch: int) -> States:
        """Where a text begins: of each layer (1, batch, hidden), an LSTM's h and c in turn."""
        both = 2 if self.shape.cell == "lstm" else 1
        sizes = [size for size in self.shape.hidden_sizes for _ in range(both)]
        return [self.bias.new_zeros(1, batch, size) for size in sizes]

    def read(self, tokens: Tensor, states: States, columns: bool = False) -> tuple[Tensor, States]:
        """What the scores after each token are made of (time, batch, features), and the states.

        With `columns`, the first layer may go around the embedding and around `self.cells`.
        """
        keep = None
        if self.shape.lines:
            keep = (tokens != self.shape.boundary).to(self.bias.dtype)
        columns, table = columns and self._few(tokens), self.embedding.weight
        if columns and isinstance(self.cells, GRU):
            output, states = gru_of_embedding(self.cells, tokens, table, states, keep)
        elif columns and isinstance(self.cells, MinGRU):
            h_0 = torch.cat(states)
            output, h_n = min_gru_of_embedding(self.cells, tokens, table, h_0, keep)
            states = list(h_n.split(1))
        else:
            x, dropped = self.embedding(tokens), self.chances.embedding_dropout
            x = _same_at_all_steps(x, dropped, self.training)
            output, states = self._layers(x, states, keep)
        output = _same_at_all_steps(output, self.chances.dropout, self.training)
        return (self.project(output) if hasattr(self, "project") else output), states

    def forward(self, tokens: Tensor, states: States | None = None) -> Tensor:
        """Scores of all tokens after each, (time, batch, vocabulary)."""
        output, _ = self.read(tokens, states or self.states(tokens.size(1)))
        return F.linear(output, self.scores_weight, self.bias)

    def loss(self, tokens: Tensor, targets: Tensor, states: States) -> tuple[Tensor, States]:
        """Mean negative log-probability of the targets, (time, batch) as the tokens."""
        output, states = self.read(tokens, states, columns=True)
        rows = output.reshape(-1, output.size(-1))
        return cross_entropy(rows, self.scores_weight, self.bias, targets.reshape(-1)), states

    def _few(self, tokens: Tensor) -> bool:
        """Whether the first layer's input product is worked out once a token, not once a step."""
        if tokens.device.type != "cpu":
            return False
        if self.training and self.chances.embedding_dropout:
            return False  # each row drops other features
        return _STEPS_A_TOKEN * self.shape.vocab_size <= tokens.numel()

    def _layers(self, x: Tensor, states: States, keep: Tensor | None) -> tuple[Tensor, States]:
        if self.shape.cell == "gru" and isinstance(self.cells, GRU):
            together = self.cells.states_in_one_tensor
            output, h_n = self.cells(x, torch.cat(states) if together else states, keep=keep)
            return output, list(h_n.split(1) if together else h_n)
        if isinstance(self.cells, MinGRU):
            output, h_n = self.cells(x, torch.cat(states), keep=keep)
            return output, list(h_n.split(1))
        if self.shape.cell == "lstm":
            hx = torch.cat(states[0::2]), torch.cat(states[1::2])
            output, (h, c) = self.cells(x, hx)
            return output, [s for pair in zip(h.split(1), c.split(1), strict=True) for s in pair]
        output, h_n = self.cells(x, torch.cat(states))
        return output, list(h_n.split(1))


def _cells(shape: Shape, chances: Regularisers) -> nn.Module:
    sizes, layers = shape.hidden_sizes, len(shape.hidden_sizes)
    between = chances.dropout if layers > 1 else 0.0
    if shape.cell == "gru":
        return GRU(
            shape.embedding_size,
            sizes,
            layers,
            dropout=between,
            reset=shape.reset,
            recurrent_dropout=chances.recurrent_dropout,
            weight_dropout=chances.weight_dropout,
        )
    if shape.cell == "mingru":
        return MinGRU(shape.embedding_size, sizes[0], layers, dropout=between)
    kind = {"lstm": nn.LSTM, "rnn": nn.RNN}[shape.cell]
    return kind(shape.embedding_size, sizes[0], layers, dropout=between)


def _same_at_all_steps(x: Tensor, probability: float, training: bool) -> Tensor:
    """Dropout of the same features at every step of a chunk."""
    if not (probability and training):
        return x
    return x * F.dropout(x.new_ones(1, *x.shape[1:]), probability)


class Trainee(nn.Module):
    """A network in training: with the states that the next chunk begins from.

    They are buffers, so that a checkpoint holds them and a resumed run goes on exactly.
    """

    def __init__(self, network: Network, batch: int):
        super().__init__()
        self.network = network
        for number, state in enumerate(network.states(batch)):
            self.register_buffer(f"state_{number}", state)
        self.count = number + 1

    def loss(self, tokens: Tensor, targets: Tensor, fresh: bool) -> Tensor:
        """The loss of the next chunk; `fresh` begins with nothing read."""
        states: Sequence[Tensor] = [getattr(self, f"state_{n}") for n in range(self.count)]
        if fresh:
            states = [torch.zeros_like(state) for state in states]
        loss, after = self.network.loss(tokens, targets, list(states))
        for number, state in enumerate(after):
            setattr(self, f"state_{number}", state.detach())
        return loss
