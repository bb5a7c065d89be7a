"""A frame of any kind and order becomes the same panel, or one sentence that says why not."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.data import Panel
from tidegate.errors import InputError


def two_shops(n=6, freq="MS"):
    ds = pd.date_range("2020-01-01", periods=n, freq=freq)
    shops = [pd.DataFrame({"unique_id": i, "ds": ds, "y": np.arange(n) + 0.5}) for i in "ba"]
    return pd.concat(shops, ignore_index=True)


def assert_same(panel, other):
    assert panel.ids == other.ids
    assert panel.frequency == other.frequency
    for a, b in zip(panel.times + panel.values, other.times + other.values, strict=True):
        np.testing.assert_array_equal(a, b)


def in_persian_digits(day):
    return str(day.date()).translate(str.maketrans("0123456789", "۰۱۲۳۴۵۶۷۸۹"))


def as_polars_dates(df):
    return pl.from_pandas(df).with_columns(pl.col("ds").cast(pl.Date))


FRAMES = {
    "pandas": lambda df: df,
    "pandas, text": lambda df: df.assign(ds=df.ds.dt.strftime("%Y-%m-%d")),
    "pandas, year and month": lambda df: df.assign(ds=df.ds.dt.strftime("%Y-%m")),
    "pandas, 20200131": lambda df: df.assign(ds=df.ds.dt.strftime("%Y%m%d").astype(int)),
    "pandas, 202001": lambda df: df.assign(ds=df.ds.dt.strftime("%Y%m").astype(int)),
    "pandas, 202001 as text": lambda df: df.assign(ds=df.ds.dt.strftime("%Y%m")),
    "pandas, Persian digits": lambda df: df.assign(ds=df.ds.map(in_persian_digits)),
    "pandas, periods": lambda df: df.assign(ds=df.ds.dt.to_period("M")),
    "pandas, date objects": lambda df: df.assign(ds=df.ds.dt.date),
    "pandas, categories": lambda df: df.assign(unique_id=df.unique_id.astype("category")),
    "pandas, float32": lambda df: df.assign(y=df.y.astype("float32")),
    "pandas, nullable": lambda df: df.convert_dtypes(),
    "pandas, arrow": lambda df: df.convert_dtypes(dtype_backend="pyarrow"),
    "pandas, local midnight": lambda df: df.assign(ds=df.ds.dt.tz_localize("Europe/Berlin")),
    "pandas, microseconds": lambda df: df.assign(ds=df.ds.astype("datetime64[us]")),
    "polars": pl.from_pandas,
    "polars, dates": as_polars_dates,
    "polars, lazy": lambda df: pl.from_pandas(df).lazy(),
    "pyarrow": pa.Table.from_pandas,
}


@pytest.mark.parametrize("kind", FRAMES)
def test_every_kind_of_frame_gives_the_same_panel(kind):
    df = two_shops()
    assert_same(Panel.from_frame(FRAMES[kind](df)), Panel.from_frame(df))


@given(order=st.permutations(range(12)))
def test_the_order_of_rows_does_not_matter(order):
    df = two_shops()
    panel = Panel.from_frame(df.iloc[order])
    expected = Panel.from_frame(df)
    assert sorted(panel.ids) == sorted(expected.ids)
    for name, times, values in zip(panel.ids, panel.times, panel.values, strict=True):
        which = expected.ids.index(name)
        np.testing.assert_array_equal(times, expected.times[which])
        np.testing.assert_array_equal(values, expected.values[which])
    rows = [np.flatnonzero(df.unique_id.iloc[order] == i) for i in "ab"]
    in_order = all((np.diff(df.ds.iloc[order].iloc[r].astype("int64")) > 0).all() for r in rows)
    assert ("sorted" not in " ".join(panel.notes)) == in_order


def test_series_keep_the_order_in_which_they_appear():
    assert Panel.from_frame(two_shops()).ids == ["b", "a"]


def test_a_frame_without_ids_is_one_series():
    panel = Panel.from_frame(two_shops().query("unique_id == 'a'")[["ds", "y"]])
    assert panel.ids == ["series"]
    assert len(panel) == 1


@pytest.mark.parametrize("df", [np.arange(5.0), [1.0, 2.0], None], ids=["array", "list", "None"])
def test_what_is_no_frame_is_refused(df):
    kind = type(df).__name__
    with pytest.raises(TypeError, match=f"a frame of pandas, polars or pyarrow, got {kind}"):
        Panel.from_frame(df)


def test_other_column_names():
    df = two_shops().rename(columns={"unique_id": "shop", "ds": "month", "y": "sold"})
    panel = Panel.from_frame(df, id_col="shop", time_col="month", target_col="sold")
    assert_same(panel, Panel.from_frame(two_shops()))


def test_gaps_are_filled_and_said():
    panel = Panel.from_frame(two_shops().drop(index=[2, 3]))
    np.testing.assert_array_equal(panel.values[0], [0.5, 1.5, np.nan, np.nan, 4.5, 5.5])
    (note,) = panel.notes
    assert note == (
        "the data: column 'ds', series 'b', data row 2: 2 time stamps are missing in the series, "
        "first after 2020-02-01; they count as missing values"
    )


def test_series_of_different_lengths_and_phases_share_a_calendar():
    monday, friday = np.datetime64("2024-01-01"), np.datetime64("2024-01-05")
    weeks = 7 * np.arange(9)
    panel = Panel.from_arrays("ab", [monday + weeks, friday + weeks[:4]], [weeks, weeks[:4]])
    assert panel.frequency.name == "W"
    assert [len(v) for v in panel.values] == [9, 4]


@pytest.mark.parametrize(
    "texts",
    [
        ["2020Q1", "2020Q2", "2020Q3"],
        ["31/12/2019", "31/03/2020", "30/06/2020"],
        ["12/31/2019", "03/31/2020", "06/30/2020"],
        ["31.12.2019 00:00", "31.03.2020 00:00", "30.06.2020 00:00"],
        ["Dec 2019", "Mar 2020", "Jun 2020"],
        ["2019-12-31T23:00:00Z", "2020-03-31T23:00:00Z", "2020-06-30T23:00:00Z"],
    ],
)
def test_the_ways_people_write_dates(texts):
    panel = Panel.from_frame(pd.DataFrame({"ds": texts, "y": [1.0, 2.0, 3.0]}))
    assert panel.frequency.season_length == 4


def test_years_are_whole_numbers():
    panel = Panel.from_frame(pd.DataFrame({"ds": [2001, 2002, 2004], "y": [1.0, 2.0, 3.0]}))
    assert panel.frequency.name == "1"
    assert len(panel.values[0]) == 4


# What is wrong with two_shops() afterwards, and the sentence.
BAD = {
    "no target column": (
        lambda df: df.rename(columns={"y": "sold"}),
        "the data has no column 'y' for the target; its columns are 'unique_id', 'ds', 'sold'",
    ),
    "no time column": (
        lambda df: df[["unique_id", "y"]],
        "the data has no column 'ds' for the time stamps; its columns are 'unique_id', 'y'",
    ),
    "two targets": (
        lambda df: pd.concat([df, df[["y"]]], axis=1),
        "the data has two columns of one name",
    ),
    "no rows": (lambda df: df.iloc[:0], "the data has no rows of data"),
    "text as a number": (
        lambda df: df.assign(y=df.y.astype(str).replace("2.5", "2,5")),
        "the data: column 'y', series 'b', data row 3: '2,5' is not a number",
    ),
    "dates as numbers": (
        lambda df: df.assign(y=df.ds),
        "the data: column 'y', series 'b', data row 1: '2020-01-01 00:00:00' is not a number",
    ),
    "an infinite value": (
        lambda df: df.assign(y=df.y.replace(5.5, np.inf)),
        "the data: column 'y', series 'b', data row 6 is infinite",
    ),
    "a series without values": (
        lambda df: df.assign(y=df.y.where(df.unique_id != "a")),
        "the data: column 'y', series 'a', data row 7 and all others of the series are missing",
    ),
    "a duplicate": (
        lambda df: pd.concat([df, df.iloc[[8]]]),
        "the data: column 'ds', series 'a', data row 13: time stamp 2020-03-01 is already in data "
        "row 9; keep one of the two",
    ),
    "several series without ids": (
        lambda df: df.drop(columns="unique_id"),
        "the data: column 'ds', data row 7: time stamp 2020-01-01 is already in data row 1; keep "
        "one of the two, or name the column that tells the series apart",
    ),
    "an empty id": (
        lambda df: df.assign(unique_id=df.unique_id.where(df.index != 4)),
        "the data: column 'unique_id', data row 5 is empty: it names no series",
    ),
    "an empty time stamp": (
        lambda df: df.assign(ds=df.ds.where(df.index != 4)),
        "the data: column 'ds', series 'b', data row 5 is empty, where a time stamp was expected",
    ),
    "no date": (
        lambda df: df.assign(ds=df.ds.dt.strftime("%Y-%m-%d").replace("2020-02-01", "2020-02-31")),
        "the data: column 'ds', series 'b', data row 2: '2020-02-31' is not a date",
    ),
    "day or month first": (
        lambda df: df.assign(ds=df.ds.dt.strftime("%m/%d/%Y")),
        "the data: column 'ds': '01/01/2020' may be day first or month first; write dates as "
        "year-month-day",
    ),
    "another calendar": (
        lambda df: df.assign(ds=df.ds.dt.strftime("%Y-%m-%d").str.replace("2020", "1399")),
        "the data: column 'ds', series 'b', data row 1: '1399-01-01' seems to be of the Persian "
        "calendar; write Gregorian dates (2024-03-20)",
    ),
    "another calendar, in whole numbers": (
        lambda df: df.assign(ds=df.ds.dt.strftime("1403%m%d").astype(int)),
        "the data: column 'ds', series 'b', data row 1: '1403-01-01' seems to be of the Persian "
        "calendar; write Gregorian dates (2024-03-20)",
    ),
    "its months, in its digits": (
        lambda df: df.assign(ds=[f"۱۴۰۳/۰{month}" for month in [*range(1, 7)] * 2]),
        "the data: column 'ds', series 'b', data row 1: '۱۴۰۳/۰1' seems to be of the Persian "
        "calendar; write Gregorian dates (2024-03-20)",
    ),
    "years to come": (
        lambda df: df.assign(ds=df.ds.dt.strftime("%Y-%m-%d").str.replace("2020", "2399")),
        "the data: column 'ds', series 'b', data row 1: '2399-01-01' is outside the years 1678 to "
        "2261",
    ),
    "fractions as time": (
        lambda df: df.assign(ds=np.arange(12) / 4),
        "the data: column 'ds', series 'b', data row 2: 0.25 is neither a date nor a whole number "
        "below 2**53",
    ),
    "a number too large for time": (
        lambda df: df.assign(ds=np.where(df.index == 3, 2**60, df.index)),
        "the data: column 'ds', series 'b', data row 4: 1152921504606846976 is neither a date nor "
        "a whole number below 2**53",
    ),
    "an irregular row": (
        lambda df: df.assign(ds=df.ds.where(df.index != 4, dt.datetime(2020, 5, 7))),
        "the data: column 'ds', series 'b', data row 5: 2020-05-07 is not on the calendar "
        "MS (monthly, on the first day of the month), and time stamps must be regular",
    ),
    "mixed calendars": (
        lambda df: pd.concat([df, two_shops(200, "D").assign(unique_id="daily")])[
            lambda d: ~d.duplicated(["unique_id", "ds"])
        ],
        "the data: column 'ds', series 'b', data row 1: the series has rows for only 3.9 % of its "
        "time stamps on the calendar D (daily)",
    ),
    "one row": (
        lambda df: df.iloc[[0, 6]],
        "the data: column 'ds', series 'b', data row 1: no series has two time stamps to tell the "
        "frequency from; give it (freq)",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_gets_one_sentence(what):
    spoil, sentence = BAD[what]
    with pytest.raises(InputError) as refusal:
        Panel.from_frame(spoil(two_shops()))
    assert str(refusal.value) == sentence


@pytest.mark.parametrize("name", ["id_col", "time_col", "target_col"])
def test_the_name_of_a_column_is_a_text(name):
    with pytest.raises(InputError, match=f"^{name} must be the name of a column, got 0$"):
        Panel.from_frame(two_shops(), **{name: 0})


def test_truth_values_with_gaps_are_numbers_with_gaps():
    values = pd.array([True, None, False] * 4, "boolean")
    panel = Panel.from_frame(two_shops().assign(y=values))
    np.testing.assert_array_equal(panel.values[0], [1, np.nan, 0] * 2)


def test_a_named_frequency_must_fit():
    with pytest.raises(InputError, match=r"2020-01-01 is not on the calendar W-SUN"):
        Panel.from_frame(two_shops(), freq="W-SUN")
    with pytest.raises(InputError, match="holds dates, which frequency '1' does not fit"):
        Panel.from_frame(two_shops(), freq="1")


def test_one_row_with_a_named_frequency_is_a_panel():
    assert len(Panel.from_frame(two_shops().iloc[[0]], freq="MS").values[0]) == 1


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="equally many, got 2, 1 and 2"):
        Panel.from_arrays("ab", [[1]], [[1], [2]])
    with pytest.raises(ValueError, match="as many values as time stamps"):
        Panel.from_arrays("a", [[1, 2]], [[1]])


@pytest.mark.parametrize(
    ("ids", "times", "values", "sentence"),
    [
        ("ab", [[1, 2], []], [[1, 2], []], "the arrays of series 'b' have no values"),
        ("aa", [[1, 2], [1, 2]], [[1, 2], [3, 4]], "ids must be different, and 'a' comes twice"),
        ("a", [[1, 1.5]], [[1, 2]], "data row 2: 1.5 is neither a date nor a whole number"),
        ("a", [[1, 2]], [[1, np.inf]], "'values', series 'a', data row 2 is infinite"),
        ("a", [np.array(["2000", "2500"], "M8[D]")], [[1, 2]], "2500-01-01 is outside the years"),
    ],
)
def test_arrays_are_held_to_what_frames_are(ids, times, values, sentence):
    with pytest.raises(ValueError, match=sentence):
        Panel.from_arrays(ids, times, values)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 40), drop=st.floats(0, 0.6))
def test_what_was_there_is_still_there(seed, n, drop):
    """Every value given comes back at its own time stamp, and nothing else is known."""
    rng = np.random.default_rng(seed)
    days = np.datetime64("2021-05-03", "ns") + np.arange(n).astype("timedelta64[D]")
    kept = np.flatnonzero(rng.random(n) >= drop)
    if len(kept) < 2:
        return
    values = rng.standard_normal(n)
    panel = Panel.from_arrays(["a"], [days[kept][::-1]], [values[kept][::-1]], freq="D")
    known = ~np.isnan(panel.values[0])
    np.testing.assert_array_equal(panel.times[0][known], days[kept])
    np.testing.assert_array_equal(panel.values[0][known], values[kept])
    assert (np.diff(panel.times[0]) == np.timedelta64(1, "D")).all()
