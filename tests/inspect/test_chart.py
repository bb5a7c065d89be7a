"""Charts: places, ticks, gaps, and words for those who do not see them."""

import re

import numpy as np
import pytest

from tidegate.inspect._chart import Axis, Line, bars_over_steps, line_chart, number


def path_of(chart: str, look: str = "main") -> list[tuple[str, float, float]]:
    (d,) = re.findall(rf'<path class="{look}" d="([^"]*)"', chart)
    return [(m, float(a), float(b)) for m, a, b in re.findall(r"([ML])([\d.-]+) ([\d.-]+)", d)]


def test_a_line_goes_from_edge_to_edge_and_up():
    line = Line("a", np.arange(3), np.array([0.0, 5.0, 10.0]))
    chart = line_chart([line], Axis("x"), Axis("y", low=0.0, high=10.0), "it rises")
    assert path_of(chart) == [("M", 0, 1000), ("L", 500, 500), ("L", 1000, 0)]
    assert 'aria-label="it rises"' in chart
    assert '<span style="top:50.00%">5</span>' not in chart  # ticks are round: 0, 2, 4, ...
    assert '<span style="top:60.00%">4</span>' in chart


def test_a_missing_value_is_a_gap():
    line = Line("a", np.arange(4), np.array([1.0, np.nan, 2.0, 3.0]))
    moves = [move for move, *_ in path_of(line_chart([line], Axis(""), Axis(""), "a gap"))]
    assert moves == ["M", "M", "L"]


def test_a_logarithm_puts_powers_of_ten_at_equal_distances():
    line = Line("a", np.arange(3), np.array([1.0, 0.1, 0.01]))
    chart = line_chart([line], Axis(""), Axis("", log=True), "it falls")
    places = [y for *_, y in path_of(chart)]
    assert places == pytest.approx([0, 500, 1000])


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_what_never_changes_is_drawn(value):
    line = Line("a", np.arange(3), np.full(3, value))
    assert path_of(line_chart([line], Axis(""), Axis(""), "flat"))[0][2] == pytest.approx(500)


def test_nothing_known_is_an_empty_chart():
    line = Line("a", np.arange(2), np.full(2, np.nan))
    assert path_of(line_chart([line], Axis(""), Axis("", log=True), "nothing")) == []
    assert "<rect" not in bars_over_steps(np.zeros(0), [], "", "no steps")


def test_names_are_text_and_not_markup():
    line = Line("<b>", np.arange(2), np.arange(2.0))
    chart = line_chart([line], Axis("", names=["<i>", "&"]), Axis(""), 'says "<u>"')
    assert not re.search(r"<(b|i|u)>", chart)
    assert "&lt;i&gt;" in chart


def test_bars_stand_on_zero():
    chart = bars_over_steps(np.array([1.0, -1.0]), ["a", "b"], "", "up and down")
    bars = re.findall(r'<rect class="(\w+)" .*? y="([\d.]+)" .*? height="([\d.]+)"', chart)
    assert [bar[0] for bar in bars] == ["main", "against"]
    assert float(bars[0][1]) + float(bars[0][2]) == pytest.approx(float(bars[1][1]), abs=0.2)


def test_ticks_have_as_many_digits_as_one_another():
    chart = bars_over_steps(np.array([-0.0026, 0.0004]), ["a", "b"], "", "down")
    ticks = re.findall(r'<span style="top:[\d.]+%">(.*?)</span>', chart)
    assert ticks == ["−0.0025", "−0.0020", "−0.0015", "−0.0010", "−0.0005", "0"]


def test_ticks_of_small_shares_differ():
    line = Line("error", np.arange(3), np.array([0.011, 0.019, 0.025]))
    chart = line_chart([line], Axis(""), Axis("", low=0.0, percent=True), "shares")
    ticks = re.findall(r'<span style="top:[\d.]+%">(.*?)</span>', chart)
    assert ticks == ["0%", "0.5%", "1.0%", "1.5%", "2.0%", "2.5%"]


def test_numbers_are_short():
    assert [number(v) for v in (0.25, 1234.5, -3e-9, 2.5e9)] == ["0.25", "1,234", "−3e−9", "2.5 bn"]
