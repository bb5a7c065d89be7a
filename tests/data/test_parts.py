"""Whole series come out of sorted Parquet files, each once, whatever the files are cut into."""

from itertools import pairwise

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.data._parts import Parts
from tidegate.errors import InputError


def table(lengths, first=0, text=True):
    """A long table of series `0000`, `0001`, ... of these lengths."""
    ids = [i + first for i, length in enumerate(lengths) for _ in range(length)]
    return pa.table(
        {
            "unique_id": [f"{i:04}" for i in ids] if text else ids,
            "ds": [k for length in lengths for k in range(length)],
            "y": [float(i) for i in ids],
        }
    )


def write(folder, tables, group=7):
    folder.mkdir(exist_ok=True)
    for i, one in enumerate(tables):
        pq.write_table(one, folder / f"{i}.parquet", row_group_size=group)
    return folder


def opened(folder, **rest):
    return Parts.open(folder, "unique_id", ["ds", "y"], **rest)


lengths = st.lists(st.integers(1, 12), min_size=1, max_size=12)


@settings(max_examples=60)
@given(
    files=st.lists(lengths, min_size=1, max_size=3),
    group=st.integers(1, 9),
    rows=st.integers(1, 40),
    batch=st.integers(1, 25),
    text=st.booleans(),
)
def test_every_series_comes_once_and_whole(tmp_path_factory, files, group, rows, batch, text):
    folder, first, tables = tmp_path_factory.mktemp("parts"), 0, []
    for one in files:
        tables.append(table(one, first, text))
        first += len(one)
    parts = opened(write(folder, tables, group), rows=rows)
    assert parts.rows == sum(map(sum, files))
    batches = [b for part in parts.parts for b in parts.batches(part, batch)]
    assert pa.concat_tables(batches).equals(pa.concat_tables(tables))
    seen = [set(b["unique_id"].to_pylist()) for b in batches]
    assert sum(map(len, seen)) == first, "a series came in two pieces"


def test_a_batch_is_no_larger_than_asked_for_but_for_a_long_series(tmp_path):
    parts = opened(write(tmp_path, [table([3] * 40 + [100] + [3] * 40)], 50))
    sizes = [len(b) for b in parts.batches(parts.parts[0], 10)]
    assert sum(sizes) == 340
    assert sorted(sizes)[-2] <= 20


def test_a_folder_may_name_the_series(tmp_path):
    for name in ("a", "b c"):
        rows = table([4]).drop(["unique_id"])
        (tmp_path / f"unique_id={name.replace(' ', '%20')}").mkdir()
        pq.write_table(rows, tmp_path / f"unique_id={name.replace(' ', '%20')}" / "0.parquet")
    parts = opened(tmp_path)
    (part,) = parts.parts
    (batch,) = parts.batches(part)
    assert batch["unique_id"].to_pylist() == ["a"] * 4 + ["b c"] * 4
    assert part.name.endswith("0.parquet and 1 more")
    assert parts.nothing().schema.equals(batch.schema)


def test_categories_and_an_address_are_read_too(tmp_path):
    frame = table([4, 5]).to_pandas().astype({"unique_id": "category"})
    frame.to_parquet(tmp_path / "0.parquet")
    parts = opened(f"file://{tmp_path}")
    (batch,) = parts.batches(parts.parts[0])
    assert batch.equals(table([4, 5]))


def test_hidden_files_and_those_under_way_are_left(tmp_path):
    write(tmp_path, [table([4])])
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".1.parquet").write_bytes(b"half")
    (tmp_path / "_temporary").mkdir()
    (tmp_path / "_temporary" / "1.parquet").write_bytes(b"half")
    assert opened(tmp_path).rows == 4


def test_a_link_to_nothing_is_said_and_a_name_in_capitals_is_read(tmp_path):
    write(tmp_path, [table([4])])
    pq.write_table(table([3], 1), tmp_path / "1.PARQUET")
    assert opened(tmp_path).rows == 7
    (tmp_path / "2.parquet").symlink_to(tmp_path / "gone.parquet")
    with pytest.raises(InputError, match=r"2\.parquet is a link to nothing"):
        opened(tmp_path)


@pytest.mark.parametrize("rows", [1, 6, 100])
def test_row_groups_without_rows_are_passed_over(tmp_path, rows):
    whole = table([3, 2, 4])
    cuts = [0, 0, 4, 4, 6, 9, 9]
    with pq.ParquetWriter(tmp_path / "0.parquet", whole.schema) as writer:
        for first, stop in pairwise(cuts):
            writer.write_table(whole.slice(first, stop - first))
    assert pq.read_metadata(tmp_path / "0.parquet").num_row_groups == len(cuts) - 1
    assert pa.concat_tables(read_all(tmp_path, rows=rows)).equals(whole)


def read_all(folder, **rest):
    parts = opened(folder, **rest)
    return [batch for part in parts.parts for batch in parts.batches(part)]


def refused(tmp_path, tables, **rest):
    with pytest.raises(InputError) as caught:
        read_all(write(tmp_path, tables), **rest)
    return str(caught.value)


def test_what_is_not_sorted_is_refused_in_a_sentence(tmp_path):
    backwards = pa.concat_tables([table([2], 5), table([2], 3)])
    said = refused(tmp_path / "a", [backwards])
    assert "series '0003' comes after '0005', and rows must be sorted by 'unique_id'" in said
    # Also where the turn is at the border of two row groups or parts.
    many = pa.concat_tables([table([7], 5), table([7], 3)])
    assert "'0003' comes after '0005'" in refused(tmp_path / "b", [many], rows=7)
    again = pa.concat_tables([table([2, 2]), table([2])])
    assert "'0000' comes after '0001'" in refused(tmp_path / "c", [again])


def test_a_series_in_two_files_is_refused(tmp_path):
    said = refused(tmp_path, [table([2, 2]), table([2, 2], 1)])
    assert "1.parquet begins with series '0001', and" in said
    assert "0.parquet ends with '0001': each file needs a range of 'unique_id' of its own" in said


@pytest.mark.parametrize(
    ("column", "entries", "sentence"),
    [
        ("unique_id", ["a", None], "has an empty entry: it names no series"),
        ("unique_id", [1.5, 2.5], "column 'unique_id' holds double, where text or numbers was"),
        ("y", None, "has no column 'y'; its columns are 'unique_id', 'ds'"),
    ],
)
def test_bad_columns_are_refused(tmp_path, column, entries, sentence):
    frame = pd.DataFrame({"unique_id": ["a", "b"], "ds": [1, 1], "y": [1.0, 2.0]})
    frame = frame.drop(columns=column) if entries is None else frame.assign(**{column: entries})
    assert sentence in refused(tmp_path, [pa.Table.from_pandas(frame)])


def test_ids_of_two_kinds_are_refused(tmp_path):
    said = refused(tmp_path, [table([2]), table([2], 1, text=False)])
    assert "column 'unique_id' holds int64, where string was expected" in said


def test_types_may_differ_where_they_go_together(tmp_path):
    numbers, others = table([4]), table([3, 2], 1)
    cents = others.set_column(2, "y", others["y"].cast("int64"))
    assert pa.concat_tables(read_all(write(tmp_path, [numbers, cents]))).num_rows == 9
    for column, kind in (("y", "string"), ("ds", "timestamp[us]")):
        other = others.set_column(
            others.column_names.index(column), column, others[column].cast("int64").cast(kind)
        )
        said = refused(tmp_path / kind, [numbers, other])
        assert f"1.parquet: column {column!r} holds {kind}, and in" in said
        # Also where no part has both.
        assert said == refused(tmp_path / kind, [numbers, other], rows=4)


def test_what_is_no_folder_of_parquet_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no such folder"):
        opened(tmp_path / "none")
    with pytest.raises(InputError, match=r"has no Parquet file \(\*\.parquet\) in it"):
        opened(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        opened("nonsense://x/y")
    (tmp_path / "0.parquet").write_bytes(b"not that")
    with pytest.raises(InputError, match="is a damaged Parquet file"):
        opened(tmp_path)
    assert "has no rows of data" in refused(tmp_path / "empty", [table([])])


def test_a_file_cut_short_in_its_middle_is_said(tmp_path):
    folder = write(tmp_path, [table([50] * 40)], 2000)
    file = folder / "0.parquet"
    data = bytearray(file.read_bytes())
    data[8 : len(data) // 3] = bytes(len(data) // 3 - 8)
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"0\.parquet is a damaged Parquet file"):
        read_all(folder)


def test_a_page_that_is_not_what_was_written_is_said(tmp_path):
    file = tmp_path / "0.parquet"
    rows = table([500] * 8)
    pq.write_table(rows, file, compression="none", use_dictionary=False, write_page_checksum=True)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"0\.parquet is a damaged Parquet file.*checksum"):
        read_all(tmp_path)
