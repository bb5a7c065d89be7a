"""Pictures of forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#22313f"
PALE = "#8795a1"
GRID = "#e4e8eb"
TIDE = "#0b7285"
CORAL = "#e8590c"

_STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.edgecolor": PALE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.color": PALE,
    "ytick.color": PALE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0.0,
    "xtick.major.size": 3.0,
    "text.color": INK,
    "figure.facecolor": "white",
    "text.parse_math": False,
}


@dataclass(frozen=True)
class ForecastChart:
    """One series: what was, what we say comes, and what came, if that is known.

    Attributes:
        title: the name of the series.
        times: time stamps of the history.
        history: its values.
        future: time stamps of the forecast.
        median: the forecast.
        low: lower edge of the band.
        high: upper edge of the band.
        truth: what came, or None.
    """

    title: str
    times: np.ndarray
    history: np.ndarray
    future: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray
    truth: np.ndarray | None = None


def forecast_figure(charts: Sequence[ForecastChart], title: str, band: str) -> Figure:
    """Up to four forecasts in one picture.

    Args:
        charts: the series, at least one.
        title: a line above them all.
        band: the band in words, such as "80% band".
    """
    import matplotlib
    from matplotlib.figure import Figure

    columns = 1 if len(charts) == 1 else 2
    rows = -(-len(charts) // columns)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.6 * columns, 1.0 + 2.7 * rows), dpi=150)
        panes = figure.subplots(rows, columns, squeeze=False).ravel()
        for pane, chart in zip(panes, charts, strict=False):
            _draw(pane, chart, band)
        for pane in panes[len(charts) :]:
            pane.set_axis_off()
        _head(figure, panes[0], title)
    return figure


def _head(figure: Figure, pane: Axes, title: str) -> None:
    handles, labels = pane.get_legend_handles_labels()
    height = figure.get_figheight()
    top = 1 - 0.80 / height
    figure.tight_layout(rect=(0.005, 0.0, 0.995, top), h_pad=2.2, w_pad=2.5)
    left = pane.get_position().x0
    figure.text(left, 1 - 0.30 / height, title, size=13, weight="bold", va="center")
    figure.legend(
        handles,
        labels,
        loc="center left",
        bbox_to_anchor=(left, 1 - 0.62 / height),
        borderaxespad=0.0,
        borderpad=0.0,
        ncols=len(labels),
        frameon=False,
        handlelength=1.6,
        columnspacing=1.8,
    )


def _draw(pane: Axes, chart: ForecastChart, band: str) -> None:
    # Context enough to judge the forecast by, and not so much that it shrinks to nothing.
    last = int(np.flatnonzero(np.isfinite(chart.history))[-1])
    first = min(max(len(chart.history) - max(4 * len(chart.future), 12), 0), last)
    times, history = chart.times[first:], chart.history[first:]
    pane.grid(axis="y", color=GRID, linewidth=0.8)
    pane.set_axisbelow(True)
    pane.plot(times, history, color=INK, linewidth=1.2, label="history")
    alone = _alone(history)
    pane.plot(times[alone], history[alone], "o", color=INK, markersize=2.5)
    # The forecast sets out from the last value that is known.
    start, value = chart.times[last : last + 1], chart.history[last : last + 1]
    ahead = np.concatenate([start, chart.future])
    pane.fill_between(
        ahead,
        np.concatenate([value, chart.low]),
        np.concatenate([value, chart.high]),
        color=TIDE,
        alpha=0.18,
        linewidth=0,
        label=band,
    )
    if chart.truth is not None:
        truth = np.concatenate([value, chart.truth])
        pane.plot(ahead, truth, color=CORAL, linewidth=1.2, label="what came")
    median = np.concatenate([value, chart.median])
    pane.plot(ahead, median, color=TIDE, linewidth=2.0, label="forecast (median)")
    pane.axvline(times[-1], color=PALE, linewidth=0.8, linestyle=(0, (2, 2)))
    pane.set_title(chart.title, loc="left", size=10, weight="bold")
    pane.margins(x=0.01)
    _axes(pane, ahead)


def _axes(pane: Axes, ahead: np.ndarray) -> None:
    from matplotlib import dates, ticker

    if ahead.dtype.kind == "M":
        locator = dates.AutoDateLocator(minticks=4, maxticks=7)
        pane.xaxis.set_major_locator(locator)
        pane.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    pane.yaxis.set_major_locator(ticker.MaxNLocator(5))
    pane.yaxis.set_major_formatter(ticker.FuncFormatter(_number))


def _number(value: float, _: int) -> str:
    for size, suffix in ((1e9, " bn"), (1e6, " m")):
        if abs(value) >= 10 * size:
            return f"{value / size:g}{suffix}"
    return f"{value:,.10g}"


def _alone(history: np.ndarray) -> np.ndarray:
    """Values between gaps, which would be no line at all."""
    known = np.isfinite(history)
    gaps = np.concatenate([[True], ~known, [True]])
    return known & gaps[:-2] & gaps[2:]
