"""A frame whose rows are the steps of sequences, or whose rows are the sequences themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ._columns import Names, Series, entries_or_none, read_ids, read_numbers, read_times
from .frames import to_frame

if TYPE_CHECKING:
    import narwhals as nw
    from narwhals.typing import IntoFrame

Array = np.ndarray


@dataclass(frozen=True)
class SequenceFrame:
    """A frame taken apart into sequences, and what is needed to answer in kind.

    With an id column a row is a step, and the steps of an id, in the order of their time stamps if
    there are any, are a sequence; with time stamps alone, all rows are one sequence. With neither,
    a row is a sequence: a text, or the values of its columns one after another.

    Args:
        sequences: arrays (time, features), or texts.
        labels: of each sequence, or one of each step; None where the frame has no label column.
        ids: the sequences' names.
        rows: for each sequence, the rows of the frame that it came from, in its own order.
        features: names of the columns that were read.
        like: a few rows of the frame, to remember its kind by.
        has_id: whether the frame has an id column.
    """

    sequences: list[Array] | list[str]
    labels: list[Any] | None
    ids: list[str]
    rows: list[Array]
    features: list[str]
    like: Any
    has_id: bool

    @classmethod
    def read(
        cls,
        df: IntoFrame,
        id_col: str,
        time_col: str,
        label_col: str,
        *,
        per_step: bool = False,
        features: Sequence[str] | None = None,
        source: str = "the frame",
    ) -> SequenceFrame:
        """Take a frame apart.

        Args:
            df: of pandas, polars, pyarrow or any other library that narwhals knows.
            id_col: the column that tells sequences apart.
            time_col: the column of time stamps; without it, steps are in the order of the rows.
            label_col: the column of labels; it may be absent.
            per_step: each step has a label of its own.
            features: columns to read; all others when not given.
            source: what the frame is called in messages.

        Raises:
            InputError: a column is missing, or holds what cannot be used.
        """
        import narwhals as nw

        frame = nw.from_native(_with_text_names(df))
        frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
        if len(frame) == 0:
            raise InputError(f"{source} has no rows of data")
        has_id = id_col in frame.columns
        of_steps = has_id or time_col in frame.columns
        taken = {label_col, id_col, time_col} if of_steps else {label_col}
        names = _feature_names(frame, taken, features, source)
        like = frame.head(2).to_native()
        labels = None
        if label_col in frame.columns:  # where labels are texts, an empty cell of a file is ""
            labels = [None if label == "" else label for label in frame[label_col].to_list()]
        if not of_steps:
            if per_step:
                raise InputError(
                    f"{source} has neither a column {id_col!r} nor {time_col!r}, so that its "
                    "rows are no steps, but one label for each step was asked for; its columns are "
                    f"{_list(frame.columns)}"
                )
            return cls._of_rows(frame, names, labels, like, source)
        named = id_col if has_id else None
        series = read_ids(frame, Names(source, named, time_col, label_col))
        rows = _rows_of(frame, series, time_col)
        sequences = _steps(frame, names, series, rows)
        if labels is not None:
            labels = _labels(labels, rows, series, label_col, per_step)
        return cls(sequences, labels, series.ids, rows, names, like, has_id)

    @classmethod
    def _of_rows(
        cls,
        frame: nw.DataFrame,
        names: list[str],
        labels: list[Any] | None,
        like: Any,
        source: str,
    ) -> SequenceFrame:
        import narwhals as nw

        ids = [str(row + 1) for row in range(len(frame))]
        rows = [np.array([row]) for row in range(len(frame))]
        if len(names) == 1 and frame[names[0]].dtype == nw.String:
            texts = entries_or_none(frame[names[0]])
            for row, text in enumerate(texts):
                if text is None:
                    raise InputError(
                        f"{source}: column {names[0]!r}, data row {row + 1} is empty: a sequence "
                        "of length 0"
                    )
            return cls(texts, labels, ids, rows, names, like, False)
        series = Series(Names(source, None, "", ""), ["series"], np.zeros(len(frame), np.int64))
        values = np.stack([read_numbers(frame[name], series) for name in names], 1)
        return cls(list(values[:, :, None]), labels, ids, rows, names, like, False)

    def answer(self, columns: dict[str, Array], id_col: str, per_step: bool = False) -> Any:
        """A frame of the same kind: columns for each sequence, or for each row of the frame.

        Without an id column, and for one label a step, it has a row for each row that came in, in
        the same order.
        """
        if per_step:
            order = np.argsort(np.concatenate(self.rows), kind="stable")
            ids = np.repeat(np.array(self.ids, object), [len(rows) for rows in self.rows])
            found = {id_col: ids[order]} if self.has_id else {}
            return to_frame(found | {k: v[order] for k, v in columns.items()}, self.like)
        found = {id_col: np.array(self.ids, object)} if self.has_id else {}
        return to_frame(found | columns, self.like)


def _with_text_names(df: Any) -> Any:
    """The frame with its columns' names as text; pandas numbers them where nobody names them."""
    if not hasattr(df, "rename") or all(isinstance(name, str) for name in df.columns):
        return df
    return df.rename(columns=str)


def _feature_names(
    frame: nw.DataFrame, taken: set[str], features: Sequence[str] | None, source: str
) -> list[str]:
    if features is None:
        names = [name for name in frame.columns if name not in taken]
        if not names:
            raise InputError(
                f"{source} has no column to learn from; its columns are {_list(frame.columns)}"
            )
        return names
    missing = [name for name in features if name not in frame.columns]
    if missing:
        raise InputError(
            f"{source} has no column {missing[0]!r}, which the model has learnt from; its "
            f"columns are {_list(frame.columns)}"
        )
    return list(features)


def _rows_of(frame: nw.DataFrame, series: Series, time_col: str) -> list[Array]:
    """The rows of each sequence in the order of time."""
    order = np.argsort(series.codes, kind="stable")
    if time_col in frame.columns:
        times, _ = read_times(frame[time_col], series)
        order = np.lexsort((times, series.codes))
        codes, times = series.codes[order], times[order]
        twice = np.flatnonzero((codes[1:] == codes[:-1]) & (times[1:] == times[:-1]))
        if len(twice):
            row = int(order[twice[0] + 1])
            raise InputError(f"{series.place(time_col, row)}: this time stamp is there twice")
    counts = np.bincount(series.codes, minlength=len(series.ids))
    return np.split(order, counts.cumsum()[:-1])


def _steps(frame: nw.DataFrame, names: list[str], series: Series, rows: list[Array]) -> list[Array]:
    values = np.stack([read_numbers(frame[name], series) for name in names], 1)
    return [values[mine] for mine in rows]


def _labels(
    labels: list[Any], rows: list[Array], series: Series, label_col: str, per_step: bool
) -> list[Any]:
    if per_step:
        return [[labels[row] for row in mine] for mine in rows]
    for name, mine in zip(series.ids, rows, strict=True):
        different = next((row for row in mine if labels[row] != labels[mine[0]]), None)
        if different is not None and not _both_missing(labels[different], labels[mine[0]]):
            raise InputError(
                f"{series.names.source}: column {label_col!r}: series {name!r} is labelled "
                f"{labels[mine[0]]!r} and {labels[different]!r}; for a label at each step say "
                "per_step=True (--per-step)"
            )
    return [labels[mine[0]] for mine in rows]


def _both_missing(a: Any, b: Any) -> bool:
    return a != a and b != b


def _list(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
