"""Processes that `torchrun` starts train one network, as one process would, through accidents."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from folder_cases import command, many_series, write_folder, written
from small_team import Accident, Forecaster
from team_cases import (
    diary,
    require_one_interval_lost,
    require_same_weights,
    require_shared_reads,
)
from tidegate._commands import folder
from tidegate.cli import main
from tidegate.forecast import GRUForecaster
from tidegate.forecast._team import Alone, share

needs_distributed = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="torch has no distributed"
)


@needs_distributed
def test_two_processes_and_a_killed_one_make_the_model_of_one(tmp_path, monkeypatch, capsys):
    sales = write_folder(tmp_path / "sales", many_series(), files=4, group=100)
    alone, team = tmp_path / "alone", tmp_path / "team"
    book, books = (out.with_suffix(".txt") for out in (alone, team))
    arguments = ["forecast", str(sales), "--horizon", "6", "--resume", "--out"]
    monkeypatch.setattr(folder, "new_model", lambda request: Forecaster.small(Accident(str(book))))
    assert main([*arguments, str(alone)]) == 0
    steps = diary(book, "step")
    process = command(
        *arguments,
        team,
        script=Path(__file__).parents[1] / "small_team.py",
        processes=2,
        variables={"DIARY": str(books), "KILLED_AT": str(len(steps) - 3)},
    )
    printed, messages = process.communicate()
    assert process.returncode == 0, messages
    said = capsys.readouterr().out.replace(str(alone), str(team))
    assert printed == said, "both printed, or other things"
    require_one_interval_lost(books, steps)
    require_shared_reads(books, book)
    models = [GRUForecaster.load(out / "model.safetensors") for out in (team, alone)]
    require_same_weights(*models)
    found, expected = (written(out / "forecast") for out in (team, alone))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4)
    assert sorted(os.listdir(team)) == ["forecast", "model.safetensors"]


@needs_distributed
def test_processes_that_start_again_meet_where_others_were_before():
    from tidegate.forecast._together import _name_of_start

    store = torch.distributed.HashStore()
    names = set()
    for _ in range(3):
        with ThreadPoolExecutor(3) as pool:
            found = set(pool.map(lambda rank: _name_of_start(store, rank, 3), range(3)))
        assert len(found) == 1
        names |= found
    assert len(names) == 3


def test_on_another_device_it_learns_the_same():
    program = command(script=Path(__file__).parents[1] / "another_device.py")
    printed, messages = program.communicate()
    assert printed == "the same\n", messages


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_everything_is_shared_out_once_and_in_order(size):
    for seed in range(20):
        rows = np.random.default_rng(seed).integers(0, 50, size=seed)
        team = Alone()
        team.size, shares = size, []
        for team.rank in range(size):
            shares += share(team, rows)
        assert shares == list(range(len(rows)))
