"""A calendar continues itself, counts its own steps, and is named so that it can be read back."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.data import Frequency, Panel
from tidegate.data.frequency import DAY_NS, Every, Months, Steps, Weekdays
from tidegate.errors import InputError

PANDAS_ALIASES = [
    *("YS-JAN", "YS-OCT", "YE-DEC", "YE-MAR", "QS-JAN", "QS-FEB", "QE-DEC", "QE-NOV"),
    *("MS", "ME", "BME", "2MS", "5ME", "W-SUN", "W-WED", "2W-MON", "D", "3D", "B"),
    *("h", "6h", "min", "15min", "s", "10s", "ms", "us", "ns"),
]
units = st.sampled_from([1, 1_000, 1_000_000, 10**9, 60 * 10**9, 3600 * 10**9, DAY_NS, 7 * DAY_NS])
weeks = st.integers(1, 126).map(lambda bits: f"{bits:07b}")
month_days = st.sampled_from(["start", "end", "business end", "1", "15", "29", "30", "31"])
frequencies = st.one_of(
    st.builds(Steps, st.integers(1, 1000)),
    st.builds(lambda unit, n: Every(unit * n), units, st.integers(1, 6)),
    st.builds(lambda n, day: Every(7 * n * DAY_NS, day), st.integers(1, 4), st.integers(0, 6)),
    st.builds(Months, st.integers(1, 30), month_days),
    st.builds(lambda day, phase: Months(3, day, phase), month_days.filter(str.isalpha),
              st.integers(0, 2)),
    st.builds(lambda day, phase: Months(12, day, phase), month_days.filter(str.isalpha),
              st.integers(0, 11)),
    st.builds(Weekdays, weeks),
)  # fmt: skip


def first_stamp(frequency: Frequency, moment: int) -> np.generic:
    """A time stamp on the calendar, at or before a day after 1990."""
    if isinstance(frequency, Steps):
        return np.int64(moment)
    days = np.datetime64("1990-01-01") + np.arange(moment, moment + 800)
    return days[frequency.holds(days)][0].astype("datetime64[ns]")


@given(frequency=frequencies)
def test_a_name_is_read_back(frequency):
    assert Frequency.parse(frequency.name) == frequency


@given(frequency=frequencies, moment=st.integers(0, 9000), n=st.integers(1, 60))
def test_the_next_stamps_continue_the_calendar(frequency, moment, n):
    start = first_stamp(frequency, moment)
    stamps = frequency.next(start, n)
    assert len(stamps) == n
    assert frequency.holds(stamps).all()
    assert (stamps[1:] > stamps[:-1]).all()
    assert (frequency.next(stamps[0], n - 1) == stamps[1:]).all()


@given(frequency=frequencies, moment=st.integers(0, 9000), steps=st.integers(-50, 50))
def test_counting_undoes_shifting(frequency, moment, steps):
    start = first_stamp(frequency, moment)
    assert frequency.count(start, frequency.shift(start, np.int64(steps))) == steps


@pytest.mark.parametrize("alias", PANDAS_ALIASES)
def test_pandas_calendars_are_recognised_and_continued_as_pandas_does(alias):
    stamps = pd.date_range("2019-02-03 00:00", periods=70, freq=alias)
    panel = Panel.from_arrays(["a"], [stamps[:50].to_numpy()], [np.arange(50.0)])
    assert Frequency.parse(panel.frequency.name) == panel.frequency
    assert (panel.frequency.next(panel.times[0][-1], 20) == stamps[50:].to_numpy()).all()
    assert not panel.notes


@pytest.mark.parametrize("alias", PANDAS_ALIASES)
@settings(max_examples=20)
@given(missing=st.sets(st.integers(20, 59), max_size=16))
def test_calendars_are_recognised_where_most_stamps_are_there(alias, missing):
    stamps = pd.date_range("2019-02-03 00:00", periods=60, freq=alias).to_numpy()
    whole = ~np.isin(np.arange(60), list(missing))
    panel = Panel.from_arrays(["a"], [stamps[whole]], [np.flatnonzero(whole) * 1.0])
    last = np.flatnonzero(whole)[-1]
    assert (panel.times[0] == stamps[: last + 1]).all()
    expected = np.where(whole, np.arange(60.0), np.nan)[: last + 1]
    np.testing.assert_array_equal(panel.values[0], expected)


def test_the_last_day_of_the_month_stays_the_last_day():
    stamps = Frequency.parse("ME").next(np.datetime64("2023-12-31"), 3)
    assert list(stamps.astype("datetime64[D]").astype(str)) == [
        "2024-01-31",
        "2024-02-29",
        "2024-03-31",
    ]


def test_working_days_skip_the_weekend_and_keep_their_hour():
    friday = np.datetime64("2024-03-01T17:30")
    assert str(Frequency.parse("B").next(friday, 1)[0]) == "2024-03-04T17:30:00.000000000"


def test_a_market_that_is_closed_for_months_is_still_a_market():
    days = pd.bdate_range("2024-01-01", periods=100).to_numpy()[[*range(20), *range(90, 100)]]
    panel = Panel.from_arrays(["a"], [days], [np.arange(30.0)])
    assert panel.frequency.name == "B"
    assert len(panel.values[0]) == 100


def test_a_week_that_rests_on_friday_is_recognised():
    days = np.datetime64("2024-01-06") + np.arange(60)
    open_days = days[np.is_busday(days, weekmask="1110011")]
    panel = Panel.from_arrays(["a"], [open_days], [np.arange(len(open_days))])
    assert panel.frequency.name == "C-MON-TUE-WED-SAT-SUN"
    assert panel.frequency.season_length == 5


@pytest.mark.parametrize(
    ("alias", "season_length"),
    [("YE", 1), ("QS", 4), ("MS", 12), ("2MS", 6), ("W", 52), ("D", 7), ("B", 5), ("h", 24),
     ("15min", 96), ("min", 1440), ("s", 3600), ("7min", 1), ("3", 1)],
)  # fmt: skip
def test_season_lengths(alias, season_length):
    assert Frequency.parse(alias).season_length == season_length


@pytest.mark.parametrize(
    "text", ["", "foo", "0D", "-1", "W-FOO", "MS-JAN-FEB", "M-32", "BMS", "3B"]
)
def test_unknown_names_are_refused(text):
    with pytest.raises(InputError, match=r"frequency .* is not known"):
        Frequency.parse(text)


@given(text=st.text(max_size=12))
def test_any_text_is_a_frequency_or_one_clear_error(text):
    try:
        frequency = Frequency.parse(text)
    except InputError:
        return
    assert Frequency.parse(frequency.name) == frequency
