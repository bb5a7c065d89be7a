"""Time and memory of folders of series, 1, 4 and 16 times as many: `python benchmarks/scale.py`.

Writes made-up monthly series as Parquet, has a network learn from them and forecasts them all, and
forecasts them again with the network as it is. Each time is that of the whole command, from its
start to its end; of a team of processes (`--processes`), the largest counts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cyclopts import App, Parameter
from cyclopts.validators import Number
from harness.tables import Table, markdown_of

LENGTH, SERIES_IN_A_FILE, HORIZON = 100, 10_000, 12
HEADINGS = [
    "series",
    "rows",
    "MB of files",
    "learning and forecasting, s",
    "peak, MB",
    "forecasting alone, s",
    "peak, MB",
    "series a second",
]


class Spent(NamedTuple):
    """What a process took: seconds, and its peak of resident memory in megabytes."""

    seconds: float
    memory: float


app = App(help_format="markdown")
Count = Annotated[int, Parameter(validator=Number(gte=1))]


@app.default
def run(
    *, series: Count = 25_000, times: tuple[Count, ...] = (1, 4, 16), processes: Count = 1
) -> None:
    """Measure, and print the table.

    Args:
        series: The smallest number of series.
        times: How many times as many.
        processes: How many learn and forecast together.
    """
    table = Table(f"Processes: {processes}", HEADINGS, [])
    for many in times:
        with TemporaryDirectory() as place:
            folder, out = Path(place, "series"), Path(place, "out")
            writer = get_context("spawn").Process(target=write, args=(folder, many * series))
            writer.start()
            writer.join()
            both = spent(processes, folder, "--horizon", HORIZON, "--out", out)
            model = out / "model.safetensors"
            alone = spent(processes, folder, "--model", model, "--out", Path(place, "more"))
            size = sum(file.stat().st_size for file in folder.iterdir())
        numbers = [many * series, many * series * LENGTH, size / 1e6]
        numbers += [*both, *alone, many * series / alone.seconds]
        table.cells.append([f"{number:,.0f}" for number in numbers])
    print(markdown_of(table))


def spent(processes: int, *arguments: object) -> Spent:
    """What the command takes, alone or as a team of torchrun."""
    team = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    words = [*(team if processes > 1 else []), "-m", "tidegate", "forecast", *arguments]
    begun = perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, words)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{words} ended with {status}")
    return Spent(perf_counter() - begun, usage.ru_maxrss / 1e3)


def write(folder: Path, count: int) -> None:
    """So many series of 100 months, in files of 10,000."""
    folder.mkdir()
    for i, first in enumerate(range(0, count, SERIES_IN_A_FILE)):
        numbers = np.arange(first, min(first + SERIES_IN_A_FILE, count))
        pq.write_table(made_up(numbers), folder / f"{i:05}.parquet")


def made_up(numbers: np.ndarray) -> pa.Table:
    """Series with a level, a trend, a season and noise of their own."""
    rng = np.random.default_rng(numbers[0])
    each, time = (len(numbers), 1), np.arange(LENGTH)
    season = np.sin(2 * np.pi * (time / 12 + rng.random(each)))
    logs = rng.normal(4, 2, each) + rng.normal(0, 0.004, each) * time + rng.random(each) * season
    values = np.exp(logs + rng.random(each) / 5 * rng.standard_normal(season.shape))
    months = np.datetime64("2015-01", "M") + time
    return pa.table(
        {
            "unique_id": pa.array([f"{n:09}" for n in numbers]).take(
                pa.array(np.arange(len(numbers)).repeat(LENGTH))
            ),
            "ds": np.tile(months.astype("datetime64[ms]"), len(numbers)),
            "y": values.ravel(),
        }
    )


if __name__ == "__main__":
    app()
