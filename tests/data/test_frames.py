"""A frame comes back as the kind that went in."""

from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from tidegate.data import Panel, to_frame
from tidegate.errors import InputError

BASE = pd.DataFrame(
    {
        "unique_id": [3, 3, 1, 1],
        "ds": pd.to_datetime(["2020-01-01", "2020-01-02"] * 2),
        "y": [1.0, 2.0, 3.0, 4.0],
    }
)
KINDS = {
    "pandas": BASE,
    "pandas, categories": BASE.assign(unique_id=BASE.unique_id.astype(str).astype("category")),
    "pandas, arrow": BASE.convert_dtypes(dtype_backend="pyarrow"),
    "pandas, zone": BASE.assign(ds=BASE.ds.dt.tz_localize("Asia/Tehran")),
    "pandas, whole numbers": BASE.assign(ds=[1, 2, 1, 2]),
    "polars": pl.from_pandas(BASE),
    "polars, dates": pl.from_pandas(BASE).with_columns(pl.col("ds").cast(pl.Date)),
    "polars, categories": pl.from_pandas(BASE).with_columns(
        pl.col("unique_id").cast(pl.String).cast(pl.Categorical)
    ),
    "pyarrow": pa.Table.from_pandas(BASE, preserve_index=False),
}


def as_dict(frame) -> dict:
    return (
        {name: list(frame[name]) for name in frame.columns}
        if not isinstance(frame, pa.Table)
        else frame.to_pydict()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_panel_goes_back_into_the_frame_that_it_came_from(kind):
    df = KINDS[kind]
    panel = Panel.from_frame(df)
    columns = {
        "unique_id": np.repeat(panel.ids, [len(v) for v in panel.values]),
        "ds": np.concatenate(panel.times),
        "y": np.concatenate(panel.values),
    }
    again = to_frame(columns, df, panel.clock)
    assert type(again) is type(df)
    assert as_dict(again) == as_dict(df)
    schema = "schema" if hasattr(df, "schema") else "dtypes"
    assert list(getattr(again, schema)) == list(getattr(df, schema))


def test_text_that_held_dates_comes_back_as_dates():
    df = BASE.assign(ds=BASE.ds.astype(str))
    panel = Panel.from_frame(df)
    again = to_frame({"ds": panel.times[0], "median": panel.values[0]}, like=df)
    assert again.ds.tolist() == BASE.ds.tolist()[:2]
    assert again["median"].tolist() == [1.0, 2.0]


PRICES = [Decimal("1.5"), None, Decimal("3")]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (PRICES, [1.5, np.nan, 3.0]),
        (pd.array([True, None, False], "boolean"), [1.0, np.nan, 0.0]),
        (pd.array(["a", None, "b"], "string"), ["a", "", "b"]),
        (["a", 1, None], ["a", "1", ""]),
        (pa.array(PRICES), [1.5, np.nan, 3.0]),
    ],
)
def test_covariates_are_numbers_or_names(entries, expected):
    columns = {"ds": [1, 2, 3], "y": [1.0, 2.0, 3.0], "c": entries}
    df = pa.table(columns) if isinstance(entries, pa.Array) else pd.DataFrame(columns)
    found = Panel.from_frame(df, past_cols=["c"]).covariates["c"].values[0]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("entry", [[1], 1j, pd.Timestamp("2024-01-01"), {"a": 1}])
def test_what_is_neither_number_nor_name_is_no_covariate(entry):
    df = pd.DataFrame({"ds": [1, 2, 3], "y": [1.0, 2.0, 3.0], "c": [entry] * 3})
    with pytest.raises(InputError, match=r"'c', data row 1: .* is neither a number nor a name"):
        Panel.from_frame(df, past_cols=["c"])


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_whole_numbers_that_float64_rounds_are_rounded(make):
    numbers = [2**53 + 1, 2**60 + 1, 3]
    panel = Panel.from_frame(make({"ds": [1, 2, 3], "y": numbers, "c": numbers}), past_cols=("c",))
    np.testing.assert_array_equal(panel.values[0], np.array(numbers, np.float64))
    np.testing.assert_array_equal(panel.covariates["c"].values[0], np.array(numbers, np.float64))
