"""Models to make pages of: series, and a Persian text."""

import json
import re

import numpy as np
import torch
from torch import nn

from tidegate._inspectable import Ahead, Choices, Inspectable
from tidegate.nn import GRU
from tidegate.train import History

SENTENCE = "دانش آموزان این مدرسه که سال گذشته در مسابقات کشور شرکت کرده بودند دست پیدا کردند"


def data_of(made) -> dict:
    """What a page's script draws from."""
    (text,) = re.findall(r'id="gates">(.*?)</script>', made.html, re.S)
    return json.loads(text)


class Reader(nn.Module):
    """Tokens to scores of the next token."""

    def __init__(self, words: int, units: int = 8):
        super().__init__()
        self.embed = nn.Embedding(words, 4)
        self.gru = GRU(4, units, 2, batch_first=True)
        self.head = nn.Linear(units, words)

    def forward(self, tokens):
        return self.head(self.gru(self.embed(tokens))[0])


def a_text(text: str = SENTENCE) -> Inspectable:
    torch.manual_seed(0)
    words = text.split()
    vocabulary = sorted(set(words))
    tokens = torch.tensor([[vocabulary.index(word) for word in words]])
    model = Reader(len(vocabulary))
    chances, best = model(tokens).detach().softmax(-1)[0].topk(3)
    choices = [
        Choices([vocabulary[i] for i in best[t]], chances[t].tolist(), t, words[t + 1])
        for t in range(len(words) - 1)
    ]
    return Inspectable(
        module=model,
        inputs=(tokens,),
        title="A language model of Persian words",
        labels=[words],
        tokens=True,
        outcomes=[choices],
        foresees=True,
        score=lambda result, t: result[:, t].log_softmax(-1).max(-1).values,
        score_words="the log-probability of the likeliest next word",
        loss=lambda result: nn.functional.cross_entropy(result[0, :-1], tokens[0, 1:]),
    )


def series(rows: int = 3, time: int = 24) -> Inspectable:
    torch.manual_seed(0)
    x = torch.randn(rows, time, 1).cumsum(1) / 4
    gru = GRU(1, 6, batch_first=True)
    values = x[..., 0].double().numpy() * 100
    rises = np.array([1.0, 2.0])
    ahead = [
        Ahead(["+1", "+2"], v[-1] + rises, v[-1] - rises, v[-1] + 3 * rises, "80% band")
        for v in values
    ]
    history = History(
        [1 / (k + 1) for k in range(50)], [(10, 0.5), (20, 0.2), (30, 0.25), (50, 0.3)], 1.5
    )
    return Inspectable(
        module=gru,
        inputs=(x,),
        title="A GRU that reads walks",
        labels=[[f"2024-{t:02}" for t in range(time)]] * rows,
        names=[f"walk {i} <&>" for i in range(rows)],
        values=np.round(values, 3),
        outcomes=ahead,
        history={"training": history},
    )
