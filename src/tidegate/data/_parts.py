"""Whole series from Parquet files that are sorted by series, some at a time.

The layout that is asked for: in each file the rows of a series stand together, and series follow
each other in rising order of their ids; no series is in two files. So what is in memory is a matter
of the batch and not of the folder, and a stretch of a file can be read without the rest of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InputError
from ._parquet import ParquetFile, files_under

if TYPE_CHECKING:
    import pyarrow as pa

# A part has so many rows, and so many are read at a time.
PART_ROWS, _BATCH_ROWS = 2**20, 2**16
# What ids may be, as Arrow calls it: of these it is sure in which order they stand.
_KINDS = ("string", "int", "uint")


class Stretch(NamedTuple):
    """Some row groups of one file; the series that begin in them are its own.

    Attributes:
        file: where it is.
        first: its first row group.
        stop: the row group after its last.
        rows: how many rows these have.
    """

    file: str
    first: int
    stop: int
    rows: int


class Part(NamedTuple):
    """Stretches that are read one after the other."""

    stretches: tuple[Stretch, ...]

    @property
    def rows(self) -> int:
        """Rows of all stretches."""
        return sum(stretch.rows for stretch in self.stretches)

    @property
    def name(self) -> str:
        """The file, or the first and how many others."""
        files = dict.fromkeys(stretch.file for stretch in self.stretches)
        first, others = next(iter(files)), len(files) - 1
        return first if not others else f"{first} and {others} more"


@dataclass(frozen=True)
class Parts:
    """A folder of Parquet files, cut into parts that can be read one without the other.

    Attributes:
        source: the folder, or an address such as s3://bucket/folder.
        id: the column that tells series apart.
        columns: those that are read, the ids first.
        parts: in rising order of the ids.
        fingerprint: of the names, rows and ids of the files.

    Example:
        parts = Parts.open("sales/", "unique_id", ["ds", "y"])
        tables = [table for part in parts.parts for table in parts.batches(part)]
    """

    source: str
    id: str
    columns: tuple[str, ...]
    parts: tuple[Part, ...]
    fingerprint: str

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return sum(part.rows for part in self.parts)

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str],
        id: str,
        others: Sequence[str],
        rows: int = PART_ROWS,
        least: int = 1,
    ) -> Parts:
        """Look at the files, but not at their rows.

        Args:
            source: a folder of Parquet files, or one of them; or an address that pyarrow knows.
            id: the column that tells series apart.
            others: the other columns to read.
            rows: of a part, at most, where no row group is larger.
            least: how many parts there are to be at least, where there are so many row groups.

        Raises:
            InputError: there are no such files, a column is not there or of another type in each
                file, or a series is in two files.
        """
        where, columns = os.fspath(source), (id, *others)
        looks = [_look(where, file, columns) for file in files_under(where)]
        files = [look for look in looks if look.groups]
        if not files:
            raise InputError(f"{where} has no rows of data")
        for file in files:
            if not file.kind.startswith(_KINDS) or file.kind != files[0].kind:
                known = files[0].kind if files[0].kind.startswith(_KINDS) else "text or numbers"
                raise InputError(
                    f"{file.path}: column {id!r} holds {file.kind}, where {known} was expected"
                )
        _refuse_other_types(files, columns)
        files.sort(key=lambda file: (file.least, file.most))
        _refuse_shared(files, id)
        facts = [(os.path.basename(f.path), f.kind, f.groups, f.least, f.most) for f in files]
        digest = hashlib.blake2b(repr((columns, facts)).encode(), digest_size=16)
        rows = min(rows, sum(sum(file.groups) for file in files) // least)
        stretches = [stretch for file in files for stretch in _cut(file, rows)]
        return cls(where, id, columns, tuple(_joined(stretches, rows)), digest.hexdigest())

    def batches(self, part: Part, rows: int = _BATCH_ROWS) -> Iterator[pa.Table]:
        """The series of a part, whole ones, in tables of about so many rows.

        A series of more rows than that is a table of its own.

        Raises:
            InputError: the file is damaged, or its rows are not sorted by series.
        """
        held = _Held(self.id, rows)
        for stretch in part.stretches:
            with ParquetFile(self.source, stretch.file, self.columns) as file:
                rising = _Rising(file, self.id, stretch, rows)
                for table in rising:
                    yield from held.add(table)
                yield from held.close()
        yield from held.rest()

    def nothing(self) -> pa.Table:
        """A table of no rows with the columns in their types."""
        with ParquetFile(self.source, self.parts[0].stretches[0].file, self.columns) as file:
            return file.nothing()


class _Look(NamedTuple):
    """What a file says of itself; `least` and `most` are the first and the last of its ids."""

    path: str
    kind: str
    schema: pa.Schema
    groups: list[int]
    least: Any
    most: Any


def _look(source: str, path: str, columns: Sequence[str]) -> _Look:
    with ParquetFile(source, path, columns) as file:
        id = columns[0]
        if not sum(file.groups):
            return _Look(path, file.kind(id), file.schema, [], None, None)
        least, most = file.range(id)
        if least is None or most is None:
            raise InputError(f"{path}: column {id!r} has an empty entry: it names no series")
        return _Look(path, file.kind(id), file.schema, file.groups, least, most)


def _refuse_other_types(files: list[_Look], columns: Sequence[str]) -> None:
    """Types that go together, such as int64 and double, may differ from file to file."""
    import pyarrow as pa

    schema, first = files[0].schema, files[0].path
    for file in files[1:]:
        if file.schema == schema:
            continue
        for name in columns:
            known, found = schema.field(name).type, file.schema.field(name).type
            try:
                pa.unify_schemas(
                    [pa.schema([(name, known)]), pa.schema([(name, found)])],
                    promote_options="permissive",
                )
            except pa.ArrowException:
                raise InputError(
                    f"{file.path}: column {name!r} holds {found}, and in {first} {known}: it must "
                    "be of one type in all files"
                ) from None


def _refuse_shared(files: list[_Look], id: str) -> None:
    for before, after in pairwise(files):
        if after.least <= before.most:
            raise InputError(
                f"{after.path} begins with series {str(after.least)!r}, and {before.path} ends "
                f"with {str(before.most)!r}: each file needs a range of {id!r} of its own, sorted"
            )


def _cut(file: _Look, rows: int) -> Iterator[Stretch]:
    first, held = 0, 0
    for i, count in enumerate(file.groups):
        if held and held + count > rows:
            yield Stretch(file.path, first, i, held)
            first, held = i, 0
        held += count
    yield Stretch(file.path, first, len(file.groups), held)


def _joined(stretches: Sequence[Stretch], rows: int) -> Iterator[Part]:
    some: list[Stretch] = []
    for stretch in stretches:
        if some and sum(s.rows for s in some) + stretch.rows > rows:
            yield Part(tuple(some))
            some = []
        some.append(stretch)
    yield Part(tuple(some))


class _Rising:
    """The rows of a stretch in order, which is checked: those of series that begin in it."""

    def __init__(self, file: ParquetFile, id: str, stretch: Stretch, rows: int):
        self.file = file
        self.id = id
        self.stretch = stretch
        self.rows = rows
        self.last = file.edge(id, stretch.first - 1) if stretch.first else None

    def __iter__(self) -> Iterator[pa.Table]:
        """Tables of rows."""
        before, stretch = self.last, self.stretch
        own = False
        for table in self.file.tables(range(stretch.first, stretch.stop), self.rows):
            self._check(table)
            theirs = 0 if own else _count(table, self.id, before)
            own = own or theirs < len(table)
            if theirs < len(table):
                yield table.slice(theirs)
        last = self.last
        beyond = range(stretch.stop, len(self.file.groups))
        for table in self.file.tables(beyond, self.rows) if own else ():
            self._check(table)
            more = _count(table, self.id, last)
            yield table.slice(0, more)
            if more < len(table):
                return

    def _check(self, table: pa.Table) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        ids = table[self.id]
        if ids.null_count:
            raise InputError(
                f"{self.file.path}: column {self.id!r} has an empty entry: it names no series"
            )
        last = ids[0].as_py() if self.last is None else self.last
        above = pa.chunked_array([pa.array([last], ids.type), *ids.chunks])
        falls = pc.call_function("less", [ids, above.slice(0, len(ids))])
        at = pc.index(falls, True).as_py()
        if at >= 0:
            raise InputError(
                f"{self.file.path}: series {str(ids[at])!r} comes after {str(above[at])!r}, and "
                f"rows must be sorted by {self.id!r}, so that a series can be read without the "
                "rest of the file"
            )
        self.last = ids[-1].as_py()


class _Held:
    """Rows that wait until their series is whole."""

    def __init__(self, id: str, rows: int):
        self.id = id
        self.rows = self.enough = rows
        self.tables: list[pa.Table] = []

    def add(self, table: pa.Table) -> Iterator[pa.Table]:
        """Take rows; when there are enough, give back the series that ended before the last."""
        if len(table):
            self.tables.append(table)
        if sum(map(len, self.tables)) < self.enough:
            return
        held = self._all()
        cut = len(held) - _count(held, self.id, held[self.id][-1].as_py())
        if cut:
            yield held.slice(0, cut).combine_chunks()
        # A series that is longer than a batch is waited for with longer and longer patience.
        self.enough = self.rows if cut else 2 * self.enough
        self.tables = [held.slice(cut)]

    def close(self) -> Iterator[pa.Table]:
        """No series goes on from here: give back all if it is enough."""
        if sum(map(len, self.tables)) >= self.rows:
            yield from self.rest()

    def rest(self) -> Iterator[pa.Table]:
        """Give back all."""
        if self.tables:
            yield self._all().combine_chunks()
        self.tables, self.enough = [], self.rows

    def _all(self) -> pa.Table:
        import pyarrow as pa

        return pa.concat_tables(self.tables, promote_options="permissive")


def _count(table: pa.Table, id: str, entry: Any) -> int:
    """How many rows have this id; in sorted rows they stand together."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if entry is None:
        return 0
    same = pc.call_function("equal", [table[id], pa.scalar(entry, table[id].type)])
    return pc.call_function("sum", [same]).as_py() or 0
