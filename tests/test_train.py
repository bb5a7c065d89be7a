"""The training loop: reproducible, resumable after a kill, and stopped by validation."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tidegate.errors import InputError
from tidegate.train import History, Settings, train

# A model with dropout, so that the random state matters; batches by number alone.
SCRIPT = """
import sys, time, torch
from torch import nn
from tidegate.train import Settings, train

torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.3), nn.Tanh(), nn.Linear(16, 1))
x = torch.randn(256, 4, generator=torch.Generator().manual_seed(1))
y = x.prod(1, keepdim=True)

def loss(number):
    rows = torch.randint(256, (32,), generator=torch.Generator().manual_seed(number))
    return (model(x[rows]) - y[rows]).square().mean()

def progress(p):
    print(p.step, flush=True)
    time.sleep(float(sys.argv[2]))

settings = Settings(steps=120, validate_every=7, checkpoint_every=10, seed=3)
validate = lambda: (model(x) - y).square().mean().item()
history = train(
    model, loss, settings, validate=validate, progress=progress, checkpoint=sys.argv[1], resume=True
)
torch.save([model.state_dict(), history.losses, history.validations], sys.argv[1] + ".result")
"""


def start(checkpoint: Path, pause: float) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-c", SCRIPT, str(checkpoint), str(pause)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)


def result(checkpoint: Path) -> list:
    return torch.load(f"{checkpoint}.result")


def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(whole, 0)
    process.communicate()
    assert process.returncode == 0
    for stop_at in ("33", "78"):
        process = start(killed, 0.01)
        while process.stdout.readline().strip() != stop_at:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(killed, 0)
    first = int(process.stdout.readline())
    process.communicate()
    assert 60 < first < 90
    for a, b in zip(result(whole), result(killed), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def line(steps: int, rate: float = 0.05, **more) -> tuple:
    torch.manual_seed(0)
    model, x = nn.Linear(1, 1), torch.linspace(-1, 1, 16)[:, None]
    settings = Settings(steps=steps, learning_rate=rate, weight_decay=0, **more)
    return model, (lambda number: (model(x) - 2 * x).abs().mean()), settings


def test_training_learns_and_leaves_the_callers_random_numbers_alone():
    model, loss, settings = line(200)
    torch.manual_seed(5)
    history = train(model, loss, settings)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    assert history.losses[-1] < 0.05 * history.losses[0]
    assert len(history.losses) == 200
    assert not model.training


def test_the_rate_rises_then_falls_to_zero():
    settings = Settings(steps=100, learning_rate=1.0, warmup=0.2)
    rates = np.array([settings.rate(step) for step in range(100)])
    assert rates.argmax() == 19
    assert rates.max() == 1
    assert (np.diff(rates[:20]) > 0).all()
    assert (np.diff(rates[19:]) < 0).all()
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_the_weights_that_validated_best_are_kept():
    model, loss, settings = line(60, validate_every=10)
    values, seen = iter([5.0, 3.0, float("nan"), 1.0, 2.0, 4.0]), []

    def validate():
        seen.append(model.weight.item())
        return next(values)

    history = train(model, loss, settings, validate=validate)
    assert history.best == (40, 1.0)
    assert model.weight.item() == seen[3]


def test_training_stops_when_validation_no_longer_improves():
    model, loss, settings = line(1000, validate_every=5, patience=3)
    values = iter([3.0, 2.0, 2.5, 2.5, 2.5, 2.5])
    history = train(model, loss, settings, validate=lambda: next(values))
    assert history.stopped
    assert len(history.losses) == 25


def test_training_stops_at_a_validation_that_is_enough():
    model, loss, settings = line(1000, validate_every=5, enough=1.0)
    values = iter([3.0, 1.5, 1.0])
    history = train(model, loss, settings, validate=lambda: next(values))
    assert history.stopped
    assert len(history.losses) == 15


def test_a_finished_run_resumes_to_its_end(tmp_path):
    model, loss, settings = line(20)
    train(model, loss, settings, checkpoint=tmp_path / "c")
    again, _, _ = line(20)
    history = train(again, pytest.fail, settings, checkpoint=tmp_path / "c", resume=True)
    assert len(history.losses) == 20
    assert torch.equal(again.weight, model.weight)


def test_a_loss_that_is_not_finite_is_refused():
    model, loss, settings = line(10)
    with pytest.raises(FloatingPointError, match="became nan at step 1: lower learning_rate"):
        train(model, lambda number: loss(number) * torch.nan, settings)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    model, loss, settings = line(10)
    train(model, loss, settings, checkpoint=tmp_path / "c")
    other = Settings(**{**vars(settings), "seed": 1})
    with pytest.raises(InputError, match="other settings: seed was 0 and is 1"):
        train(model, loss, other, checkpoint=tmp_path / "c", resume=True)
    with pytest.raises(InputError, match="of another model"):
        train(nn.Linear(2, 2), loss, settings, checkpoint=tmp_path / "c", resume=True)


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    model, loss, settings = line(10)
    path = tmp_path / "c"
    train(model, loss, settings, checkpoint=path)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"a,b\n1,2\n", "empty": b""}[damage])
    with pytest.raises(InputError, match="cannot be read"):
        train(model, loss, settings, checkpoint=path, resume=True)


def test_tied_weights_survive_a_checkpoint(tmp_path):
    def tied():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        model[1].weight = model[0].weight
        return model, (lambda number: (model(torch.eye(3)) - torch.ones(3)).square().mean())

    model, loss = tied()
    train(model, loss, Settings(steps=10), checkpoint=tmp_path / "c")
    again, loss = tied()
    train(again, loss, Settings(steps=10), checkpoint=tmp_path / "c", resume=True)
    assert again[1].weight is again[0].weight
    assert torch.equal(again[0].weight, model[0].weight)


@pytest.mark.parametrize("steps", [0, 1, 300, 301, 1000])
def test_a_file_keeps_the_history_in_few_numbers(steps):
    losses = [1 / (step + 1) for step in range(steps)]
    whole = History(losses, [(steps // 2, 0.5), (steps, math.inf)], seconds=3.0)
    kept = History.from_facts(json.loads(json.dumps(whole.facts(), allow_nan=False)))
    assert len(whole.facts()["losses"]) <= 300
    assert len(kept.losses) == steps
    assert np.mean(kept.losses or [0]) == pytest.approx(np.mean(losses or [0]), rel=2e-3)
    if steps <= 300:
        assert kept.losses == pytest.approx(losses, rel=1e-4)
    assert kept.best == whole.best
    with pytest.raises(ValueError, match="steps"):
        History.from_facts(whole.facts() | {"steps": 10**12})
