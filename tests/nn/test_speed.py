"""What must not become slow: ratios with wide margins, each the least of several turns."""

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from nn_cases import twins
from tidegate.nn import GRU, accelerate

TIME, BATCH, UNITS = 400, 16, 48
Step = Callable[[], tuple[Tensor, ...]]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def least(*steps: Step, turns: int = 7) -> list[float]:
    """The shortest time of each, taken by turns."""
    taken = [[] for _ in steps]
    for _ in range(turns):
        for step, times in zip(steps, taken, strict=True):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
    return [min(times) for times in taken]


def training(gru: nn.Module, *given, **named) -> Step:
    def step() -> tuple[Tensor, ...]:
        output = gru(*given, **named)[0]
        data = output if isinstance(output, Tensor) else output.data
        return torch.autograd.grad(data.sum(), list(gru.parameters()))

    return step


def test_a_training_step_is_faster_than_torchs():
    theirs, ours = twins(UNITS, UNITS, 2)
    changed, _ = twins(UNITS, UNITS, 2)
    accelerate(changed)
    x = torch.randn(TIME, BATCH, UNITS)
    slow, fast, made_fast = least(*(training(gru, x) for gru in (theirs, ours, changed)))
    assert fast < 0.6 * slow  # 0.25 was measured
    assert made_fast < 0.6 * slow


def test_what_lies_past_a_length_costs_nothing():
    gru, x = GRU(UNITS, UNITS), torch.randn(TIME, BATCH, UNITS)
    ragged = [TIME if row == 0 else TIME // 10 for row in range(BATCH)]
    whole, cut, one_long = least(
        training(gru, x),
        training(gru, x, lengths=[TIME // 10] * BATCH),
        training(gru, x, lengths=ragged),
    )
    assert cut < 0.35 * whole  # 0.12 was measured
    assert one_long < 0.75 * whole  # 0.35


def test_packing_costs_what_padding_does():
    gru, x = GRU(UNITS, UNITS), torch.randn(TIME, BATCH, UNITS)
    padded, packed = least(training(gru, x), training(gru, pack_padded_sequence(x, [TIME] * BATCH)))
    assert packed < 1.6 * padded  # 1.0 was measured; torch's takes several times as long
