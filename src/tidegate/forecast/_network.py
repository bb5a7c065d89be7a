"""The network: stacked recurrent layers, and heads that answer all steps and quantiles at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from .._series.scale import CANDIDATES, CHANNELS, FACTS, STEADY
from .._series.shape import FIRST_STEP, Shape, embedding_size
from ..nn import GRU, MinGRU

CELLS = {"gru": GRU, "mingru": MinGRU}

# The first answers are near the base forecast, and their bands about one scale apart.
_FIRST_WEIGHTS = 0.1
# The first logit of candidates that are wild on most series.
_WILD = -3.0
# The first decay of the state, for a gap of e times the usual one, is at most this.
_FIRST_DECAY = 0.2


class Network(nn.Module):
    """Reads a scaled history and gives quantiles of the residual at each step ahead.

    The head sees the state of the last layer, and beside it what the state need not carry: facts of
    the history, its last residuals, and how far other forecasts lie from the base. Its median is a
    weighted mean of these other forecasts and a correction of its own. For each band it gives the
    distances from the quantile inside it to the lower and to the upper one; distances are positive,
    so quantiles cannot cross. What is known ahead is read by a second head, the same at every step.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embeddings = nn.ModuleList(
            nn.Embedding(count, embedding_size(count)) for count in shape.categories
        )
        width = CHANNELS + 2 * shape.numbers + sum(map(embedding_size, shape.categories))
        self.gru = CELLS[shape.cell](width, shape.hidden_size, shape.num_layers, batch_first=True)
        self.decay = nn.Parameter(torch.rand(shape.hidden_size) * _FIRST_DECAY)
        self.decay.requires_grad_(shape.gap >= 0)
        seen = shape.hidden_size + FACTS + shape.tail + (1 + STEADY) * shape.horizon
        self.read = nn.Linear(seen, shape.head_size)
        self.answer = nn.Linear(shape.head_size, shape.horizon * shape.answers + CANDIDATES)
        self.effect_read = nn.Linear(shape.hidden_size + FACTS + shape.ahead_size, shape.head_size)
        self.effect_answer = nn.Linear(shape.head_size, shape.answers)
        with torch.no_grad():
            for _, weight in self.embeddings.named_parameters():
                weight[0].zero_()
            for last in (self.answer, self.effect_answer):
                last.weight.mul_(_FIRST_WEIGHTS)
                last.bias.zero_()
            self.answer.bias[-(CANDIDATES - STEADY) :] = _WILD
        for part in (self.effect_read, self.effect_answer):
            part.requires_grad_(shape.ahead_size > 0)

    def forward(
        self,
        history: Tensor,
        facts: Tensor,
        season: Tensor,
        candidates: Tensor,
        numbers: Tensor,
        codes: Tensor,
        numbers_ahead: Tensor,
        codes_ahead: Tensor,
    ) -> Tensor:
        """(rows, horizon, 2 * bands + 1): quantiles in rising order, the median in the middle."""
        shape = self.shape
        steps = torch.cat([history, *self._columns(numbers, codes, range(codes.shape[-1]))], -1)
        output, _ = self.gru(steps, keep=self._keep(numbers))
        state = output[:, -1]
        seen = [state, facts, season, candidates[:, :STEADY].flatten(1)]
        seen.append(history[:, history.shape[1] - shape.tail :, 0])
        answer = self.answer(silu(self.read(torch.cat(seen, 1))))
        answer, logits = answer.split([shape.horizon * shape.answers, CANDIDATES], 1)
        answer = answer.view(-1, shape.horizon, shape.answers)
        if shape.ahead_size:
            answer = answer + self._effect(state, facts, numbers_ahead, codes_ahead)
        median, below, above = answer.split([1, shape.bands, shape.bands], 2)
        mean = (logits.softmax(1)[..., None] * candidates).sum(1)
        median = median + mean[..., None]
        below = median - softplus(below - FIRST_STEP).cumsum(2)
        above = median + softplus(above - FIRST_STEP).cumsum(2)
        return torch.cat([below.flip(2), median, above], 2)

    def _columns(self, numbers: Tensor, codes: Tensor, which: range | tuple[int, ...]) -> list:
        """Numbers, whether they are known, and embedded names."""
        known = torch.isfinite(numbers)
        embedded = [self.embeddings[which[i]](codes[..., i]) for i in range(len(which))]
        return [torch.where(known, numbers, 0.0), known.float(), *embedded]

    def _keep(self, numbers: Tensor) -> Tensor | None:
        """What remains of the state over the gap before each step: all of it over a usual one."""
        if self.shape.gap < 0:
            return None
        gap = torch.nan_to_num(numbers[..., self.shape.gap])
        return torch.exp(-torch.relu(gap[..., None] * self.decay))

    def _effect(
        self, state: Tensor, facts: Tensor, numbers_ahead: Tensor, codes_ahead: Tensor
    ) -> Tensor:
        """What is known of each step ahead adds to its answer."""
        shape = self.shape
        columns = self._columns(numbers_ahead, codes_ahead, shape.categories_ahead)
        if shape.gap_ahead >= 0:
            gap = torch.nan_to_num(numbers_ahead[..., shape.gap_ahead])
            count = torch.arange(1, shape.horizon + 1, device=gap.device)
            columns.append((gap.exp().cumsum(1) / count).log()[..., None])
        before = torch.cat([state, facts], 1)[:, None].expand(-1, shape.horizon, -1)
        return self.effect_answer(silu(self.effect_read(torch.cat([before, *columns], -1))))


def pinball(answer: Tensor, truth: Tensor, quantiles: Tensor) -> Tensor:
    """Quantile loss of each step, (rows, horizon), averaged over the quantiles."""
    error = truth[..., None] - answer
    return torch.maximum(quantiles * error, (quantiles - 1) * error).mean(-1)
