"""The network: stacked GRU layers, and a head that answers all steps and quantiles at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..nn import GRU
from ._scale import CHANNELS, FACTS

# The first answers are near the base forecast, and their bands about one scale apart.
_FIRST_WEIGHTS = 0.1
_FIRST_STEP = 0.5


@dataclass(frozen=True)
class Shape:
    """Sizes of a network; with its tensors, all that is needed to run it."""

    horizon: int
    bands: int
    hidden_size: int
    num_layers: int


class Network(nn.Module):
    """Reads a scaled history and gives quantiles of the residual at each step ahead.

    The head gives the median and, for each band, the distances from the quantile inside it to the
    lower and to the upper one. Distances are positive, so quantiles cannot cross.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.gru = GRU(CHANNELS, shape.hidden_size, shape.num_layers, batch_first=True)
        read = shape.hidden_size + FACTS + shape.horizon
        self.head = nn.Linear(read, shape.horizon * (1 + 2 * shape.bands))
        with torch.no_grad():
            self.head.weight.mul_(_FIRST_WEIGHTS)
            self.head.bias.zero_()

    def forward(self, inputs: Tensor, facts: Tensor, season: Tensor) -> Tensor:
        """(rows, horizon, 2 * bands + 1): quantiles in rising order, the median in the middle."""
        output, _ = self.gru(inputs)
        answer = self.head(torch.cat([output[:, -1], facts, season], 1))
        answer = answer.view(len(inputs), self.shape.horizon, -1)
        median, below, above = answer.split([1, self.shape.bands, self.shape.bands], 2)
        below = median - softplus(below - _FIRST_STEP).cumsum(2)
        above = median + softplus(above - _FIRST_STEP).cumsum(2)
        return torch.cat([below.flip(2), median, above], 2)


def pinball(answer: Tensor, truth: Tensor, quantiles: Tensor) -> Tensor:
    """Quantile loss of each step, (rows, horizon), averaged over the quantiles."""
    error = truth[..., None] - answer
    return torch.maximum(quantiles * error, (quantiles - 1) * error).mean(-1)
