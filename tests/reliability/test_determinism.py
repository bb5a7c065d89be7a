"""Same seed, data, machine and threads: the same model files, byte for byte, in any process."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from forecast_cases import small_forecaster, small_panel
from language_cases import TEXT, small_model
from tidegate.classify import GRUClassifier, GRURegressor
from tidegate.nn import GRU, MinGRU
from tidegate.train import Settings, train

TESTS = Path(__file__).parents[1]
X = np.random.default_rng(0).standard_normal((30, 7, 2))
TEXTS = ["up and down", "to and fro", "in and out"] * 5
LABELLER = {"hidden_size": 6, "steps": 2, "dropout": 0.2}


def forecaster(seed):
    panel = small_panel(3).assign(promo=lambda df: np.arange(len(df)) % 3)
    arguments = {"steps": 2, "members": 2, "past_cols": ("promo",)}
    return small_forecaster(seed=seed, **arguments).fit(panel)


def language(cell):
    regularised = {"recurrent_dropout": 0.2, "weight_dropout": 0.2} if cell == "gru" else {}
    return lambda seed: small_model(cell=cell, steps=3, seed=seed, **regularised).fit(TEXT)


MODELS = {
    "forecaster": forecaster,
    "classifier": lambda seed: GRUClassifier(members=2, seed=seed, **LABELLER).fit(
        X, np.arange(30) % 3
    ),
    "regressor": lambda seed: GRURegressor(seed=seed, **LABELLER).fit(X, X.sum((1, 2))),
    "classifier of texts": lambda seed: GRUClassifier(seed=seed, **LABELLER).fit(
        TEXTS, ["a", "b", "c"] * 5
    ),
    "language": language("gru"),
    "language, minGRU": language("mingru"),
    "language, LSTM": language("lstm"),
}


def digest_of_file(model) -> str:
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, "model"))
        return hashlib.sha256(Path(folder, "model").read_bytes()).hexdigest()


def digest_of_layers(seed) -> str:
    """Layers that train with every kind of dropout, batch and units shared between threads."""
    torch.manual_seed(seed)
    first = GRU(2, 40, num_layers=2, dropout=0.2, recurrent_dropout=0.2, bidirectional=True)
    second = MinGRU(80, 40)
    both = torch.nn.ModuleList([first, second])
    x = torch.from_numpy(X).float().transpose(0, 1)

    def loss(number):
        return second(first(x)[0])[0].square().mean()

    train(both, loss, Settings(steps=2, seed=seed))
    parts = (p.detach().numpy().tobytes() for p in both.parameters())
    return hashlib.sha256(b"".join(parts)).hexdigest()


def digests(seed) -> dict[str, str]:
    found = {name: digest_of_file(fit(seed)) for name, fit in MODELS.items()}
    return found | {"layers": digest_of_layers(seed)}


def in_another_process(seed) -> dict[str, str]:
    """Where hashes of strings, and so the order of sets, and all global states are others."""
    code = (
        "import json, sys, numpy, torch; numpy.random.seed(5); torch.manual_seed(5);"
        "sys.path[:0] = json.loads(sys.argv[1]); from reliability import test_determinism as t;"
        f"torch.set_num_threads({torch.get_num_threads()}); print(json.dumps(t.digests({seed})))"
    )
    paths = json.dumps([str(TESTS), str(TESTS.parent / "src")])
    done = subprocess.run(
        [sys.executable, "-c", code, paths],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_equal_seeds_give_equal_files_in_any_process():
    here, there = digests(1), in_another_process(1)
    assert here == there
