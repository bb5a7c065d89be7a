"""What a language model shows of itself to `tidegate.inspect`: its gates under a text."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._inspectable import Choices, Inspectable
from .._text import Reader
from ..train import History
from ._network import Network

_FORESEEN = 5  # tokens that are shown after each step
_WRITTEN = 120  # tokens of the model's own, where no text is given
_LINE_END = "⏎"


class RowsFirst(nn.Module):
    """A network that takes tokens (batch, time) and gives scores (batch, time, vocabulary)."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of the next token after each."""
        return self.network(tokens.T).transpose(0, 1)


def look_into(reader: Reader, network: Network, history: History, text: str | None) -> Inspectable:
    """A text as the network reads it, with what it foresees after each token."""
    if text is None:
        text = reader.sample(length=_WRITTEN)
    tokens = reader.tokens_of(text)
    pieces = [_shown(piece) for piece in reader.tokenizer.pieces(tokens)]
    targets = torch.from_numpy(tokens[1:])

    def loss(scores: Tensor) -> Tensor:
        return F.cross_entropy(scores[0, :-1], targets)

    return Inspectable(
        module=RowsFirst(network),
        inputs=(torch.from_numpy(tokens)[None],),
        title=f"A language model of {reader.tokenizer.size:,} {reader.tokenizer.kind}",
        labels=[pieces],
        tokens=True,
        outcomes=[_choices(reader, np.exp(reader(tokens)), pieces)],
        foresees=True,
        score=_odds,
        score_words="the log-odds of the likeliest token",
        score_step=-2 if len(pieces) > 2 else -1,  # what it ends with, not what would follow
        loss=loss if len(targets) else None,
        history={"network": history} if history.losses else None,
    )


def _odds(scores: Tensor, step: int) -> Tensor:
    """The log-odds of the likeliest token, which go on growing where its probability is one."""
    mine = scores[:, step]
    best, which = mine.max(-1, keepdim=True)
    others = mine.scatter(-1, which, float("-inf")).logsumexp(-1)
    return best[:, 0] - others


def _choices(reader: Reader, chances: np.ndarray, pieces: list[str]) -> list[Choices]:
    """The likeliest tokens after each step, and what came."""
    found = []
    for step, p in enumerate(chances):
        best = np.argsort(-p, kind="stable")[:_FORESEEN]
        names = [_shown(piece) for piece in reader.tokenizer.pieces(best)]
        truth = pieces[step + 1] if step + 1 < len(pieces) else None
        found.append(Choices(names, p[best].tolist(), step, truth))
    return found


def _shown(piece: str) -> str:
    return _LINE_END if piece in ("\n", "\\x0a") else piece
