"""What forecasting commands write: the forecasts, the model, the picture, the measures."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from .._plots import ForecastChart, forecast_figure
from ..data import Panel

if TYPE_CHECKING:
    import pandas as pd

    from ..forecast import GRUForecaster


@dataclass(frozen=True)
class Score:
    """How a method did on values that were held back; seconds are for training and forecasting."""

    method: str
    mase: float
    smape: float
    seconds: float


def score_table(scores: Sequence[Score], ours: str) -> Table:
    """The methods, best first; ours stands out wherever it stands."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("method", no_wrap=True)
    for measure in ("MASE", "sMAPE", "seconds"):
        table.add_column(measure, justify="right")
    for score in sorted(scores, key=lambda score: score.mase):
        style = "bold" if score.method == ours else ""
        numbers = (f"{score.mase:.3f}", f"{score.smape:.2f}", f"{score.seconds:.1f}")
        table.add_row(score.method, *numbers, style=style)
    return table


def write_csv(frame: pd.DataFrame, time: str, path: Path) -> None:
    """A frame as CSV, with dates as plain as they can be."""
    stamps = frame[time]
    days = stamps.dtype.kind == "M" and (stamps == stamps.dt.normalize()).all()
    form = "%Y-%m-%d" if days else None
    frame.to_csv(path, index=False, float_format="%.10g", date_format=form)


def write_json(facts: dict[str, Any], path: Path) -> None:
    """Facts as JSON to read; what is not known is null."""
    path.write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def as_facts(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Scores as plain numbers, for JSON."""
    rows = [asdict(score) for score in scores]
    return [
        {key: (value if value == value else None) for key, value in row.items()} for row in rows
    ]


def write_picture(
    panel: Panel,
    forecast: dict[str, np.ndarray],
    shown: dict[int, str],
    title: str,
    level: float,
    path: Path,
    truth: np.ndarray | None = None,
) -> None:
    """Draw some of the series with their forecasts.

    Args:
        panel: the histories.
        forecast: "median", "low" and "high", each (series, horizon).
        shown: which series, by number, and what is written above each.
        title: a line above the picture.
        level: the band from low to high, in percent.
        path: where to write it.
        truth: what came, (series, horizon).
    """
    horizon = forecast["median"].shape[1]
    charts = [
        ForecastChart(
            title=name,
            times=panel.times[i],
            history=panel.values[i],
            future=panel.frequency.next(panel.times[i][-1], horizon),
            median=forecast["median"][i],
            low=forecast["low"][i],
            high=forecast["high"][i],
            truth=None if truth is None else truth[i],
        )
        for i, name in shown.items()
    ]
    with warnings.catch_warnings():
        # A series may be named in a script that the font lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        forecast_figure(charts, title, f"{level:g}% band").savefig(path)


def band(forecast: pd.DataFrame, level: float, horizon: int) -> dict[str, np.ndarray]:
    """The median and one band of a frame that `GRUForecaster.predict` gave, (series, horizon)."""
    columns = {"median": "GRU", "low": f"GRU-lo-{level:g}", "high": f"GRU-hi-{level:g}"}
    return {
        name: forecast[column].to_numpy().reshape(-1, horizon) for name, column in columns.items()
    }


def sizes_table(model: GRUForecaster) -> Table:
    """The sizes of a fitted network, each with its reason."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for name, reason in model.suggestion_.reasons.items():
        table.add_row(name.replace("_", " "), f"{getattr(model.suggestion_, name)}", reason)
    return table
