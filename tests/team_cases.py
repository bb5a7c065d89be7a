"""What must be true of a network that several processes trained, through an accident."""

from collections import Counter
from pathlib import Path

import torch

from folder_cases import EVERY
from tidegate.forecast import GRUForecaster


def diary(path: Path, what: str) -> list[list[str]]:
    """Of each line on this, the process and the words."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return [[rank, *words] for rank, kind, *words in lines if kind == what]


def require_one_interval_lost(path: Path, steps: list[list[str]]) -> None:
    """One process was killed, and no more steps were taken again than between two checkpoints.

    Args:
        path: the diary of a team of two.
        steps: those of one process that trained alone.
    """
    once = Counter((rank, *rest) for _, *rest in steps for rank in "01")
    repeated = Counter(map(tuple, diary(path, "step"))) - once
    assert diary(path, "killed") == [["1"]]
    for rank in "01":
        mine = sum(count for (of, *_), count in repeated.items() if of == rank)
        assert 0 < mine <= EVERY, "more was lost than lies between two checkpoints"


def require_shared_reads(path: Path, alone: Path) -> None:
    """Each lot was read by one process: at the start, and after the accident."""
    reads = Counter(map(tuple, diary(path, "read")))
    assert set(reads.values()) == {2}
    assert sorted(lot for _, lot in reads) == sorted(lot for _, lot in diary(alone, "read"))
    assert {rank for rank, _ in reads} == {"0", "1"}


def require_same_weights(found: GRUForecaster, expected: GRUForecaster) -> None:
    """Up to rounding, which has had few steps to grow."""
    states = [model.networks_[0].state_dict() for model in (found, expected)]
    for name, tensor in states[1].items():
        torch.testing.assert_close(states[0][name], tensor, rtol=1e-5, atol=1e-5)
