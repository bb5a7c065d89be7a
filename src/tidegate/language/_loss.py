"""Cross-entropy of a large softmax, whose scores never exist all at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from tidegate import _kernels


def cross_entropy(output: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log softmax(output @ weight.T + bias)[target].

    Args:
        output: (rows, features).
        weight: (vocabulary, features).
        bias: (vocabulary,).
        targets: (rows,), whole numbers.
    """
    tensors = output, weight, bias
    ours = output.dtype in (torch.float32, torch.float64) and all(
        t.device.type == "cpu" and t.dtype == output.dtype for t in tensors
    )
    if not ours:
        return F.cross_entropy(F.linear(output, weight, bias), targets)
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return _CrossEntropy.apply(output, weight, bias, targets)
    return _run(output, weight, bias, targets)


class _CrossEntropy(Function):
    """The gradients are worked out with the loss, while the scores of a chunk are at hand."""

    @staticmethod
    def forward(ctx, output: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        gradients = [
            torch.empty_like(t, memory_format=torch.contiguous_format)
            for t in (output, weight, bias)
        ]
        loss = _run(output, weight, bias, targets, gradients)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, *d_outputs: Tensor):  # pyrefly: ignore[bad-override]
        d_output, d_weight, d_bias = ctx.saved_tensors
        (d_loss,) = d_outputs
        if d_loss == 1:
            return d_output, d_weight, d_bias, None
        return d_output * d_loss, d_weight * d_loss, d_bias * d_loss, None


def _run(
    output: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, gradients: Sequence[Tensor] = ()
) -> Tensor:
    """The mean loss; its gradients, contiguous as they are, are written where there are some."""
    given = [t.detach().contiguous() for t in (output, weight, bias, targets)]
    losses = output.new_empty(len(targets))
    _kernels.cross_entropy(
        output.dtype == torch.float64,
        torch.get_num_threads(),
        output.size(0),
        output.size(1),
        weight.size(0),
        *(t.data_ptr() for t in (*given, losses, *gradients)),
    )
    return losses.mean()
