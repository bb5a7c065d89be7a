"""Tables from files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_PARQUET = b"PAR1"
_NOT_TEXT = {
    b"PK\x03\x04": "an Excel workbook or zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "compressed with gzip",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
}


def read_table(path: str | Path, text: Sequence[str] = ()) -> pa.Table:
    """Read a CSV (comma, semicolon or tab; UTF-8) or Parquet file, whatever its name ends in.

    Args:
        path: the file.
        text: columns of a CSV that stay text even where they look like numbers, such as ids.

    Raises:
        InputError: there is no such file, or it holds no table.
    """
    path = Path(path)
    content = _content(path)
    if content.startswith(_PARQUET):
        return _parquet(path)
    return _csv(path, content, text)


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a file")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if not content.strip():
        raise InputError(f"{path} is empty")
    for start, kind in _NOT_TEXT.items():
        if content.startswith(start):
            raise InputError(f"{path} is {kind}, not a CSV or Parquet table")
    return content


def _parquet(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        return pa.parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is a damaged Parquet file ({first_line(error)})") from None


def _csv(path: Path, content: bytes, text: Sequence[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv

    header = _check_text(path, content)
    delimiter = max(",;\t", key=header.count)

    def read(text: Sequence[str]) -> pa.Table:
        return pa.csv.read_csv(
            pa.py_buffer(content),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(text, pa.string())),
        )

    try:
        table = read(text)
        # Time stamps with an offset come in UTC, where it is forgotten: as text they keep it.
        offset = [f.name for f in table.schema if pa.types.is_timestamp(f.type) and f.type.tz]
        table = read([*text, *offset]) if offset else table
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise InputError(f"{path} is not a CSV table ({first_line(error)})") from None
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise InputError(f"{path} has two columns called {twice[0]!r}")
    return table


def _check_text(path: Path, content: bytes) -> str:
    """The header line of a file that is text in UTF-8."""
    try:
        return content.decode("utf-8-sig").lstrip().partition("\n")[0]
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text: byte {error.start} is 0x{content[error.start]:02x}; "
            "save it as CSV in UTF-8"
        ) from None


def first_line(error: Exception) -> str:
    """What an error of pyarrow says, without the rest of it."""
    return str(error).strip().partition("\n")[0].rstrip(".")
