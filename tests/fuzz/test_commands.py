"""A few of the command lines that `commands.py` tries for longer."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import commands


@pytest.mark.parametrize("seed", range(20))
def test_a_command_answers_or_says_why_not(seed):
    given, complaint = commands.run(seed)
    assert not complaint, f"{given}: {complaint}"


def test_an_error_of_ours_would_be_seen(monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(commands.cli, "main", broken)
    assert "ZeroDivisionError: ours" in commands.run(0)[1]
