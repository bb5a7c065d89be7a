"""`torch.nn.GRU`, and the rate of torch's matrix product: the yardstick of every row."""

from __future__ import annotations

import torch

from harness.cases import YARDSTICK, YARDSTICK_SIZE, Case
from harness.peers._modules import runner
from harness.runner import Runner


def prepare(case: Case) -> dict[str, Runner]:
    """Both, by name."""
    return {"torch": runner(torch.nn.GRU, case), YARDSTICK: _product()}


def version() -> str:
    """As the table names it."""
    return f"torch {torch.__version__}"


def _product() -> Runner:
    a, b, out = torch.rand(3, YARDSTICK_SIZE, YARDSTICK_SIZE)
    return Runner(lambda: torch.mm(a, b, out=out), list)
