"""Lines of numbers, as readings come: CSV, with a heading or without."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError

_SEPARATORS = ",;\t"


class BadLine(ValueError):
    """A line that is not the numbers that were expected: why, in a few words."""


def fields_of(line: str) -> list[str]:
    """The fields of a line, separated by commas, semicolons, tabs or spaces, without their quotes.

    Spaces separate only where nothing else does.
    """
    if '"' in line:
        separator = next((one for one in _SEPARATORS if one in line), " ")
        return [field.strip() for field in next(csv.reader([line], delimiter=separator))]
    for separator in _SEPARATORS[1:]:
        line = line.replace(separator, ",")
    return [part.strip() for part in line.split(",")] if "," in line else line.split()


def parse_line(line: str, count: int, whole: bool = False) -> np.ndarray:
    """The numbers of a line, separated as in `fields_of`.

    Empty fields, "nan", "NA" and "null" are missing values.

    Raises:
        BadLine: there are not so many, or one is no number.
    """
    return parse_fields(fields_of(line), count, whole)


def parse_fields(fields: Sequence[str], count: int, whole: bool = False) -> np.ndarray:
    """The numbers of some fields, as `parse_line`.

    Raises:
        BadLine: there are not so many, or one is no number.
    """
    if len(fields) != count:
        raise BadLine(f"{len(fields)} numbers instead of {count}")
    return np.array([_number(field, whole) for field in fields])


def is_heading(line: str) -> bool:
    """Whether a line has words but no number: the names of columns."""
    fields = fields_of(line)
    return any(fields) and not any(_is_number(field) for field in fields)


def read_numbers(path: str | os.PathLike[str], count: int) -> np.ndarray:
    """All lines of a file, (lines, count), whole numbers (lines,) where `count` is 0.

    Raises:
        InputError: the file is not there, has no numbers, or a line that is no such numbers.
    """
    rows = []
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if not line.strip() or (number == 1 and is_heading(line)):
                    continue
                try:
                    rows.append(parse_line(line.strip(), count or 1, count == 0))
                except BadLine as why:
                    raise InputError(f"{path}: line {number}: {why}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if not rows:
        raise InputError(f"{path} has no numbers")
    numbers = np.stack(rows)
    return numbers if count else numbers[:, 0]


def _number(field: str, whole: bool) -> float | int:
    if field.lower() in ("", "nan", "na", "null") and not whole:
        return float("nan")
    try:
        return int(field) if whole else float(field)
    except ValueError:
        kind = "whole number" if whole else "number"
        raise BadLine(f"{_short(field)} is no {kind}") from None


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _short(field: str) -> str:
    return repr(field if len(field) <= 20 else field[:20] + "…")
