"""The network: recurrent layers, a way from their states to one, and a linear answer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..nn import GRU, MinGRU

CELLS = {"gru": GRU, "mingru": MinGRU}
POOLINGS = ("attention", "last", "mean")
EACH_STEP = "none"  # no pooling: an answer at each step


@dataclass(frozen=True)
class Shape:
    """Sizes of a network; with its tensors, all that is needed to run it.

    Args:
        inputs: numbers in a read, or, of text, numbers that a character may have.
        embedding: size of a character's vector; 0 where numbers are read.
        hidden_size: units of each layer and direction.
        num_layers: of them.
        bidirectional: also read from the end.
        cell: of `CELLS`.
        pooling: of `POOLINGS`, or `EACH_STEP`.
        outputs: classes, or 1 for a number.
    """

    inputs: int
    embedding: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    cell: str
    pooling: str
    outputs: int

    @property
    def states(self) -> int:
        """Units of both directions together."""
        return self.hidden_size * (1 + self.bidirectional)


class Network(nn.Module):
    """Reads sequences and gives the classes' logits, or a number.

    Attention is one learnt score a step, softmax over the steps: it begins as the mean.
    """

    def __init__(self, shape: Shape, dropout: float = 0.0):
        super().__init__()
        self.shape = shape
        if shape.embedding:
            self.embedding = nn.Embedding(shape.inputs, shape.embedding)
        self.recurrent = CELLS[shape.cell](
            shape.embedding or shape.inputs,
            shape.hidden_size,
            shape.num_layers,
            batch_first=True,
            dropout=dropout if shape.num_layers > 1 else 0.0,
            bidirectional=shape.bidirectional,
        )
        if shape.pooling == "attention":
            self.score = nn.Linear(shape.states, 1, bias=False)
            nn.init.zeros_(self.score.weight)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(shape.states, shape.outputs)

    @property
    def products(self) -> int:
        """Multiplications of the recurrent layers for one read."""
        return sum(p.numel() for p in self.recurrent.parameters() if p.ndim == 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Answers (rows, outputs), or (rows, reads, outputs) for one at each step."""
        if self.shape.embedding:
            x = self.embedding(x)
        result = self.recurrent(x, lengths=lengths)
        return self.head(self.dropout(self._pool(result, lengths)))

    def _pool(self, result, lengths: Tensor) -> Tensor:
        output, pooling = result.output, self.shape.pooling
        if pooling == EACH_STEP:
            return output
        if pooling == "last":
            return result.last()
        inside = (torch.arange(output.size(1)) < lengths[:, None])[..., None]
        if pooling == "mean":
            return (output * inside).sum(1) / lengths[:, None]
        scores = self.score(output).masked_fill(~inside, -torch.inf)
        return (output * scores.softmax(1)).sum(1)
