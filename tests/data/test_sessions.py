"""Calendars that pause, and time stamps without a beat."""

import numpy as np
import pandas as pd
import pytest

from tidegate.data import Frequency, Panel
from tidegate.data._sessions import Irregular, Timetable
from tidegate.errors import InputError

HOUR = 3_600_000_000_000


def market(weeks: int = 6, freq: str = "h", first: str = "09:00", last: str = "16:00"):
    """Time stamps of a market that is open on working days."""
    stamps = pd.date_range("2024-03-04", periods=weeks * 7 * 24 * 60, freq="min")
    stamps = stamps[stamps.day_of_week < 5]
    stamps = stamps[stamps.indexer_between_time(first, last)]
    return stamps[(stamps - stamps.normalize()) % pd.Timedelta(1, freq) == pd.Timedelta(0)]


def panel_of(stamps) -> Panel:
    values = np.arange(len(stamps), dtype=float)
    return Panel.from_arrays(["a"], [np.asarray(stamps, "datetime64[ns]")], [values])


def test_opening_hours_are_seen_and_gone_on_with():
    stamps = market()
    panel = panel_of(stamps[:-20])
    assert panel.frequency.words == "hourly, Monday to Friday, from 09:00 to 16:00"
    assert panel.frequency.season_length == 8
    ahead = panel.frequency.next(panel.times[0][-1], 20)
    np.testing.assert_array_equal(ahead, np.asarray(stamps[-20:], "datetime64[ns]"))
    assert panel.notes == []


def test_a_timetable_is_named_so_that_it_can_be_read_back():
    for stamps in (market(), market(freq="h", first="09:00", last="11:00")):
        frequency = panel_of(stamps).frequency
        assert isinstance(frequency, Timetable)
        assert Frequency.parse(frequency.name) == frequency
    assert Frequency.parse("h@MON09:00-16:00,TUE10:00-12:00").season_length == 11


def test_counting_undoes_shifting():
    frequency = panel_of(market()).frequency
    start = np.datetime64("2024-03-05T10:00", "ns")
    for steps in range(-60, 60):
        assert frequency.count(start, frequency.shift(start, np.int64(steps))) == steps
        assert frequency.holds(frequency.shift(np.asarray([start]), np.array([steps]))).all()


def test_an_hour_that_is_missing_is_a_gap_and_not_a_closed_market():
    stamps = market()
    panel = panel_of(stamps.delete([17, 40]))
    assert len(panel.times[0]) == len(stamps)
    assert np.isnan(panel.values[0]).sum() == 2


def test_round_the_clock_is_no_timetable():
    stamps = pd.date_range("2024-03-04", periods=600, freq="h").delete([100, 101, 350])
    assert panel_of(stamps).frequency.name == "h"


def test_irregular_time_stamps_are_taken_as_they_come():
    rng = np.random.default_rng(0)
    stamps = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.cumsum(rng.exponential(5, 80)), "h")
    panel = panel_of(stamps)
    assert isinstance(panel.frequency, Irregular)
    assert "time stamps are off every calendar; they are taken as they come" in panel.notes[0]
    np.testing.assert_array_equal(panel.times[0], np.asarray(stamps, "datetime64[ns]"))
    assert Frequency.parse(panel.frequency.name) == panel.frequency
    minute = 60 * 10**9
    median = np.median(np.diff(panel.times[0]).astype(np.int64)) / minute
    assert panel.frequency.words == f"irregular, usually every {round(median)} minutes"
    ahead = np.diff(panel.frequency.next(panel.times[0][-1], 5)).astype(np.int64)
    np.testing.assert_array_equal(ahead, np.full(4, round(median) * minute))


def test_irregular_can_be_asked_for():
    days = ["2024-01-01", "2024-01-02", "2024-01-05"]
    df = pd.DataFrame({"ds": pd.to_datetime(days), "y": [1.0, 2.0, 3.0]})
    assert len(Panel.from_frame(df).times[0]) == 5
    panel = Panel.from_frame(df, freq="irregular")
    assert panel.frequency.words == "irregular, usually every 2 days"
    assert len(panel.times[0]) == 3
    whole = Panel.from_frame(df.assign(ds=[1, 4, 5]), freq="irregular")
    assert whole.frequency.name == "irregular-2"
    assert whole.frequency.next(5, 2).tolist() == [7, 9]


@pytest.mark.parametrize("name", ["h@", "h@MON09:00", "h@XXX09:00-10:00", "irregular-x", "B@MON"])
def test_names_that_are_none_are_refused(name):
    with pytest.raises(InputError, match="is not known"):
        Frequency.parse(name)
