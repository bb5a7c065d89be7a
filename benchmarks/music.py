"""Polyphonic music as in Chung et al. 2014 (arXiv:1412.3555): `python benchmarks/music.py FOLDER`.

FOLDER has the piano rolls of Boulanger-Lewandowski et al. 2012 with their split, as MATLAB files. A
network reads which of 88 keys sound and says which will sound in the next step; what is counted is
the negative log-likelihood a step. All cells have the paper's number of units, hence its budget of
about 20,000 parameters. Learning rate, noise and the step to stop at are chosen on the validation
part alone, and the test part is read once, by the choice.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from cyclopts import App, Parameter
from harness.journal import Facts, Journal
from harness.tables import Table, markdown_of
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tidegate.nn import GRU
from tidegate.train import Settings, train

FILES = {
    "Nottingham": "Nottingham",
    "JSB Chorales": "JSB_Chorales",
    "MuseData": "MuseData",
    "Piano-midi": "Piano_midi",
}
# Units for about 20,000 parameters, and test NLL, as the paper's tables 1 and 2 have them.
CELLS = {"tanh": 100, "GRU": 46, "LSTM": 36}
PAPER = {
    "Nottingham": (3.13, 3.23, 3.20),
    "JSB Chorales": (9.10, 8.54, 8.67),
    "MuseData": (6.23, 5.99, 6.23),
    "Piano-midi": (9.03, 8.82, 9.03),
}
RATES = (1e-2, 3e-2)
NOISES = {
    "none": (0.0, 0.0),
    "little": (0.02, 0.0),
    "weights": (0.075, 0.0),
    "weights and units": (0.075, 0.2),
}
# Batches at most: small sets are learnt by heart before long.
STEPS = {"Nottingham": 24000, "JSB Chorales": 3000, "MuseData": 16000, "Piano-midi": 3000}
KEYS, CHUNK, BATCH = 88, 100, 8

app = App(help=__doc__)


class Part(NamedTuple):
    """Pieces in batches of equal length or nearly so; padding is not counted."""

    batches: list[tuple[Tensor, Tensor]]  # rolls (batch, time, keys), lengths
    steps: int


class Player(nn.Module):
    """A recurrent layer and the keys of the next step."""

    def __init__(self, cell: str, dropout: float):
        super().__init__()
        make = {"tanh": nn.RNN, "GRU": GRU, "LSTM": nn.LSTM}[cell]
        self.recurrent = make(KEYS, CELLS[cell], batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(CELLS[cell], KEYS)

    def forward(self, rolls: Tensor) -> Tensor:
        """Logits of every step, from the steps before it."""
        before = nn.functional.pad(rolls[:, :-1], (0, 0, 1, 0))
        return self.head(self.dropout(self.recurrent(before)[0]))


@app.default
def main(
    folder: Path,
    *,
    sets: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = tuple(FILES),
    cells: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = tuple(CELLS),
    seconds: float = float("inf"),
    output: Path = Path("benchmarks/results"),
) -> None:
    """Train all, go on where an earlier call stopped, and print the table of what is there.

    Args:
        folder: Where the four .mat files are.
        sets: Which of them.
        cells: Which cells.
        seconds: Begin no run after so long.
        output: The folder for the runs that were done.
    """
    journal = Journal(output / "music.jsonl")
    runs = [
        {"set": name, "cell": cell, "rate": rate, "noise": noise, "steps": STEPS[name]}
        for name, rate, noise, cell in itertools.product(sets, RATES, NOISES, cells)
    ]
    parts = {name: load(folder / f"{FILES[name]}.mat") for name in sets}
    left = journal.run_all(
        runs, lambda **settings: one_run(parts[settings["set"]], **settings), seconds
    )
    print(markdown_of(table(journal)), f"\n{left} runs are left")


def load(path: Path) -> dict[str, Part]:
    """The three parts of a set, cut into chunks that are learnt from, or whole."""
    from scipy.io import loadmat

    found = loadmat(path)
    parts = {name: [roll.astype(np.float32) for roll in found[f"{name}data"].ravel()]
             for name in ("train", "valid", "test")}  # fmt: skip
    chunks = [r[i : i + CHUNK] for r in parts["train"] for i in range(0, len(r), CHUNK)]
    return {
        "train": batches(chunks),
        "valid": batches(parts["valid"]),
        "test": batches(parts["test"]),
    }


def batches(rolls: list[np.ndarray]) -> Part:
    rolls = sorted(rolls, key=len)
    made = []
    for start in range(0, len(rolls), BATCH):
        some = [torch.from_numpy(roll) for roll in rolls[start : start + BATCH]]
        made.append((nn.utils.rnn.pad_sequence(some, True), torch.tensor([len(r) for r in some])))
    return Part(made, sum(map(len, rolls)))


def nll(player: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Summed over keys and steps."""
    rolls, lengths = batch
    cost = binary_cross_entropy_with_logits(player(rolls), rolls, reduction="none").sum(2)
    return (cost * (torch.arange(rolls.size(1)) < lengths[:, None])).sum()


@torch.no_grad()
def measure(player: nn.Module, part: Part) -> float:
    return sum(nll(player, batch).item() for batch in part.batches) / part.steps


def one_run(parts: dict[str, Part], cell: str, rate: float, noise: str, steps: int, **_) -> Facts:
    weight_noise, dropout = NOISES[noise]
    torch.manual_seed(0)
    player = Player(cell, dropout)
    learnt = parts["train"].batches
    order = np.random.default_rng(0)
    epochs = [order.permutation(len(learnt)) for _ in range(math.ceil(steps / len(learnt)))]
    numbers = np.concatenate(epochs)
    every = max(100, len(learnt) // 2)

    def loss(number: int) -> Tensor:
        batch = learnt[numbers[number]]
        return with_noise(player, weight_noise, lambda: nll(player, batch)) / batch[1].sum()

    settings = Settings(steps, learning_rate=rate, validate_every=every, patience=15)
    history = train(player, loss, settings, validate=lambda: measure(player, parts["valid"]))
    assert history.best is not None  # it was validated
    return {
        "parameters": sum(p.numel() for p in player.parameters()),
        "step": history.best[0],
        "valid": history.best[1],
        "test": measure(player, parts["test"]),
        "train": measure(player, parts["train"]),
        "seconds": history.seconds,
    }


def with_noise(player: nn.Module, size: float, loss) -> Tensor:
    """The loss under weights with noise (Graves 2011), whose gradient is that of the weights."""
    if not size:
        return loss()
    noisy = {name: p + size * torch.randn_like(p) for name, p in player.named_parameters()}
    held = dict(player.named_parameters())
    for name, value in noisy.items():
        _put(player, name, value)
    try:
        return loss()
    finally:
        for name, value in held.items():
            _put(player, name, value)


def _put(player: nn.Module, name: str, value: Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    module = player.get_submodule(owner)
    if isinstance(value, nn.Parameter):
        delattr(module, leaf)
        module.register_parameter(leaf, value)
    else:
        del module._parameters[leaf]
        setattr(module, leaf, value)


def table(journal: Journal) -> Table:
    headings = ["test NLL, ours (paper's)", *(f"{cell}, {n} units" for cell, n in CELLS.items())]
    rows = []
    for name in FILES:
        cells = []
        for cell, published in zip(CELLS, PAPER[name], strict=True):
            mine = {"set": name, "cell": cell, "steps": STEPS[name]}
            lines = [line for line in journal.lines if mine.items() <= line.items()]
            best = min(lines, key=lambda line: line["valid"], default=None)
            done = "" if len(lines) == len(RATES) * len(NOISES) else f", {len(lines)} choices"
            cells.append(f"{best['test']:.2f} ({published:.2f}){done}" if best else "not run")
        rows.append([name, *cells])
    return Table("Chosen on the validation part", headings, rows)


if __name__ == "__main__":
    app()
