"""Parquet files under a folder or an address, read a stretch of rows at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..errors import InputError
from .files import first_line

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.fs

# Bytes that are read of a column at a time.
_BUFFER = 2**20
# How Hive, Spark and pyarrow name the folder of rows that have no value.
_NOTHING = "__HIVE_DEFAULT_PARTITION__"


def is_many(source: str | os.PathLike[str]) -> bool:
    """Whether this names a folder, or an address, and not one file to be read as a whole."""
    return "://" in os.fspath(source) or os.path.isdir(source)


def files_under(source: str) -> list[str]:
    """All Parquet files of a folder or an address, as paths on its file system.

    Raises:
        InputError: there are none, or the address cannot be reached.
    """
    import pyarrow as pa
    import pyarrow.fs

    try:
        system, path = _system(source)
        there = system.get_file_info(path)
        if there.type == pa.fs.FileType.NotFound:
            raise InputError(f"{source}: there is no such folder")
        if there.type == pa.fs.FileType.File:
            return [path]
        inside = system.get_file_info(pa.fs.FileSelector(path, recursive=True))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{source} cannot be read: {first_line(error)}") from None
    found = [i.path for i in inside if i.type == pa.fs.FileType.File and _is_data(i.path, path)]
    if isinstance(system, pa.fs.LocalFileSystem):
        _refuse_links_to_nothing(path)
    if not found:
        raise InputError(f"{source} has no Parquet file (*.parquet) in it")
    return sorted(found)


class ParquetFile:
    """One file: facts of its row groups, and some columns of some of them.

    A folder of its path that is called `region=north` counts as a column of text.

    Args:
        source: what it was found under.
        path: where it is, on the file system of `source`.
        columns: those to read.

    Raises:
        InputError: the file is damaged, or lacks a column.
    """

    def __init__(self, source: str, path: str, columns: Sequence[str]):
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path, self.columns = path, list(columns)
        try:
            system, root = _system(source)
            self._file = pq.ParquetFile(
                system.open_input_file(path),
                buffer_size=_BUFFER,
                page_checksum_verification=True,
            )
        except FileNotFoundError:
            raise InputError(f"{path} is no longer there") from None
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None
        self._folders = _folder_columns(path, root)
        there = [*self._file.schema_arrow.names, *self._folders]
        for name in columns:
            if name not in there:
                names = ", ".join(map(repr, there))
                raise InputError(f"{path} has no column {name!r}; its columns are {names}")

    def __enter__(self) -> ParquetFile:
        """The file itself; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close(force=True)

    @property
    def groups(self) -> list[int]:
        """Rows of each row group."""
        facts = self._file.metadata
        return [facts.row_group(i).num_rows for i in range(facts.num_row_groups)]

    def kind(self, column: str) -> str:
        """The type of a column, however it is encoded."""
        import pyarrow as pa

        if column in self._folders:
            return "string"
        kind = self._file.schema_arrow.field(column).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        return str(kind).removeprefix("large_").removesuffix("_view")

    def range(self, column: str) -> tuple[Any, Any]:
        """The least and the largest entry of a column whose entries rise."""
        if column in self._folders:
            return self._folders[column], self._folders[column]
        last = self._file.metadata.num_row_groups - 1
        return self.edge(column, 0, first=True), self.edge(column, last)

    def edge(self, column: str, group: int, *, first: bool = False) -> Any:
        """The last entry of a column up to a row group, or the first from it on; None if none."""
        if column in self._folders:
            return self._folders[column]
        near = range(group, len(self.groups)) if first else range(group, -1, -1)
        group = next((i for i in near if self._file.metadata.row_group(i).num_rows), -1)
        if group < 0:
            return None
        entries = self._tables([group], [column], None)
        pieces = [table.column(0) for table in entries if len(table)]
        return pieces[0][0].as_py() if first else pieces[-1][-1].as_py()

    def tables(self, groups: Sequence[int], rows: int) -> Iterator[pa.Table]:
        """The columns in some row groups, in tables of at most so many rows.

        Raises:
            InputError: the file is damaged.
        """
        return self._tables(groups, self.columns, rows)

    @property
    def schema(self) -> pa.Schema:
        """The columns and their types."""
        return self.nothing().schema

    def nothing(self) -> pa.Table:
        """A table of no rows with the columns."""
        table = self._file.schema_arrow.empty_table()
        for name in self._folders:
            table = self._with_folder(table, name)
        return _plain(table.select(self.columns))

    def _with_folder(self, table: pa.Table, name: str) -> pa.Table:
        import pyarrow as pa

        if name in table.column_names:
            table = table.drop_columns(name)
        return table.append_column(
            name, pa.repeat(pa.scalar(self._folders[name], pa.string()), len(table))
        )

    def _tables(
        self, groups: Sequence[int], columns: Sequence[str], rows: int | None
    ) -> Iterator[pa.Table]:
        import pyarrow as pa

        inside = [name for name in columns if name not in self._folders]
        sizes = {} if rows is None else {"batch_size": rows}
        try:
            for batch in self._file.iter_batches(row_groups=list(groups), columns=inside, **sizes):
                table = pa.Table.from_batches([batch])
                for name in columns:
                    table = self._with_folder(table, name) if name in self._folders else table
                yield _plain(table.select(list(columns)))
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> InputError:
        return InputError(f"{self.path} is a damaged Parquet file ({first_line(error)})")


def _plain(table: pa.Table) -> pa.Table:
    """The table with text as text, not as numbers that stand for it in this file alone."""
    import pyarrow as pa

    for i, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        kind = pa.string() if pa.types.is_string_view(kind) else kind
        if kind != field.type:
            table = table.set_column(i, field.name, table.column(i).cast(kind))
    return table


def _folder_columns(path: str, root: str) -> dict[str, str | None]:
    folders = path.removeprefix(root).strip("/").split("/")[:-1]
    pairs = (folder.partition("=") for folder in folders if "=" in folder)
    return {name: None if entry == _NOTHING else unquote(entry) for name, _, entry in pairs}


def _refuse_links_to_nothing(root: str) -> None:
    """Arrow leaves them out, as if the folder had no such file."""
    for path in map(str, Path(root).rglob("*")):
        if _is_data(path, root) and not os.path.exists(path):
            raise InputError(f"{path} is a link to nothing")


def _is_data(path: str, root: str) -> bool:
    """Whether it is a Parquet file, and none that another program hides or has under way."""
    names = path.removeprefix(root).strip("/").split("/")
    return names[-1].lower().endswith((".parquet", ".pq")) and not any(n[:1] in "._" for n in names)


def _system(source: str) -> tuple[pa.fs.FileSystem, str]:
    import pyarrow.fs

    if "://" in source:
        return pyarrow.fs.FileSystem.from_uri(source)
    return pyarrow.fs.LocalFileSystem(), os.path.abspath(source)
