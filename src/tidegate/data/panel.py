"""Many series at once, as arrays, each on a regular grid of time stamps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ._assemble import assemble
from ._columns import (
    Names,
    Series,
    dates_in_range,
    read_columns,
    refuse_infinite,
    whole_numbers,
)
from ._sessions import Irregular
from ._zones import Clock, usual_clock
from .covariates import Covariate, read_covariates
from .frequency import Frequency

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame


_COVARIATES = "static_cols", "past_cols", "future_cols"


@dataclass(frozen=True, eq=False)
class Panel:
    """Series of any lengths that share a calendar.

    Attributes:
        ids: the name of each series, in the order in which they first appeared.
        times: the time stamps of each series, datetime64[ns] or int64, in order and without gaps.
        values: the values of each series, float64; NaN where one is missing.
        frequency: the calendar.
        notes: one sentence for each thing that was changed in what came (rows sorted, gaps filled).
        clock: whose clock `times` show if the time stamps came with a zone: "UTC" or "local time".
        covariates: what is known beside the values, by name.
        later: of each series, time stamps after its end, where they were given.

    Example:
        >>> panel = Panel.from_arrays(["a"], [[1, 2, 4]], [[5.0, 6.0, 8.0]])
        >>> panel.values[0]
        array([ 5.,  6., nan,  8.])
    """

    ids: list[str]
    times: list[np.ndarray]
    values: list[np.ndarray]
    frequency: Frequency
    notes: list[str] = field(default_factory=list)
    clock: Clock | None = None
    covariates: dict[str, Covariate] = field(default_factory=dict)
    later: list[np.ndarray] | None = None

    def __len__(self) -> int:
        """How many series there are."""
        return len(self.ids)

    def select(self, which: Sequence[int]) -> Panel:
        """The panel of some of its series, by number."""
        return replace(
            self,
            ids=[self.ids[i] for i in which],
            times=[self.times[i] for i in which],
            values=[self.values[i] for i in which],
            covariates={name: c.select(which) for name, c in self.covariates.items()},
            later=None if self.later is None else [self.later[i] for i in which],
        )

    def stamps(self, series: int, step: int, count: int) -> np.ndarray:
        """Time stamps of a series from `step` on, past its end as the calendar goes on.

        Args:
            series: its number.
            step: the first; 1 at least.
            count: how many.
        """
        times = self.times[series]
        later = times[:0] if self.later is None else self.later[series]
        # A calendar goes on from any step; irregular time stamps are those that came.
        known = times if len(later) or isinstance(self.frequency, Irregular) else times[:step]
        there = np.concatenate([known, later])[step : step + count]
        last = there[-1] if len(there) else known[-1]
        return np.concatenate([there, self.frequency.next(last, count - len(there))])

    def without_last(self, steps: int) -> Panel:
        """The panel as it was so many steps ago; series with no value by then are left out."""
        then = [i for i, values in enumerate(self.values) if np.isfinite(values[:-steps]).any()]
        past = self.select(then)
        return replace(
            past,
            times=[times[:-steps] for times in past.times],
            values=[values[:-steps] for values in past.values],
            covariates={name: c.without_last(steps) for name, c in past.covariates.items()},
            later=[times[-steps:] for times in past.times],
        )

    @classmethod
    def from_frame(
        cls,
        df: IntoFrame,
        id_col: str = "unique_id",
        time_col: str = "ds",
        target_col: str = "y",
        freq: str | int | None = None,
        source: str = "the data",
        static_cols: Sequence[str] = (),
        past_cols: Sequence[str] = (),
        future_cols: Sequence[str] = (),
    ) -> Panel:
        """Read a long frame: pandas, polars, pyarrow or whatever else narwhals knows.

        Args:
            df: one row for each series and time stamp.
            id_col: tells series apart; a frame that lacks the default column is one series.
            time_col: time stamps: dates, text that holds dates, or whole numbers.
            target_col: the values; missing ones are allowed.
            freq: the calendar as pandas names it, or "irregular" to take time stamps as they come;
                inferred from the time stamps when not given.
            source: what error messages call the frame, such as a file's name.
            static_cols: covariates that do not change in a series: numbers or names.
            past_cols: covariates that are known until now.
            future_cols: covariates that are known ahead too, such as prices and promotions.

        Raises:
            InputError: a column, row or calendar cannot be used; the sentence says which.
            TypeError: `df` is no frame.
        """
        import narwhals as nw

        try:
            frame = nw.from_native(df)
        except nw.exceptions.DuplicateError:
            raise InputError(f"{source} has two columns of one name") from None
        except TypeError:
            kind = type(df).__name__
            raise TypeError(
                f"{source} must be a frame of pandas, polars or pyarrow, got {kind}"
            ) from None
        frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
        named = {"id_col": id_col, "time_col": time_col, "target_col": target_col}
        for argument, name in named.items():
            if not isinstance(name, str) and (argument, name) != ("id_col", None):
                raise InputError(f"{argument} must be the name of a column, got {name!r}")
        single = id_col == "unique_id" and id_col not in frame.columns
        names = Names(source, None if single else id_col, time_col, target_col)
        usual = None if freq is None else usual_clock(Frequency.parse(freq))
        series, times, values, clock = read_columns(frame, names, usual)
        notes: list[str] = []
        if clock is not None:
            notes.append(f"{source}: column {time_col!r} has a time zone; it was read in {clock}")
        grids = assemble(series, times, values, freq, notes)
        roles = _roles(names, static_cols, past_cols, future_cols)
        lengths = [len(grid) for grid in grids.times]
        covariates = read_covariates(frame, roles, series, grids.order, grids.places, lengths)
        return cls(series.ids, *grids[:3], notes, clock, covariates)

    @classmethod
    def from_arrays(
        cls,
        ids: Sequence[str],
        times: Sequence[Any],
        values: Sequence[Any],
        freq: str | int | None = None,
    ) -> Panel:
        """Read one array of time stamps and one of values for each series.

        Raises:
            InputError: as `from_frame`, or a series has no value.
            ValueError: the arguments have different lengths, or two series have one id.
        """
        if not len(ids) == len(times) == len(values):
            raise ValueError(
                f"ids, times and values must be equally many, got {len(ids)}, {len(times)} and "
                f"{len(values)}"
            )
        lengths = [len(t) for t in times]
        if lengths != [len(v) for v in values]:
            raise ValueError("each series must have as many values as time stamps")
        if not sum(lengths):
            raise InputError("the arrays have no values")
        names = list(map(str, ids))
        for i, name in enumerate(names):
            if not lengths[i]:
                raise InputError(f"the arrays of series {name!r} have no values")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"ids must be different, and {twice!r} comes twice")
        codes = np.repeat(np.arange(len(ids)), lengths)
        series = Series(Names("the arrays", "ids", "times", "values"), names, codes)
        stamps = np.concatenate([np.asarray(t) for t in times])
        if stamps.dtype.kind in "OUS":
            stamps = stamps.astype("datetime64[ns]")
        check = dates_in_range if stamps.dtype.kind == "M" else whole_numbers
        stamps = check(stamps, "times", series)
        numbers = np.concatenate([np.asarray(v, np.float64) for v in values])
        refuse_infinite(numbers, "values", series)
        notes: list[str] = []
        return cls(series.ids, *assemble(series, stamps, numbers, freq, notes)[:3], notes)


def require_names(argument: str, names: object) -> None:
    """See that an argument is a list of names, and not one name.

    Raises:
        InputError: it is not.
    """
    listed = isinstance(names, Collection) and not isinstance(names, str)
    if not listed or not all(isinstance(name, str) for name in names):
        raise InputError(f"{argument} must be a list of names of columns, got {names!r}")


def _roles(
    names: Names, static: Sequence[str], past: Sequence[str], future: Sequence[str]
) -> dict[str, str]:
    """The role of each covariate, by name."""
    for argument, given in zip(_COVARIATES, (static, past, future), strict=True):
        require_names(argument, given)
    given = [(c, "static") for c in static] + [(c, "past") for c in past]
    given += [(c, "future") for c in future]
    roles = dict(given)
    columns = [c for c, _ in given] + [c for c in names[1:] if c is not None]
    twice = next((c for c in columns if columns.count(c) > 1), None)
    if twice is not None:
        raise ValueError(f"column {twice!r} has two roles, and each column has one")
    return roles
