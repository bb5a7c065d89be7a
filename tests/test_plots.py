"""Pictures show what they are given, for every kind of series."""

import numpy as np
import pytest

from tidegate._plots import ForecastChart, forecast_figure


def chart(times, history, truth=None, title="a"):
    step = times[1] - times[0]
    future = times[-1] + step * np.arange(1, 4)
    middle = np.full(3, 5.0)
    return ForecastChart(title, times, history, future, middle, middle - 1, middle + 1, truth)


DAYS = np.datetime64("2024-01-01", "ns") + np.arange(20).astype("timedelta64[D]")
KINDS = {
    "dates": (DAYS, np.arange(20.0)),
    "whole numbers": (np.arange(20), np.arange(20.0)),
    "gaps": (DAYS, np.where(np.arange(20) % 2, np.nan, 1.0)),
    "an unknown end": (DAYS, np.where(np.arange(20) > 15, np.nan, 1.0)),
    "an end long ago": (DAYS, np.where(np.arange(20) > 4, np.nan, 1.0)),
    "large": (DAYS, 1e12 * np.arange(20)),
    "two values": (DAYS[:2], np.array([1.0, 2.0])),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 3, 4])
def test_every_kind_of_series_is_drawn(tmp_path, kind, count):
    charts = [chart(*KINDS[kind], title=f"series {i}") for i in range(count)]
    figure = forecast_figure(charts, "a title", "80% band")
    figure.savefig(tmp_path / "a.png")
    assert [pane.get_title("left") for pane in figure.axes[:count]] == [c.title for c in charts]
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_the_legend_names_the_truth_only_where_there_is_one():
    def names(truth):
        figure = forecast_figure([chart(*KINDS["dates"], truth=truth)], "a title", "80% band")
        return [text.get_text() for text in figure.legends[0].get_texts()]

    assert names(None) == ["history", "80% band", "forecast (median)"]
    assert names(np.ones(3)) == ["history", "80% band", "what came", "forecast (median)"]


def test_values_between_gaps_are_dots():
    figure = forecast_figure([chart(*KINDS["gaps"])], "a title", "80% band")
    (dots,) = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert len(dots.get_xdata()) == 6
    assert (
        forecast_figure([chart(*KINDS["dates"])], "t", "b").axes[0].lines[1].get_xdata().size == 0
    )
