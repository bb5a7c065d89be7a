"""The loss in chunks is torch's, and so are its gradients."""

import pytest
import torch
import torch.nn.functional as F

from tidegate.language import _loss


@pytest.mark.parametrize("at_once", [1, 3000, 2**21])
@pytest.mark.parametrize(("rows", "vocabulary", "features"), [(1, 2, 1), (150, 30, 7), (67, 5, 3)])
def test_it_is_torchs(monkeypatch, at_once, rows, vocabulary, features):
    monkeypatch.setattr(_loss, "_FEW", 0)
    monkeypatch.setattr(_loss, "_AT_ONCE", at_once)
    torch.manual_seed(0)
    output, weight, bias = (
        torch.randn(*size, dtype=torch.float64, requires_grad=True)
        for size in ((rows, features), (vocabulary, features), (vocabulary,))
    )
    targets = torch.randint(vocabulary, (rows,))
    ours = _loss.cross_entropy(output, weight, bias, targets)
    torchs = F.cross_entropy(F.linear(output, weight, bias), targets)
    torch.testing.assert_close(ours, torchs)
    with torch.no_grad():
        torch.testing.assert_close(_loss.cross_entropy(output, weight, bias, targets), torchs)
    ours = torch.autograd.grad(3 * ours, (output, weight, bias))
    torchs = torch.autograd.grad(3 * torchs, (output, weight, bias))
    for a, b in zip(ours, torchs, strict=True):
        torch.testing.assert_close(a, b)


def test_large_scores_do_not_overflow(monkeypatch):
    monkeypatch.setattr(_loss, "_FEW", 0)
    output = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    loss = _loss.cross_entropy(
        output, torch.tensor([[1.0], [-1.0]]), torch.zeros(2), torch.tensor([0, 1])
    )
    loss.backward()
    assert loss.item() == 0
    assert (output.grad == 0).all()
