"""`ForecastStream`: values as they come, and after each a forecast of what follows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._stream_state import pack_state, unpack_state
from ..data import Covariate, Frequency, Panel
from ..data._columns import time_text
from ..data._sessions import Irregular
from ..data.frequency import Steps
from ..errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import ArrayLike

    from ._forecaster import Forecaster

Array = np.ndarray

Given = Mapping[str, tuple[str, "ArrayLike"]]


class ForecastStream:
    """A forecaster that is given a value at a time, for one series or many.

    A forecaster has no state that runs on: it looks at a window, and works out the level, the
    scale and the season of it anew. So what a stream keeps is the window of each row, and a step
    gives the very forecast of all values so far.

    Example:
        from tidegate.runtime import load

        stream = load("model.safetensors").stream(2)
        for values in ([112.0, 5.0], [118.0, 4.0]):
            quantiles = stream.step(values)  # (2, horizon, quantiles)

    Args:
        model: what forecasts.
        batch: rows, each a series of its own.

    Attributes:
        steps: how many steps were taken.

    Raises:
        ValueError: `batch` is not positive.
    """

    def __init__(self, model: Forecaster, batch: int = 1):
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        self.model, self.batch, self.steps = model, batch, 0
        # One more than is read: it says how long before the first the one before it was.
        self._rows = [_Row(model.model.scaling.context + 1) for _ in range(batch)]

    def step(
        self,
        values: ArrayLike,
        times: ArrayLike | None = None,
        covariates: Given | None = None,
    ) -> Float[Array, "batch horizon quantiles"]:
        """Take the next value of each row; forecast what follows.

        Args:
            values: (batch,), NaN where one is missing.
            times: their time stamps, (batch,), each later than the one before it; steps of the
                calendar that were left out are missing values. Without them, a value is one step
                after the last. Needed where the model reads gaps, the calendar or holidays.
            covariates: by name: the role ("static", "past" or "future"), and an entry a row; of
                what is known ahead, (batch, 1 + horizon): the one of this step, and those after it.

        Returns:
            The quantiles of each row; NaN where none of its values is known yet.

        Raises:
            InputError: a value is infinite, a time stamp does not come after the last or is not on
                the calendar, or what the model reads is not there; no row has changed.
        """
        self._take(values, times, covariates)
        return self._forecast()

    def run(
        self, values: ArrayLike, times: ArrayLike | None = None
    ) -> Float[Array, "steps batch horizon quantiles"]:
        """Take many steps, (steps, batch); forecast after each.

        Raises:
            InputError: as `step`; the steps before it were taken.
        """
        rows = list(np.asarray(values))
        stamps = [None] * len(rows) if times is None else list(np.asarray(times))
        if len(stamps) != len(rows):
            raise InputError(
                f"times must be of {len(rows)} steps, as values are, not {len(stamps)}"
            )
        found = [self.step(y, t) for y, t in zip(rows, stamps, strict=True)]
        shape = (self.batch, self.model.horizon, len(self.model.quantiles))
        return np.stack(found) if found else np.empty((0, *shape))

    def reset(self, rows: ArrayLike | None = None) -> None:
        """Forget the values of some rows, or of all.

        Args:
            rows: their numbers, or a mask.
        """
        for row in np.atleast_1d(np.arange(self.batch)[... if rows is None else np.asarray(rows)]):
            self._rows[row] = _Row(self._rows[row].most)

    def to_bytes(self, notes: Mapping[str, str] | None = None) -> bytes:
        """The windows, to go on from on any machine with `from_bytes`.

        Args:
            notes: words of one's own to keep beside them.
        """
        arrays = {
            f"{number}.{name}": array
            for number, row in enumerate(self._rows)
            for name, array in row.arrays().items()
        }
        return pack_state(self.model.fingerprint, arrays, self.steps, notes)

    def from_bytes(self, data: bytes) -> dict[str, str]:
        """Go on from what `to_bytes` gave; nothing changes if it does not fit.

        Returns:
            The notes that were kept beside the windows.

        Raises:
            InputError: the bytes are damaged, or of another model or number of rows.
        """
        arrays, steps, notes = unpack_state(data, self.model.fingerprint)
        by_row: dict[int, dict[str, Array]] = {}
        try:
            for key, array in arrays.items():
                number, _, name = key.partition(".")
                by_row.setdefault(int(number), {})[name] = array
            most = self._rows[0].most
            rows = [_Row.of(by_row[number], most) for number in sorted(by_row)]
        except (KeyError, TypeError, ValueError):
            raise InputError("the state of a stream cannot be read: it is damaged") from None
        if len(rows) != self.batch:
            raise InputError(f"the state is of {len(rows)} rows, and the stream has {self.batch}")
        self._rows, self.steps = rows, steps
        return notes

    def _take(self, values: ArrayLike, times: ArrayLike | None, covariates: Given | None) -> None:
        try:
            numbers = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            raise InputError("values must be numbers, one a row") from None
        if numbers.shape != (self.batch,):
            raise InputError(f"values must have shape ({self.batch},), not {numbers.shape}")
        if np.isinf(numbers).any():
            raise InputError(f"values has {numbers[np.isinf(numbers)][0]} among them")
        stamps = self._stamps(times)
        given = self._given(covariates or {})
        gaps = [
            row.grid(self.model.frequency, None if stamps is None else stamps[i])
            for i, row in enumerate(self._rows)
        ]
        for i, (row, grid) in enumerate(zip(self._rows, gaps, strict=True)):
            row.add(float(numbers[i]), grid, {name: each[i] for name, each in given.items()})
        self.steps += 1

    def _stamps(self, times: ArrayLike | None) -> Array | None:
        if times is None:
            if self.model.derived.reads_time:
                raise InputError("the model reads time stamps: give times, one a row")
            return None
        stamps = np.asarray(times)
        if stamps.shape != (self.batch,):
            raise InputError(f"times must have shape ({self.batch},), not {stamps.shape}")
        dated = stamps.dtype.kind in "MOUS"
        if dated == counts_steps(self.model.frequency):
            kinds = ("whole numbers", "dates") if dated else ("dates", "whole numbers")
            raise InputError(f"times must be {kinds[0]}, as in training, not {kinds[1]}")
        stamps = stamps.astype("datetime64[ns]" if dated else np.int64)
        if dated and np.isnat(stamps).any():
            raise InputError("times has one that is missing")
        return stamps

    def _given(self, covariates: Given) -> dict[str, list[_Given]]:
        """The entries of each row, by name."""
        given = {}
        for name in self.model.reads:
            if name not in covariates:
                raise InputError(f"the model reads the covariate {name!r}: give it")
            role, entries = covariates[name]
            array = self.model.entries(name, role, entries)
            wanted = (self.batch,) if role != "future" else (self.batch, 1 + self.model.horizon)
            if array.shape != wanted:
                raise InputError(f"covariate {name!r} must have shape {wanted}, not {array.shape}")
            given[name] = [_Given(role, np.atleast_1d(row)) for row in array]
        return given

    def _forecast(self) -> Array:
        known = [i for i, row in enumerate(self._rows) if np.isfinite(row.values.entries).any()]
        shape = (self.batch, self.model.horizon, len(self.model.quantiles))
        found = np.full(shape, np.nan)
        if known:
            found[known] = self.model(self._panel([self._rows[i] for i in known]))
        return found

    def _panel(self, rows: Sequence[_Row]) -> Panel:
        names = rows[0].given
        return Panel(
            [str(i) for i in range(len(rows))],
            [row.stamps() for row in rows],
            [row.values.entries for row in rows],
            self.model.frequency,
            covariates={
                name: Covariate(names[name].role, [row.covariate(name) for row in rows])
                for name in names
            },
        )


class _Given(NamedTuple):
    """What was given of a covariate with the last step of one row."""

    role: str
    entries: Array


class _Tail:
    """The last entries of many, at most so many; to add one costs the same however many came."""

    def __init__(self, most: int, entries: Array):
        self.most = most
        self._all = np.empty(2 * most, entries.dtype)
        self._end = 0
        self.add(entries)

    def add(self, entries: Array) -> None:
        entries = entries[-self.most :]
        if self._all.dtype.kind == "U":  # names may be longer than those before
            self._all = self._all.astype(np.result_type(self._all, entries), copy=False)
        if self._end + len(entries) > len(self._all):
            kept = self.entries.copy()
            self._all[: len(kept)] = kept
            self._end = len(kept)
        self._all[self._end : self._end + len(entries)] = entries
        self._end += len(entries)

    @property
    def entries(self) -> Array:
        """Those that are kept, in order."""
        return self._all[max(0, self._end - self.most) : self._end]


class _Row:
    """What is kept of a series."""

    def __init__(self, most: int):
        self.most = most
        self.values = _Tail(most, np.empty(0))
        self.times: _Tail | None = None
        self.covariates: dict[str, _Tail] = {}  # those that change
        self.given: dict[str, _Given] = {}

    def grid(self, frequency: Frequency, stamp: Any) -> Array | None:
        """The steps from the last time stamp to this one, itself the last; None without.

        Raises:
            InputError: it does not come after the last one, or is not on the calendar.
        """
        began = len(self.values.entries) > 0
        if stamp is None:
            if self.times is not None:
                raise InputError("the steps before had time stamps, and this one has none")
            return None
        if began and self.times is None:
            raise InputError("the steps before had no time stamps, and this one has one")
        one = np.array([stamp])
        off = InputError(
            f"{time_text(stamp)} is not on the calendar {frequency.name} ({frequency.words})"
        )
        if not frequency.holds(one).all():
            raise off
        if self.times is None:
            return one
        last = self.times.entries[-1]
        if stamp <= last:
            raise InputError(
                f"{time_text(stamp)} is not after {time_text(last)}, the last time stamp"
            )
        if isinstance(frequency, Irregular):
            return one
        count = int(frequency.count(last, stamp))
        steps = frequency.shift(np.asarray(last), np.arange(max(1, count - self.most), count + 1))
        if not len(steps) or steps[-1] != stamp:
            raise off
        return steps

    def add(self, value: float, grid: Array | None, given: dict[str, _Given]) -> None:
        """Add a value, after missing ones where the grid has more steps."""
        count = 1 if grid is None else len(grid)
        last = self.values.entries[np.isfinite(self.values.entries)][-1:]
        self.values.add(np.append(np.full(count - 1, np.nan), value))
        entries = self.values.entries
        if len(last) and not np.isfinite(entries).any():  # before all that is kept, there is one
            entries[0] = last[0]
        if grid is not None:
            self.times = self.times or _Tail(self.most, grid[:0])
            self.times.add(grid)
        for name, (role, entries) in given.items():
            if role == "static":
                continue
            missing = np.full(count - 1, "" if entries.dtype.kind == "U" else np.nan)
            tail = self.covariates.setdefault(name, _Tail(self.most, entries[:0]))
            tail.add(np.append(missing, entries[:1]))
        self.given = given

    def stamps(self) -> Array:
        """The time stamps, or numbers where there are none."""
        return np.arange(len(self.values.entries)) if self.times is None else self.times.entries

    def covariate(self, name: str) -> Array:
        """All entries of one that are known."""
        role, entries = self.given[name]
        if role == "static":
            return entries
        return np.concatenate([self.covariates[name].entries, entries[1:]])

    def arrays(self) -> dict[str, Array]:
        """All that is kept; what came with the last step comes with the next one too."""
        found = {"values": self.values.entries}
        if self.times is not None:
            kind = "dates" if self.times.entries.dtype.kind == "M" else "numbers"
            found[f"times.{kind}"] = self.times.entries.astype(np.int64)
        for name, tail in self.covariates.items():
            entries = tail.entries
            if entries.dtype.kind == "U":
                found[f"names.{name}"] = np.frombuffer(
                    json.dumps(entries.tolist()).encode(), np.uint8
                )
            else:
                found[f"entries.{name}"] = entries
        return found

    @classmethod
    def of(cls, arrays: Mapping[str, Array], most: int) -> _Row:
        """The row that gave these.

        Raises:
            KeyError, TypeError, ValueError: no row did.
        """
        row = cls(most)
        row.values.add(_as(arrays["values"], np.float64))
        count = len(row.values.entries)
        for key, array in arrays.items():
            kind, _, name = key.partition(".")
            if kind == "times":
                stamps = _as(array, np.int64)
                row.times = _Tail(
                    most, stamps.view("datetime64[ns]") if name == "dates" else stamps
                )
                found = len(row.times.entries)
            elif kind == "names":
                row.covariates[name] = _Tail(most, np.array(json.loads(array.tobytes()), np.str_))
                found = len(row.covariates[name].entries)
            elif kind == "entries":
                row.covariates[name] = _Tail(most, _as(array, np.float64))
                found = len(row.covariates[name].entries)
            else:
                found = count
            if found != count:
                raise ValueError(f"{key} has {found} entries, not {count}")
        return row


def counts_steps(frequency: Frequency) -> bool:
    """Whether its time stamps are whole numbers, not dates."""
    return isinstance(frequency, Steps) or getattr(frequency, "dated", True) is False


def _as(array: Array, dtype: type) -> Array:
    if array.dtype != dtype or array.ndim != 1:
        raise TypeError(f"{array.dtype} of shape {array.shape}")
    return array
