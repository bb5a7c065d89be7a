"""Cross-entropy of a large softmax, whose scores never exist all at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

# Scores that are worked out at once. Fewer leave the products too short, more leave the cache.
_AT_ONCE = 2**21
# Up to so many scores in all, torch's own functions are as good.
_FEW = 2**19


def cross_entropy(output: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log softmax(output @ weight.T + bias)[target].

    Args:
        output: (rows, features).
        weight: (vocabulary, features).
        bias: (vocabulary,).
        targets: (rows,), whole numbers.
    """
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (output, weight, bias))
    if output.size(0) * weight.size(0) <= _FEW:
        return F.cross_entropy(F.linear(output, weight, bias), targets)
    if wanted:
        return _CrossEntropy.apply(output, weight, bias, targets)
    losses = [loss for loss, _, _ in _chunks(output, weight, bias, targets)]
    return torch.stack(losses).sum() / len(targets)


class _CrossEntropy(Function):
    """The gradients are worked out with the loss, while the scores of a chunk are at hand."""

    @staticmethod
    def forward(ctx, output: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        d_output, d_weight = torch.empty_like(output), torch.zeros_like(weight)
        d_bias, total = torch.zeros_like(bias), output.new_zeros(())
        share = 1 / len(targets)
        for loss, scores, rows in _chunks(output, weight, bias, targets):
            total += loss
            here = targets[rows, None]
            scores.scatter_add_(1, here, scores.new_full((1, 1), -1.0).expand_as(here))
            torch.mm(scores, weight, out=d_output[rows])
            d_weight.addmm_(scores.t(), output[rows])
            d_bias += scores.sum(0)
        ctx.save_for_backward(d_output.mul_(share), d_weight.mul_(share), d_bias.mul_(share))
        return total * share

    @staticmethod
    def backward(ctx, *d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        d_output, d_weight, d_bias = ctx.saved_tensors
        (d_loss,) = d_outputs
        if d_loss == 1:
            return d_output, d_weight, d_bias, None
        return d_output * d_loss, d_weight * d_loss, d_bias * d_loss, None


def _chunks(output: Tensor, weight: Tensor, bias: Tensor, targets: Tensor):
    """Sum of the losses, probabilities, and rows of each chunk; the buffer is used again."""
    rows = max(64, _AT_ONCE // weight.size(0))
    buffer = output.new_empty(min(rows, len(output)), weight.size(0))
    for begin in range(0, len(output), rows):
        some = slice(begin, min(begin + rows, len(output)))
        scores = buffer[: some.stop - begin]
        torch.addmm(bias, output[some], weight.t(), out=scores)
        picked = scores.gather(1, targets[some, None])
        scores -= scores.amax(1, keepdim=True)
        largest = picked - scores.gather(1, targets[some, None])
        scores.exp_()
        sums = scores.sum(1, keepdim=True)
        loss = (sums.log() + largest - picked).sum()
        yield loss, scores.div_(sums), some
