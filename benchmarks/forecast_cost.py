"""What the forecaster costs: its import, a training step, more series, longer series, memory.

python benchmarks/forecast_cost.py --markdown
"""

from __future__ import annotations

import cProfile
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from cyclopts import App
from harness.tables import Table, markdown_of, print_rich
from rich.console import Console

from tidegate.data import Panel
from tidegate.data.frequency import Months
from tidegate.forecast import GRUForecaster

app = App(help=__doc__)


@app.default
def main(*, markdown: bool = False, many: int = 100_000) -> None:
    """Measure, each number once, but for the import, of which the best of three counts.

    Args:
        markdown: Print the table as benchmarks/README.md has it.
        many: Series of the last row.
    """
    rows = [
        ["import beyond torch's own", f"{_import_seconds():.2f} s"],
        ["kernels' share of a training step", f"{_kernel_share():.0%}"],
    ]
    for count, length in ((1000, 60), (4000, 60), (1000, 240)):
        seconds = _predict_seconds(count, length)
        each = 1e6 * seconds / (count * length)
        rows.append(
            [f"forecast {count:,} series of {length}", f"{seconds:.2f} s, {each:.1f} µs a value"]
        )
    rows.append([f"fit 20 steps on {many:,} series of 36", _memory(many)])
    table = Table("Cost", ["what", "measured"], rows)
    print(markdown_of(table)) if markdown else print_rich(Console(width=110), table)


def _import_seconds() -> float:
    def seconds(code: str) -> float:
        script = f"import time, torch; begun = time.perf_counter(); {code}; "
        script += "print(time.perf_counter() - begun)"
        run = [sys.executable, "-c", script]
        return min(float(subprocess.check_output(run, text=True)) for _ in range(3))

    return seconds("from tidegate.forecast import GRUForecaster")


def _panel(count: int, length: int) -> Panel:
    rng = np.random.default_rng(0)
    calendar = Months(1)
    times = calendar.next(np.datetime64("2010-01-01", "ns"), length)
    values = np.exp(np.cumsum(0.1 * rng.standard_normal((count, length)), 1))
    return Panel([str(i) for i in range(count)], [times] * count, list(values), calendar)


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _kernel_share() -> float:
    """Of the seconds of fifty steps, those inside the kernels, forward and backward."""
    panel = _panel(500, 96)
    model = GRUForecaster(12, steps=4).fit(panel)
    network = model.networks_[0].train()
    shape, length = network.shape, model.model_.scaling.input_length
    rows, horizon = 128, 12
    inputs = [
        torch.randn(rows, length, 3),
        torch.randn(rows, 5),
        torch.randn(rows, horizon),
        torch.randn(rows, 7, horizon),
        torch.zeros(rows, length, 0),
        torch.zeros(rows, length, 0, dtype=torch.long),
        torch.zeros(rows, horizon, 0),
        torch.zeros(rows, horizon, 0, dtype=torch.long),
    ]
    assert shape.ahead_size == 0
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        network(*inputs).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    for _ in range(5):
        step()
    profiler = cProfile.Profile()
    seconds = profiler.runcall(lambda: _timed(lambda: [step() for _ in range(50)]))
    kernels = sum(
        entry.totaltime
        for entry in profiler.getstats()
        if not isinstance(entry.code, str)
        and entry.code.co_filename.endswith("nn/_kernel.py")
        and entry.code.co_name in ("forward", "backward")
    )
    return kernels / seconds


def _predict_seconds(count: int, length: int) -> float:
    panel = _panel(count, length)
    model = GRUForecaster(12, steps=2).fit(_panel(50, length))
    return _timed(lambda: model.predict(panel))


def _memory(count: int) -> str:
    panel = _panel(count, 36)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = GRUForecaster(6, steps=20)
    seconds = _timed(lambda: model.fit(panel))
    forecast = _timed(model.predict)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (
        f"{seconds:.0f} s, forecast {forecast:.0f} s, peak {peak / 1e3:.0f} MB, "
        f"{(peak - before) / 1e3:.0f} MB more than before"
    )


if __name__ == "__main__":
    app()
