"""Forecasters side by side on the M competitions: `python benchmarks/forecast.py --help`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import App, Parameter
from forecasters import FORECASTERS, LEVELS, QUANTILES
from harness import machine
from harness.tables import Table, markdown_of, print_rich
from rich.console import Console

from tidegate.data import Panel, load_competition
from tidegate.forecast import coverage, mase, naive_error, smape, weighted_quantile_loss

Words = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")]

MB = 1e6
SEEDED = (
    "tidegate",
    "tidegate_quick",
    "neuralforecast",
    "darts",
    "gluonts",
    "pytorch_forecasting",
)
WORKER = Path(__file__).with_name("forecasters.py")
messages = Console(stderr=True, highlight=False)
app = App(help=__doc__)


@dataclass(frozen=True)
class Result:
    """One method on one part of a competition; accuracy is the mean over the seeds.

    `quantile_loss` and `held`, the shares of what came that the bands hold, are None where a method
    gives no bands.
    """

    part: str
    method: str
    mase: float
    smape: float
    quantile_loss: float | None
    held: list[float] | None
    fit: float
    busy: float
    predict: float
    memory: float
    parameters: int
    seeds: int


@dataclass(frozen=True)
class Part:
    """Series of a competition: histories, what came after them, and the unit of MASE."""

    name: str
    histories: list[np.ndarray]
    truth: np.ndarray
    season_length: int

    @classmethod
    def load(cls, name: str, held_out: bool) -> Part:
        """Read "M3-monthly"; with `held_out`, forecast the end of the history instead."""
        competition = load_competition(*name.split("-"))
        histories = Panel.from_frame(competition.train).values
        horizon, season_length = competition.horizon, competition.season_length
        truth = competition.test.y.to_numpy().reshape(-1, horizon)
        if held_out:
            enough = [y for y in histories if len(y) >= horizon + max(season_length + 2, 6)]
            histories = [y[:-horizon] for y in enough]
            truth = np.stack([y[-horizon:] for y in enough])
        return cls(name, histories, truth, season_length)

    def save(self, path: Path) -> None:
        """Write what a forecaster may know."""
        np.savez(
            path,
            values=np.concatenate(self.histories),
            lengths=[len(y) for y in self.histories],
            horizon=self.truth.shape[1],
            season_length=self.season_length,
        )


@app.default
def main(
    *,
    parts: Words = ("M3-monthly", "M3-quarterly", "M3-yearly"),
    methods: Words = ("tidegate", "seasonal_naive", "theta", "auto_theta", "ets"),
    seeds: int = 3,
    threads: int = 2,
    python: Words = (),
    held_out: bool = False,
    markdown: bool = False,
    output: Path = Path("build/benchmarks"),
) -> None:
    """Fit and forecast, each method in a process of its own, one after the other.

    Args:
        parts: Parts of competitions.
        methods: tidegate, tidegate_quick, seasonal_naive, theta, auto_theta, ets, neuralforecast,
            darts, gluonts, pytorch_forecasting.
        seeds: How many seeds to average over; methods without chance run once.
        threads: Threads of each process.
        python: Interpreters of other environments for methods: neuralforecast=/path/to/python.
        held_out: Do not look at the competition's test part: forecast the last `horizon` steps of
            the training part from what lies before. This is what settings are chosen by.
        markdown: Print the table as benchmarks/README.md has it.
        output: The folder for forecast.json.
    """
    unknown = set(methods) - set(FORECASTERS)
    if unknown:
        sys.exit(f"no method {', '.join(sorted(unknown))}; there are {', '.join(FORECASTERS)}")
    interpreters = dict(word.split("=", 1) for word in python)
    results = []
    for name in parts:
        part = Part.load(name, held_out)
        for method in methods:
            interpreter = interpreters.get(method, sys.executable)
            count = seeds if method in SEEDED else 1
            result = _measure(part, method, count, threads, interpreter)
            if result is not None:
                results.append(result)
    output.mkdir(parents=True, exist_ok=True)
    facts = machine.describe() | {"held_out": held_out, "threads": threads}
    text = json.dumps({"facts": facts, "results": [asdict(r) for r in results]}, indent=1)
    (output / "forecast.json").write_text(text)
    table = _table(results)
    if markdown:
        print(markdown_of(table))
    else:
        print_rich(Console(width=110), table)


def _measure(part: Part, method: str, seeds: int, threads: int, interpreter: str) -> Result | None:
    runs = []
    for seed in range(seeds):
        messages.print(f"{part.name} {method} seed {seed}")
        run = _run(part, method, seed, threads, interpreter)
        if run is None:
            return None
        runs.append(run)
    naive, truth = naive_error(part.histories, part.season_length), part.truth
    answers = [run["forecast"] for run in runs]
    medians = [answer[..., answer.shape[-1] // 2] for answer in answers]
    banded = answers[0].shape[-1] == len(QUANTILES)
    losses = [weighted_quantile_loss(truth, a, QUANTILES) for a in answers] if banded else []
    held = [[coverage(truth, *sides) for sides in _bands(a)] for a in answers] if banded else []
    mean = {
        name: float(np.mean([run[name] for run in runs])) for name in ("fit", "busy", "predict")
    }
    return Result(
        part=part.name,
        method=method,
        mase=float(np.mean([np.nanmean(mase(truth, median, naive)) for median in medians])),
        smape=float(np.mean([np.nanmean(smape(truth, median)) for median in medians])),
        quantile_loss=float(np.mean(losses)) if banded else None,
        held=np.mean(held, 0).tolist() if banded else None,
        **mean,
        memory=max(float(run["memory"]) for run in runs),
        parameters=int(runs[0]["parameters"]),
        seeds=seeds,
    )


def _bands(answer: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The lower and upper limits of the bands, the narrowest first."""
    middle = len(LEVELS)
    return [(answer[..., middle - k], answer[..., middle + k]) for k in range(1, middle + 1)]


def _run(
    part: Part, method: str, seed: int, threads: int, interpreter: str
) -> dict[str, np.ndarray] | None:
    """One fit in a process of its own; None, with the reason said, if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        part.save(source)
        command = [interpreter, str(WORKER), method, str(source), str(target), str(seed)]
        process = subprocess.run(
            command,
            env=os.environ | dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=folder,
        )
        if process.returncode:
            reason = (process.stderr.strip() or "no reason given").splitlines()[-1]
            messages.print(f"{part.name} {method} left out: {reason}")
            return None
        with np.load(target) as answer:
            return dict(answer)


def _table(results: list[Result]) -> Table:
    accuracy = ["MASE", "sMAPE", "WQL", "bands hold"]
    cost = ["fit s", "of processors", "predict s", "peak MB", "parameters"]
    headings = ["part, method", *accuracy, *cost]
    cells = [
        [
            f"{r.part} {r.method}",
            f"{r.mase:.4f}",
            f"{r.smape:.3f}",
            "" if r.quantile_loss is None else f"{r.quantile_loss:.4f}",
            "" if r.held is None else ", ".join(f"{share:.0%}" for share in r.held),
            f"{r.fit:.1f}",
            f"{r.busy:.1f}",
            f"{r.predict:.2f}",
            f"{r.memory / MB:.0f}",
            f"{r.parameters:,}" if r.parameters else "",
        ]
        for r in results
    ]
    return Table("Forecasts", headings, cells)


if __name__ == "__main__":
    app()
