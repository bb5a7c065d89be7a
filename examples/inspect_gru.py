"""Train four cells to remember a bit, see which gradient arrives, and write the gate report.

Needs: pip install 'tidegate[torch]'
"""

import torch

from tidegate.inspect import gradient_flow, memory, report, train_cells

STEPS = 30


def task(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which bit came first, with noise after it."""
    generator = torch.Generator().manual_seed(number)
    bit = torch.randint(2, (64,), generator=generator)
    x = 0.3 * torch.randn(64, STEPS, 1, generator=generator)
    x[:, 0, 0] = 2.0 * bit - 1
    return x, bit


cells = train_cells(task, hidden_size=16, steps=150, learning_rate=1e-2)
x, bit = task(1_000_000)
flow = gradient_flow(cells, x)
for name, cell in cells.items():
    left = [flow[f"{name}, {when}"].norm[STEPS - 1] for when in ("before", "after")]
    print(f"{name}: accuracy {cell.score:.0%}, gradient at lag {STEPS - 1}: "
          f"{left[0]:.1e} before, {left[1]:.1e} after")  # fmt: skip

found = memory(cells["GRU"].after, x, target=bit)["cell.l0"]
print(f"unit {found.ranked[0]} of the GRU tells the bit best: {found.groups[0].alone:.0%} right")
print(report(cells["GRU"].after, x, "report.html", target=bit, title="A GRU that keeps a bit"))
