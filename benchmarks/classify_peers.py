"""Labels beside recurrent peers and ROCKET, run here: `python benchmarks/classify_peers.py FOLDER`.

FOLDER is `aeon/datasets/data` of an installed aeon (or of its unpacked wheel): the sets of the UEA
and UCR archives that it ships, in their official split. Each method runs with its defaults, but for
what `METHODS` says, from one seed. Peers may have an environment of their own: the runs of both are
kept in one file, and the table shows all that are there.

    python benchmarks/classify_peers.py FOLDER --methods GRUClassifier
    peers/bin/python benchmarks/classify_peers.py FOLDER --methods ROCKET "sktime LSTM-FCN"
"""

from __future__ import annotations

import importlib
from pathlib import Path
from time import perf_counter, process_time
from typing import Annotated, Any

import numpy as np
from cyclopts import App, Parameter
from harness.journal import Facts, Journal
from harness.tables import Table, markdown_of

# The two of several channels first. Peers want one length, so that JapaneseVowels (7 to 29 steps)
# is read as the archive made it equal; `--sets JapaneseVowels` reads it as it is.
SETS = ("BasicMotions", "JapaneseVowels_eq", "GunPoint", "ItalyPowerDemand", "ArrowHead")
_SKTIME = "sktime.classification.deep_learning"
_SEED = {"random_state": 0}
# Module, class and what is not its default: units where there is none; fewer passes for time; and
# `batch_first`, without which sktime's GRUs take the batch for the time.
METHODS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "GRUClassifier": ("tidegate.classify", "GRUClassifier", {}),
    "GRUClassifier, three": ("tidegate.classify", "GRUClassifier", {"members": 3}),
    "GRUClassifier, mingru": ("tidegate.classify", "GRUClassifier", {"cell": "mingru"}),
    "sktime SimpleRNN": (f"{_SKTIME}.rnn", "SimpleRNNClassifierTorch", _SEED),
    "sktime GRU": (f"{_SKTIME}.gru", "GRUClassifier", {"batch_first": True} | _SEED),
    "sktime GRU-FCN": (
        f"{_SKTIME}.gru",
        "GRUFCNNClassifier",
        {"hidden_dim": 8, "gru_layers": 1, "batch_first": True} | _SEED,
    ),
    "sktime LSTM-FCN": (
        f"{_SKTIME}.lstmfcn",
        "LSTMFCNClassifierTorch",
        {"num_epochs": 200} | _SEED,
    ),
    "aeon ROCKET": ("aeon.classification.convolution_based", "RocketClassifier", _SEED),
}

app = App(help=__doc__)
Sequences = list[np.ndarray]  # each (time, channels)


@app.default
def main(
    folder: Path,
    *,
    sets: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = SETS,
    methods: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = tuple(METHODS),
    threads: int = 1,
    seconds: float = float("inf"),
    output: Path = Path("benchmarks/results"),
) -> None:
    """Run what was not run yet, and print the table of all that was.

    Args:
        folder: Where aeon's sets are.
        sets: Which sets.
        methods: Which methods.
        threads: Of torch.
        seconds: Begin no run after so long.
        output: The folder for the runs that were done.
    """
    import torch

    torch.set_num_threads(threads)
    journal = Journal(output / "classify_peers.jsonl")
    runs = [{"set": name, "method": method} for method in methods for name in sets]
    left = journal.run_all(runs, lambda **run: one_run(folder, **run), seconds)
    print(markdown_of(table(journal)), f"\n{left} runs are left")


def one_run(folder: Path, method: str, **settings: str) -> Facts:
    name = settings["set"]
    module, kind, options = METHODS[method]
    place = folder / name.removesuffix("_eq")
    (x, y), (x_test, y_test) = (read(place / f"{name}_{part}.ts") for part in _PARTS)
    if not module.startswith("tidegate"):
        x, x_test = (np.stack(part).swapaxes(1, 2) for part in (x, x_test))
    model = getattr(importlib.import_module(module), kind)(**options)
    begun, spent = perf_counter(), process_time()
    model.fit(x, y)
    facts = {"seconds": perf_counter() - begun, "processor": process_time() - spent}
    return {"accuracy": float(np.mean(model.predict(x_test) == y_test)), **facts}


_PARTS = ("TRAIN", "TEST")


def read(path: Path) -> tuple[Sequences, np.ndarray]:
    """Sequences and labels of a file of aeon's `.ts` format without time stamps."""
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    rows = [line.split(":") for line in lines if line and line[0] not in "@#%"]
    sequences = [
        np.array([channel.replace("?", "nan").split(",") for channel in channels], float).T
        for *channels, _ in rows
    ]
    return sequences, np.array([row[-1] for row in rows])


def table(journal: Journal) -> Table:
    there = [m for m in METHODS if any(line["method"] == m for line in journal.lines)]
    found = {(line["set"], line["method"]): line for line in journal.lines}
    rows = []
    for name in SETS:
        lines = [found.get((name, method)) for method in there]
        rows.append([name, *("" if x is None else f"{100 * x['accuracy']:.1f}" for x in lines)])
    for title, fact in (("mean", "accuracy"), ("processor time, s", "processor")):
        cells = []
        for method in there:
            values = [found[name, method][fact] for name in SETS if (name, method) in found]
            total = 100 * np.mean(values) if fact == "accuracy" else sum(values)
            cells.append(f"{total:.1f}" if len(values) == len(SETS) else "")
        rows.append([title, *cells])
    return Table("Labels, run here", ["accuracy, %", *there], rows)


if __name__ == "__main__":
    app()
