"""The series that a command is given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..data import load, read_table
from ..data._sets import SETS

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame


def read_series(file: Path, id_col: str) -> IntoFrame:
    """The table in a file; or the set that ships under this name, if there is no such file.

    Raises:
        InputError: there is neither, or the file cannot be read as a table.
    """
    if str(file) in SETS and not file.exists():
        return load(str(file))
    return read_table(file, text=[id_col])
