"""What a training step takes, counted: operators of torch, and numbers kept for the way back."""

from resource import RUSAGE_SELF, getrusage

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.profiler import profile
from torch.nn.utils.rnn import pack_padded_sequence

from tidegate.nn import GRU, accelerate
from tidegate.nn._kernel import gates_buffer

BATCH, UNITS = 4, 6
CALLS = ["padded", "ragged", "packed", "keep", "gates"]


def train(gru: nn.Module, time: int, kind: str, share: float = 1.0) -> None:
    """One training step over rows of `share` of the time."""
    x, lengths = torch.randn(time, BATCH, UNITS), [int(time * share)] * BATCH
    given = {
        "padded": {},
        "ragged": {"lengths": [time - row for row in range(BATCH)] if share == 1 else lengths},
        "packed": {},
        "keep": {"keep": torch.rand(time, BATCH)},
        "gates": {"return_gates": True},
    }[kind]
    output = gru(pack_padded_sequence(x, lengths) if kind == "packed" else x, **given)[0]
    (output if isinstance(output, Tensor) else output.data).sum().backward()


def operators(gru: nn.Module, time: int, kind: str) -> int:
    """Operators that one training step calls."""
    train(gru, time, kind)  # the first has gradients to make room for
    with profile() as seen:
        train(gru, time, kind)
    return len(seen.function_events)


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("options", [{}, {"layer_norm": True, "zoneout": 0.1, "proj_size": 2}])
def test_the_operators_of_a_step_are_as_many_for_any_time(kind, options):
    gru = GRU(UNITS, UNITS, 2, bidirectional=True, **options)
    assert operators(gru, 10, kind) == operators(gru, 80, kind)


def test_an_accelerated_model_calls_a_fraction_of_torchs_operators():
    gru = nn.GRU(UNITS, UNITS)
    theirs = operators(gru, 80, "padded")
    accelerate(gru)
    assert operators(gru, 80, "padded") < theirs / 20


def kept(gru: nn.Module, time: int, kind: str, share: float) -> int:
    """The largest number of bytes kept under one address: the gates of every step."""
    sizes = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        train(gru, time, kind, share)
    return max(sizes)


def test_what_lies_past_a_length_is_not_kept():
    gru = GRU(UNITS, UNITS)
    whole = kept(gru, 400, "padded", 1)
    assert kept(gru, 400, "packed", 1) == whole
    assert kept(gru, 400, "ragged", 0.5) == pytest.approx(whole / 2, rel=0.02)
    assert kept(gru, 400, "packed", 0.5) == pytest.approx(whole / 2, rel=0.02)


def test_the_memory_of_many_gates_serves_again():
    def new_pages() -> int:
        before = getrusage(RUSAGE_SELF).ru_minflt
        gates_buffer(torch.empty(0), 1, 10 << 20).fill_(1)
        return getrusage(RUSAGE_SELF).ru_minflt - before

    new_pages()
    assert new_pages() < 100  # of 10,240
