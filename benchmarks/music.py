"""Polyphonic music as in Chung et al. 2014 (arXiv:1412.3555): `python benchmarks/music.py FOLDER`.

FOLDER has the piano rolls of Boulanger-Lewandowski et al. 2012 with their split, as MATLAB files. A
network reads which of 88 keys sound and says which will sound in the next step; what is counted is
the negative log-likelihood a step. All cells have the paper's number of units, hence its budget of
about 20,000 parameters. Learning rate, dropout and the step to stop at are chosen on the validation
part alone, and the test part is read once, by the choice.
"""

from __future__ import annotations

import itertools
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
# What is tried: the highest rate, the shares of keys not read and of units dropped at the end.
CHOICES = ((1e-2, 0.1, 0.2), (1e-2, 0.0, 0.0), (3e-3, 0.1, 0.2))
EPOCHS = {"Nottingham": 150, "JSB Chorales": 300, "MuseData": 80, "Piano-midi": 120}
KEYS, BATCH, VALIDATIONS = 88, 16, 50

app = App(help=__doc__)


class Part(NamedTuple):
    """Whole pieces, in batches of nearly equal length; padding is not counted."""

    batches: list[tuple[Tensor, Tensor]]  # rolls (batch, time, keys), lengths
    steps: int


class Player(nn.Module):
    """A recurrent layer and the keys of the next step.

    Each gate's recurrent weights begin orthogonal, and each key at its share of the training part:
    else the network rests for long where it gives each key its share and no more.
    """

    def __init__(self, cell: str, units: int, unread: float, dropout: float, shares: Tensor):
        super().__init__()
        make = {"tanh": nn.RNN, "GRU": GRU, "LSTM": nn.LSTM}[cell]
        self.recurrent = make(KEYS, units, batch_first=True)
        self.unread, self.dropout = unread, dropout
        self.head = nn.Linear(units, KEYS)
        weights = dict(self.recurrent.named_parameters())
        with torch.no_grad():
            for gate in weights["weight_hh_l0"].split(units):
                nn.init.orthogonal_(gate)
            for gate in (*weights["weight_ih_l0"].split(units), self.head.weight):
                nn.init.xavier_uniform_(gate)
            self.head.bias.copy_(shares.logit())

    def forward(self, rolls: Tensor, lengths: Tensor) -> Tensor:
        """Logits of every step, from the steps before it."""
        before = nn.functional.pad(rolls[:, :-1], (0, 0, 1, 0))
        if self.training and self.unread:
            before = before * (torch.rand_like(before) > self.unread)
        # Past a piece's end nothing is counted, so that only our layer need be told where it is.
        told = {"lengths": lengths} if isinstance(self.recurrent, GRU) else {}
        states = self.recurrent(before, **told)[0]
        return self.head(nn.functional.dropout(states, self.dropout, self.training))


@app.default
def main(
    folder: Path,
    *,
    sets: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = tuple(FILES),
    cells: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = tuple(CELLS),
    choices: int = len(CHOICES),
    share: float = 1.0,
    units: int | None = None,
    seconds: float = float("inf"),
    output: Path = Path("benchmarks/results"),
) -> None:
    """Train all, go on where an earlier call stopped, and print the table of what is there.

    Args:
        folder: Where the four .mat files are.
        sets: Which of them.
        cells: Which cells.
        choices: How many of the settings to try, from the first on.
        share: Of the passes that each set has; the table is of runs of so many.
        units: Of the layer, in place of the paper's.
        seconds: Begin no run after so long.
        output: The folder for the runs that were done.
    """
    journal = Journal(output / "music.jsonl")
    runs = [
        {"set": name, "cell": cell, "units": units or CELLS[cell]}
        | {"rate": rate, "unread": unread, "dropout": dropout, "epochs": passes(name, share)}
        for (rate, unread, dropout), name, cell in itertools.product(CHOICES[:choices], sets, cells)
    ]
    parts = {name: load(folder / f"{FILES[name]}.mat") for name in sets}
    left = journal.run_all(
        runs, lambda **settings: one_run(parts[settings["set"]], output, **settings), seconds
    )
    print(markdown_of(table(journal, share)), f"\n{left} runs are left")


def passes(name: str, share: float) -> int:
    return max(1, round(EPOCHS[name] * share))


def load(path: Path) -> dict[str, Part]:
    """The three parts of a set."""
    from scipy.io import loadmat

    found = loadmat(path)
    return {
        name: batches([roll.astype(np.float32) for roll in found[f"{name}data"].ravel()])
        for name in ("train", "valid", "test")
    }


def batches(rolls: list[np.ndarray]) -> Part:
    rolls = sorted(rolls, key=len)
    made = []
    for start in range(0, len(rolls), BATCH):
        some = [torch.from_numpy(roll) for roll in rolls[start : start + BATCH]]
        made.append((nn.utils.rnn.pad_sequence(some, True), torch.tensor([len(r) for r in some])))
    return Part(made, sum(map(len, rolls)))


def shares(part: Part) -> Tensor:
    """How often each key sounds, never quite never."""
    sounding = torch.stack([rolls.sum((0, 1)) for rolls, _ in part.batches]).sum(0)
    return (sounding + 0.5) / (part.steps + 1)


def nll(player: Player, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Of each piece, summed over keys and steps."""
    rolls, lengths = batch
    cost = binary_cross_entropy_with_logits(player(rolls, lengths), rolls, reduction="none").sum(2)
    return (cost * (torch.arange(rolls.size(1)) < lengths[:, None])).sum(1)


@torch.no_grad()
def measure(player: Player, part: Part) -> tuple[float, float]:
    """A step, over all steps; and a step of a piece, over all pieces."""
    player.eval()
    costs = [(nll(player, batch), batch[1]) for batch in part.batches]
    by_piece = torch.cat([cost / lengths for cost, lengths in costs])
    return sum(cost.sum().item() for cost, _ in costs) / part.steps, by_piece.mean().item()


def one_run(
    parts: dict[str, Part],
    folder: Path,
    cell: str,
    units: int,
    rate: float,
    unread: float,
    dropout: float,
    epochs: int,
    **names: str,
) -> Facts:
    torch.manual_seed(0)
    player = Player(cell, units, unread, dropout, shares(parts["train"]))
    learnt = parts["train"].batches
    order = np.random.default_rng(0)
    numbers = np.concatenate([order.permutation(len(learnt)) for _ in range(epochs)])

    def loss(number: int) -> Tensor:
        batch = learnt[numbers[number]]
        return nll(player, batch).sum() / batch[1].sum()

    settings = Settings(
        len(numbers),
        learning_rate=rate,
        warmup=0.01,
        weight_decay=0.0,
        validate_every=max(len(numbers) // VALIDATIONS, 1),
        checkpoint_every=max(len(numbers) // VALIDATIONS, 1),
    )
    kept = folder / f"music {names['set']} {cell} {units} {rate} {unread} {dropout}.ckpt"
    history = train(
        player,
        loss,
        settings,
        validate=lambda: measure(player, parts["valid"])[0],
        checkpoint=kept,
        resume=True,
    )
    kept.unlink(missing_ok=True)
    assert history.best is not None  # it was validated
    test, test_by_piece = measure(player, parts["test"])
    return {
        "parameters": sum(p.numel() for p in player.parameters()),
        "step": history.best[0],
        "valid": history.best[1],
        "test": test,
        "test_by_piece": test_by_piece,
        "train": measure(player, parts["train"])[0],
        "seconds": history.seconds,
    }


def table(journal: Journal, share: float) -> Table:
    headings = ["test NLL, ours (paper's)", *(f"{cell}, {n} units" for cell, n in CELLS.items())]
    rows = []
    for name in FILES:
        cells = []
        for cell, published in zip(CELLS, PAPER[name], strict=True):
            mine = {"set": name, "cell": cell, "units": CELLS[cell], "epochs": passes(name, share)}
            lines = [line for line in journal.lines if mine.items() <= line.items()]
            best = min(lines, key=lambda line: line["valid"], default=None)
            done = "" if len(lines) == len(CHOICES) else f", {len(lines)} choices"
            cells.append(f"{best['test']:.2f} ({published:.2f}){done}" if best else "not run")
        rows.append([name, *cells])
    return Table("Chosen on the validation part", headings, rows)


if __name__ == "__main__":
    app()
