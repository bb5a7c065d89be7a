"""Train cells to keep a bit for 30 steps, see which gradient arrives, and write the gate report.

Needs: pip install 'tidegate[torch]'
"""

import torch
from torch import nn

from tidegate.inspect import gradient_flow, memory, report, train_cells
from tidegate.nn import GRU

STEPS = 30
CELLS = {
    "plain RNN": lambda features, units: nn.RNN(features, units, batch_first=True),
    "GRU": lambda features, units: GRU(features, units, batch_first=True),
    "GRU, chrono": lambda features, units: GRU(
        features, units, batch_first=True, init="chrono", chrono_range=(2, 2 * STEPS)
    ),
}


def task(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which bit came first, with noise as loud after it."""
    generator = torch.Generator().manual_seed(number)
    bit = torch.randint(2, (64,), generator=generator)
    x = torch.randn(64, STEPS, 2, generator=generator)
    x[:, :, 1] = 0
    x[:, 0, 0] = 2.0 * bit - 1
    x[:, 0, 1] = 1  # a mark: this is the one to keep
    return x, bit


cells = train_cells(task, hidden_size=16, steps=150, learning_rate=1e-2, cells=CELLS)
x, bit = task(1_000_000)
flow = gradient_flow(cells, x)
for name, cell in cells.items():
    before, after = (flow[f"{name}, {when}"].norm[STEPS - 1] for when in ("before", "after"))
    print(f"{name}: {cell.score:.0%} right; gradient at lag 29: {before:.0e}, trained {after:.0e}")

trained = cells["GRU, chrono"].after
found = memory(trained, x, target=bit)["cell.l0"]
print(f"unit {found.ranked[0]} tells the bit best: {found.groups[0].alone:.0%} right")
print(report(trained, x, "report.html", target=bit, title="A GRU that keeps a bit"))
