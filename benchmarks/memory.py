"""What each cell remembers: generated tasks at growing lengths, `python benchmarks/memory.py`.

Every cell has 64 units, one layer, a linear layer on its states, and the same training: Adam's
rate 3e-3, clipping at 1, batches of 32 that are never seen twice. A run ends when the task is
solved or the steps are over. Runs that were done are kept, and a second call goes on with the rest,
in the midst of a run that was stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from cyclopts import App, Parameter
from harness.journal import Facts, Journal
from harness.tables import Table, markdown_of
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from tidegate.data.tasks import TASKS, Examples
from tidegate.nn import GRU, MinGRU
from tidegate.train import Settings, train

HIDDEN, BATCH, RATE = 64, 32, 3e-3
# A task counts as solved at this share of the loss of whoever remembers nothing.
SOLVED = 0.05
# Batches to learn from at each length: longer sequences cost more and get fewer.
STEPS = {50: 1000, 200: 800, 500: 400, 2000: 600}
# Sequences of 2,000 steps take minutes a run: the tasks of one question, and the cells to compare.
LONGEST = {
    2000: (
        ("latch", "recall", "adding"),
        ("GRU", "GRU, chrono", "LSTM, chrono", "minGRU", "minGRU, chrono"),
    )
}
MNIST_1D, MNIST_1D_STEPS = "MNIST-1D", 2500

app = App(help=__doc__)


def lstm_chrono(features: int, hidden: int, length: int) -> nn.LSTM:
    """An LSTM whose forget gates remember up to `length` steps, its input gates the opposite."""
    lstm = nn.LSTM(features, hidden, batch_first=True)
    with torch.no_grad():
        parameters = dict(lstm.named_parameters())
        memory = torch.empty(hidden).uniform_(1.1, max(length - 1, 2)).log()
        rest = torch.zeros(2 * hidden)
        parameters["bias_ih_l0"].copy_(torch.cat([-memory, memory, rest]))
        parameters["bias_hh_l0"].zero_()
    return lstm


def gru(**options) -> Callable[[int, int, int], nn.Module]:
    return lambda features, hidden, length: GRU(features, hidden, batch_first=True, **options)


CELLS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "tanh": lambda features, hidden, length: nn.RNN(features, hidden, batch_first=True),
    "GRU": gru(),
    "GRU, reset before": gru(reset="before"),
    "GRU, no reset": gru(reset="none"),
    "GRU, chrono": lambda features, hidden, length: GRU(
        features, hidden, batch_first=True, init="chrono", chrono_range=(2.0, max(length, 3))
    ),
    "LSTM": lambda features, hidden, length: nn.LSTM(features, hidden, batch_first=True),
    "LSTM, chrono": lstm_chrono,
    "minGRU": lambda features, hidden, length: MinGRU(features, hidden, batch_first=True),
    "minGRU, chrono": lambda features, hidden, length: MinGRU(
        features, hidden, batch_first=True, chrono_range=(2.0, max(length, 3))
    ),
}


class Rememberer(nn.Module):
    """A cell and a linear layer on its states."""

    def __init__(self, cell: str, features: int, classes: int, length: int):
        super().__init__()
        self.cell = CELLS[cell](features, HIDDEN, length)
        self.head = nn.Linear(HIDDEN, classes or 1)

    def forward(self, examples: Examples) -> tuple[Tensor, Tensor]:
        """Loss a question, and the share of right answers (nothing of the kind for numbers)."""
        asked = torch.from_numpy(examples.asked)
        states = self.cell(torch.from_numpy(examples.x))[0]
        answer, target = self.head(states[asked]), torch.from_numpy(examples.target)[asked]
        if not examples.classes:
            return mse_loss(answer[:, 0], target), torch.tensor(torch.nan)
        return cross_entropy(answer, target), (answer.argmax(1) == target).float().mean()


@app.default
def main(
    *,
    tasks: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (*TASKS, MNIST_1D),
    lengths: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = tuple(STEPS),
    cells: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = tuple(CELLS),
    seeds: int = 1,
    batches: int | None = None,
    seconds: float = float("inf"),
    output: Path = Path("benchmarks/results"),
) -> None:
    """Run what was not run yet, and print the table of all that was.

    Args:
        tasks: Which tasks.
        lengths: At which lengths.
        cells: Which cells.
        seeds: How many, of weights and batches; the test sequences stay.
        batches: To learn from at most, in place of the few that each length has; the runs are kept
            in a file of their own.
        seconds: Begin no run after so long.
        output: The folder for the runs that were done.
    """
    journal = Journal(output / f"memory{'' if batches is None else f'_{batches}'}.jsonl")
    runs = [
        {"task": task, "length": length, "cell": cell, "seed": seed}
        for seed in range(seeds)
        for length in lengths
        for task in tasks
        if task != MNIST_1D
        for cell in cells
        if length not in LONGEST or (task in LONGEST[length][0] and cell in LONGEST[length][1])
    ]
    if MNIST_1D in tasks:
        runs += [
            {"task": MNIST_1D, "length": 40, "cell": cell, "seed": seed}
            for seed in range(seeds)
            for cell in cells
        ]
    runs = [run if batches is None else run | {"batches": batches} for run in runs]
    kept = output / "memory_run.ckpt"
    left = journal.run_all(runs, lambda **run: one_run(kept, **run), seconds)
    print(markdown_of(table(journal)), f"\n{left} runs are left")


def one_run(
    kept: Path, task: str, length: int, cell: str, seed: int, batches: int | None = None
) -> Facts:
    kept = kept.with_stem(f"{kept.stem} {task} {length} {cell} {seed} {batches}")
    if task == MNIST_1D:
        draw, validation, test = mnist_1d()
        steps, enough = MNIST_1D_STEPS, 0.0
    else:
        make = TASKS[task]
        draw, test = lambda key: make(BATCH, length, key), make(128, length, 0)
        validation, steps, enough = test, STEPS[length], SOLVED * test.chance
    torch.manual_seed(seed)
    model = Rememberer(cell, test.x.shape[2], test.classes, length)
    settings = Settings(
        batches or steps,
        learning_rate=RATE,
        weight_decay=0.0,
        validate_every=25,
        checkpoint_every=25,
        enough=enough,
        seed=seed,
    )
    first = 10**6 * (seed + 1)  # of the seeds of the batches
    history = train(
        model,
        lambda number: model(draw(first + number))[0],
        settings,
        validate=lambda: model(validation)[0].item(),
        checkpoint=kept,
        resume=True,
    )
    kept.unlink(missing_ok=True)
    with torch.no_grad():
        loss, accuracy = (value.item() for value in model(test))
    assert history.best is not None  # it was validated
    return {
        "loss": loss,
        "chance": test.chance,
        "accuracy": None if np.isnan(accuracy) else accuracy,
        "solved": history.best[1] <= enough,
        "steps": history.best[0],
        "seconds": round(history.seconds, 2),
    }


def mnist_1d() -> tuple[Callable[[int], Examples], Examples, Examples]:
    """Batches of the training digits, a fifth of these to choose by instead, and the test digits.

    Greydanus & Kobak 2020 (arXiv:2011.14439); the package `mnist1d` makes them from a seed.
    """
    from mnist1d.data import get_dataset_args, make_dataset

    data = make_dataset(get_dataset_args())
    learnt = len(data["x"]) * 4 // 5

    def examples(x: np.ndarray, y: np.ndarray) -> Examples:
        asked = np.zeros(x.shape, bool)
        asked[:, -1] = True
        target = np.repeat(y[:, None], x.shape[1], 1).astype(np.int64)
        return Examples(x[..., None].astype(np.float32), target, asked, 10, float(np.log(10)))

    def draw(key: int) -> Examples:
        rows = np.random.default_rng(key).integers(learnt, size=BATCH)
        return examples(data["x"][rows], data["y"][rows])

    validation = examples(data["x"][learnt:], data["y"][learnt:])
    return draw, validation, examples(data["x_test"], data["y_test"])


def table(journal: Journal) -> Table:
    cells = [cell for cell in CELLS if any(line["cell"] == cell for line in journal.lines)]
    kinds = dict.fromkeys((line["task"], line["length"]) for line in journal.lines)
    rows = [
        [f"{task}, {length:,}", *(_cell(journal, task, length, cell) for cell in cells)]
        for task, length in sorted(kinds)
    ]
    return Table("What each cell remembers", ["task, length", *cells], rows)


def _cell(journal: Journal, task: str, length: int, cell: str) -> str:
    """After how many batches each seed solved it, else how far it came; equal words once."""
    wanted = {"task": task, "length": length, "cell": cell}
    lines = [line for line in journal.lines if wanted.items() <= line.items()]
    solved = sorted(line["steps"] for line in lines if line["solved"])
    parts = []
    if solved:
        share = "" if len(solved) == len(lines) else f" {len(solved)} of {len(lines)}"
        parts.append(f"solved{share}, {_range(solved, '{:,}')}")
    rest = [line for line in lines if not line["solved"]]
    if rest and rest[0]["accuracy"] is None:
        parts.append(_range([line["loss"] / line["chance"] for line in rest], "{:.2f}"))
    elif rest:
        parts.append(_range([100 * line["accuracy"] for line in rest], "{:.0f}") + "%")
    return "; ".join(parts)


def _range(values: list[float], form: str) -> str:
    ends = dict.fromkeys((form.format(min(values)), form.format(max(values))))
    return " to ".join(ends)


if __name__ == "__main__":
    app()
