"""One barrier a step suffices, and is needed: a watch over shared memory sees every race."""

import pytest
import torch

from gpu_cases import DTYPES, Failed, Schedule, draw, emulate
from tidegate.nn._layer import Cotangents, Plan, Wanted
from tidegate.nn.gpu import _kernel

# One block; one block with fragments in shared memory; a cluster of two.
CASES = [("bfloat16", 37, "after"), ("float32", 33, "before"), ("bfloat16", 132, "after")]


def run(kind: str, hidden: int, reset: str) -> list[torch.Tensor]:
    plan = Plan(reset)
    layer = draw(plan, DTYPES[kind], hidden, time=4, batch=9, ragged="lengths")
    outputs = _kernel.forward(layer, plan)
    d_outputs = Cotangents(torch.ones_like(outputs[0]), torch.ones_like(outputs[1]), None)
    wanted = Wanted(True, True, False, True)
    found = _kernel.backward(layer, plan, outputs.output, d_outputs, wanted)
    return [*outputs[:2], found.x, found.h_0, *found.weights]


@pytest.mark.parametrize(("kind", "hidden", "reset"), CASES)
def test_every_order_of_threads_gives_the_same_bits(monkeypatch, kind, hidden, reset):
    orders = [Schedule(), Schedule("descending"), Schedule("shuffled", 1), Schedule("hasty", 2)]
    results = []
    for schedule in orders:
        emulate(monkeypatch, kind, schedule)
        results.append(run(kind, hidden, reset))
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@pytest.mark.parametrize("kernel", ["gru_forward", "gru_backward"])
@pytest.mark.parametrize(("kind", "hidden", "reset"), CASES)
@pytest.mark.parametrize("phase", [0, 1])
def test_no_barrier_can_be_spared(monkeypatch, kind, hidden, reset, kernel, phase):
    whole = emulate(monkeypatch, kind)
    lame = emulate(monkeypatch, kind, Schedule("hasty", 3, 2, phase))

    def launch(name, *call):
        (lame if name == kernel else whole)(name, *call)

    monkeypatch.setattr("tidegate.nn.gpu._launch.launch", launch)
    with pytest.raises(Failed, match=f"{kernel}: (a race|a read of what was never written)"):
        run(kind, hidden, reset)
