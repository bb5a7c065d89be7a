"""Processes that `torchrun` starts train one network, as one process would, through accidents."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from folder_cases import EVERY, command, many_series, write_folder, written
from tidegate.forecast import GRUForecaster
from tidegate.forecast._team import Alone, share

torch = pytest.importorskip("torch")
needs_distributed = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch has no distributed"
)
# Measured after 600 steps: 2e-7 of weights up to 3, and 1e-7 of forecasts.
WEIGHTS, FORECASTS = 1e-5, 1e-4


def run(out: Path, folder: Path, processes: int, killed_at: int) -> str:
    """What the command printed, with small forecasters."""
    process = command(
        "forecast",
        folder,
        *("--horizon", 6, "--resume", "--out", out),
        script=Path(__file__).parents[1] / "small_team.py",
        processes=processes,
        restarts=3,
        variables={"DIARY": str(out.with_suffix(".txt")), "KILLED_AT": str(killed_at)},
    )
    printed, messages = process.communicate()
    assert process.returncode == 0, messages
    return printed.replace(str(out), "OUT")


def diary(out: Path, what: str) -> list[list[str]]:
    """Of each line on this, the process and the words."""
    lines = [line.split() for line in out.with_suffix(".txt").read_text().splitlines()]
    return [[rank, *words] for rank, kind, *words in lines if kind == what]


@needs_distributed
def test_two_processes_and_a_killed_one_make_the_model_of_one(tmp_path):
    folder = write_folder(tmp_path / "sales", many_series(), files=4, group=100)
    alone, team = tmp_path / "alone", tmp_path / "team"
    said = run(alone, folder, 1, 0)
    steps = diary(alone, "step")
    assert run(team, folder, 2, killed_at=len(steps) - 3) == said, "both printed, or other things"

    repeated = Counter(map(tuple, diary(team, "step"))) - Counter(
        (rank, *rest) for _, *rest in steps for rank in "01"
    )
    assert diary(team, "killed") == [["1"]]
    for rank in "01":
        mine = sum(count for (of, *_), count in repeated.items() if of == rank)
        assert 0 < mine <= EVERY, "more was lost than lies between two checkpoints"

    reads = Counter(map(tuple, diary(team, "read")))
    assert {count for _, count in reads.items()} == {2}, "read at the start and after the accident"
    assert sorted(lot for _, *lot in reads) == sorted(lot for _, *lot in diary(alone, "read"))
    assert len({rank for rank, *_ in reads}) == 2, "one process read everything"

    models = [GRUForecaster.load(out / "model.safetensors") for out in (alone, team)]
    states = [model.networks_[0].state_dict() for model in models]
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=WEIGHTS, atol=WEIGHTS)
    expected, found = (written(out / "forecast") for out in (alone, team))
    pd.testing.assert_frame_equal(found, expected, rtol=FORECASTS)
    assert sorted(os.listdir(team)) == ["forecast", "model.safetensors"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_everything_is_shared_out_once_and_in_order(size):
    for seed in range(20):
        rows = np.random.default_rng(seed).integers(0, 50, size=seed)
        team = Alone()
        team.size, shares = size, []
        for team.rank in range(size):
            shares += share(team, rows)
        assert shares == list(range(len(rows)))
