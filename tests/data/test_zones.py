"""Time stamps with a zone are read by the clock on which they are regular, and come back."""

from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.data import Panel, read_table, to_frame
from tidegate.data._ahead import with_future
from tidegate.data._columns import Names
from tidegate.errors import InputError

KINDS = {"pandas": lambda df: df, "polars": pl.from_pandas, "pyarrow": pa.Table.from_pandas}
# Clocks are put forward at midnight, which is left out (the first four); at night; in other ways.
ZONES = ["Asia/Tehran", "Asia/Beirut", "America/Santiago", "America/Havana", "America/New_York"]
ZONES += ["Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"]


def in_zone(local, zone) -> pd.DatetimeIndex:
    """Local times, those that there were not an hour later; of two the first."""
    return local.tz_localize(zone, nonexistent=pd.Timedelta("1h"), ambiguous=np.ones(len(local)))


def days(zone, first="2019-01-01", last="2021-12-31", freq="D", hour=0) -> pd.DatetimeIndex:
    return in_zone(pd.date_range(first, last, freq=freq) + pd.Timedelta(hours=hour), zone)


def hours(zone, first="2019-01-01", last="2020-01-01") -> pd.DatetimeIndex:
    return pd.date_range(first, last, freq="h", tz="UTC").tz_convert(zone)


def frame_of(stamps, kind="pandas"):
    return KINDS[kind](pd.DataFrame({"ds": stamps, "y": np.arange(len(stamps)) + 1.0}))


def ahead(panel, df, count) -> list:
    """The time stamps after the end of the only series, as the frame has them."""
    stamps = panel.stamps(0, len(panel.times[0]), count)
    column = to_frame({"ds": stamps}, df, panel.clock)["ds"]
    return [pd.Timestamp(t.as_py() if isinstance(column, pa.ChunkedArray) else t) for t in column]


def assert_goes_on(stamps, name, count, kind="pandas"):
    """Read all but the last time stamps: the calendar has no gaps, and those follow."""
    df = frame_of(stamps[:-count], kind)
    panel = Panel.from_frame(df)
    assert panel.frequency.name == name
    assert len(panel.values[0]) == len(stamps) - count
    assert ahead(panel, df, count) == list(stamps[-count:])
    return panel


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zone", ZONES)
def test_days_go_on_by_the_local_clock(zone, kind):
    panel = assert_goes_on(days(zone), "D", 400, kind)
    assert panel.notes == ["the data: column 'ds' has a time zone; it was read in local time"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zone", ZONES)
def test_hours_go_on_in_utc(zone, kind):
    panel = assert_goes_on(hours(zone), "h", 7000, kind)
    assert panel.notes == ["the data: column 'ds' has a time zone; it was read in UTC"]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    ("first", "hour"), [("2021-03-22", 0), ("2020-09-21", 0), ("2021-04-04", 2)]
)
def test_a_few_hours_across_a_change_of_clocks_are_hours(zone, first, hour):
    start = days(zone, first, first, hour=hour)[0].tz_convert("UTC") - pd.Timedelta("12h")
    for count in (10, 24, 30):
        stamps = pd.date_range(start, periods=count + 3, freq="h").tz_convert(zone)
        assert_goes_on(stamps, "h", 3)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    ("freq", "name", "count"),
    [
        ("W-SUN", "W-SUN", 60),
        ("MS", "MS", 20),
        ("ME", "ME", 20),
        ("B", "B", 250),
        ("12h", "12h", 3),
    ],
)
def test_other_calendars_go_on_by_the_local_clock(zone, freq, name, count):
    last = "2019-12-20" if freq == "12h" else "2021-12-31"
    assert_goes_on(days(zone, last=last, freq=freq), name, count)


def test_an_hour_that_is_shown_twice_is_two_hours():
    last = pd.DatetimeIndex(["2020-09-20 18:30", "2020-09-20 19:30", "2020-09-20 20:30"], tz="UTC")
    stamps = last.tz_convert("Asia/Tehran")
    assert stamps[0].hour == stamps[1].hour == 23
    assert_goes_on(stamps, "h", 1)


def test_the_hours_of_a_market_keep_to_the_local_clock():
    days_open = pd.bdate_range("2021-02-01", "2021-12-31")
    local = [day + pd.Timedelta(minutes=570 + 60 * k) for day in days_open for k in range(7)]
    stamps = in_zone(pd.DatetimeIndex(local), "America/New_York")
    name = ",".join(f"{day}09:30-15:30" for day in ("MON", "TUE", "WED", "THU", "FRI"))
    assert_goes_on(stamps, f"h@{name}", 700)


def test_days_that_begin_where_midnight_is_left_out():
    assert_goes_on(days("Asia/Tehran", "2021-03-22", "2021-06-30"), "D", 30)


def test_one_row_is_read_by_the_clock_of_a_known_calendar():
    start = pd.DatetimeIndex(["2021-03-21 20:00"]).tz_localize("Asia/Tehran")
    df = frame_of(start)
    for freq, expected in {"h": "2021-03-22 01:00", "D": "2021-03-22 20:00"}.items():
        panel = Panel.from_frame(df, freq=freq)
        last = ahead(panel, df, 4 if freq == "h" else 1)[-1]
        assert last == pd.Timestamp(expected, tz="Asia/Tehran")


@pytest.mark.parametrize("zone", ["UTC+03:30", "pytz.FixedOffset(210)", "Etc/GMT-3"])
def test_zones_that_have_no_name(zone):
    pytz = pytest.importorskip("pytz")
    given = pytz.FixedOffset(210) if zone.startswith("pytz") else zone.removeprefix("UTC")
    stamps = hours("UTC", last="2019-01-10").tz_convert(given)
    assert_goes_on(stamps, "h", 24)


@given(
    zone=st.sampled_from(ZONES),
    minutes=st.lists(st.integers(0, 3 * 365 * 24 * 12), min_size=1, max_size=40),
)
def test_local_times_become_those_that_python_means(zone, minutes):
    local = np.datetime64("2019-01-01", "ns") + 5 * np.array(minutes) * np.timedelta64(1, "m")
    column = to_frame({"ds": local}, frame_of(days(zone)[:2]), "local time").ds
    expected = pd.to_datetime(
        [pd.Timestamp(t).to_pydatetime().replace(tzinfo=ZoneInfo(zone)).isoformat() for t in local],
        utc=True,
    )
    assert list(column.dt.tz_convert("UTC")) == list(expected)


def test_texts_keep_the_clock_of_their_offsets(tmp_path):
    stamps = days("Asia/Tehran", last="2021-12-31")
    texts = [stamp.isoformat() for stamp in stamps]
    for df in (frame_of(texts), frame_of(texts, "polars")):
        panel = Panel.from_frame(df)
        assert (panel.frequency.name, panel.clock) == ("D", "local time")
        assert panel.times[0][-1] == np.datetime64("2021-12-31")
        assert ahead(panel, df, 1) == [pd.Timestamp("2022-01-01")]
    frame_of(texts).to_csv(tmp_path / "days.csv", index=False)
    panel = Panel.from_frame(read_table(tmp_path / "days.csv"))
    assert (panel.frequency.name, panel.clock) == ("D", "local time")


def test_texts_of_hours_come_back_in_utc():
    stamps = hours("Asia/Tehran")
    df = frame_of([stamp.isoformat() for stamp in stamps])
    panel = Panel.from_frame(df)
    assert (panel.frequency.name, panel.clock) == ("h", "UTC")
    assert ahead(panel, df, 1) == [stamps[-1] + pd.Timedelta("1h")]


def test_texts_of_which_only_some_have_an_offset_are_refused():
    df = frame_of(["2024-01-01T00:00", "2024-01-02T00:00+03:30", "2024-01-03T00:00"])
    with pytest.raises(InputError, match=r"data row 2: '2024-01-02T00:00\+03:30' has an offset"):
        Panel.from_frame(df)


def test_what_is_known_ahead_is_read_by_the_clock_of_the_series():
    stamps = hours("Asia/Tehran", last="2019-02-01")
    df = frame_of(stamps).assign(price=1.0)
    panel = Panel.from_frame(df[:-1], future_cols=["price"])
    names = Names("the future", None, "ds", "y")
    longer = with_future(panel, df[-1:], names, 1)
    assert longer.stamps(0, len(df) - 1, 1)[0] == stamps[-1].tz_convert(None)
    naive = df[-1:].assign(ds=stamps[-1:].tz_localize(None))
    with pytest.raises(InputError, match="'ds' has no time zone, and the series have one"):
        with_future(panel, naive, names, 1)
    plain = Panel.from_frame(df.assign(ds=stamps.tz_convert(None))[:-1], future_cols=["price"])
    with pytest.raises(InputError, match="'ds' has a time zone, and the series have none"):
        with_future(plain, df[-1:], names, 1)


def test_every_time_stamp_of_an_answer_is_in_the_zone():
    df = frame_of(days("Asia/Tehran"))
    panel = Panel.from_frame(df)
    found = to_frame({"ds": panel.times[0][-1:], "cutoff": panel.times[0][-2:-1]}, df, panel.clock)
    assert [found.ds[0], found.cutoff[0]] == [df.ds.iloc[-1], df.ds.iloc[-2]]
