"""What a cell costs: a training step of each at equal parameters: `python benchmarks/cells.py`.

The sizes are those of Chung et al. 2014 (arXiv:1412.3555, table 1): about 20,000 parameters that
read 88 piano keys. A step is forward and backward with the gradients of all weights; by turns,
medians. torch has no minGRU and Tidegate no plain RNN or LSTM of its own.
"""

from __future__ import annotations

import torch
from cyclopts import App
from harness import machine
from harness.tables import Table, markdown_of
from min_gru import by_turns, step_of
from torch import nn

from tidegate.nn import GRU, MinGRU

KEYS, BATCH, TIME = 88, 16, 100
CELLS = {
    "plain RNN, torch": nn.RNN(KEYS, 100),
    "LSTM, torch": nn.LSTM(KEYS, 36),
    "GRU, torch": nn.GRU(KEYS, 46),
    "GRU, Tidegate": GRU(KEYS, 46),
    "minGRU, Tidegate": MinGRU(KEYS, 112),
}

app = App(help=__doc__)


@app.default
def main(*, threads: int = 2, seconds: float = 20.0) -> None:
    """Time all cells and print a table.

    Args:
        threads: Number of threads.
        seconds: How long to time them, all together.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    x = torch.randn(TIME, BATCH, KEYS)
    torch_gru, ours = CELLS["GRU, torch"], CELLS["GRU, Tidegate"]
    ours.load_state_dict(torch_gru.state_dict())
    torch.testing.assert_close(ours(x)[0], torch_gru(x)[0], rtol=0, atol=1e-5)
    found = by_turns({name: step_of(cell, x) for name, cell in CELLS.items()}, seconds)
    rows = []
    for name, cell in CELLS.items():
        count = sum(parameter.numel() for parameter in cell.parameters())
        rows.append([name, f"{cell.hidden_size}", f"{count:,}", f"{1e3 * found[name]:.2f}"])
    title = f"Training step, {BATCH} rows of {TIME} steps, {threads} threads"
    table = Table(title, ["cell", "units", "parameters", "ms"], rows)
    print(f"{'. '.join(machine.describe().values())}.\n\n{markdown_of(table)}")


if __name__ == "__main__":
    app()
