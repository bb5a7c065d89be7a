"""Origins of forecasts in many series: the history before each, and the future after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Origins(NamedTuple):
    """Where forecasts start: at `step` of series number `series`, which is not yet known."""

    series: np.ndarray
    step: np.ndarray

    def where(self, which: np.ndarray | np.bool) -> Origins:
        """Those that `which` selects."""
        return Origins(self.series[which], self.step[which])


class Windows:
    """Series of different lengths, cut into histories and futures without copying them all.

    Attributes:
        values: all series one after the other.
        lengths: of each series.
    """

    def __init__(self, values: Sequence[np.ndarray]):
        self.lengths = np.array([len(v) for v in values], np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        self.values = np.concatenate([np.asarray(v, np.float64) for v in values])
        self._known = np.concatenate([[0], np.cumsum(np.isfinite(self.values))])

    def ends(self, back: int = 0) -> Origins:
        """One origin a series, `back` steps before its end; shorter series are left out."""
        series = np.flatnonzero(self.lengths > back)
        return Origins(series, self.lengths[series] - back)

    def draw(self, least: int, most: int, rng: np.random.Generator) -> Origins:
        """Origins inside the series, all of them or `most` drawn at random.

        Args:
            least: steps of history before the first origin of a series.
            most: how many origins at most.
            rng: draws them.
        """
        counts = np.maximum(self.lengths - least, 0)
        ends = np.cumsum(counts)
        total = int(ends[-1])
        drawn = rng.choice(total, most, replace=False, shuffle=False) if total > most else None
        number = np.arange(total) if drawn is None else np.sort(drawn)
        series = np.searchsorted(ends, number, "right")
        return Origins(series, number - (ends[series] - counts[series]) + least)

    def known_before(self, origins: Origins, least: int, within: int | None = None) -> np.ndarray:
        """Whether each origin has so many values before it, or `within` so many steps before it."""
        start = self._starts[origins.series]
        steps = origins.step if within is None else np.minimum(origins.step, within)
        origin = start + origins.step
        return self._known[origin] - self._known[origin - steps] >= least

    def history(self, origins: Origins, context: int) -> np.ndarray:
        """The `context` steps before each origin; NaN before a series begins.

        Where they are all missing, the last value before them stands at the first of them: a
        forecast needs one value at least.
        """
        step = origins.step[:, None] + np.arange(-context, 0)
        taken = self._take(origins.series, step, step >= 0)
        for row in np.flatnonzero(~np.isfinite(taken).any(1)):
            start = self._starts[origins.series[row]]
            before = self.values[start : start + origins.step[row]]
            known = before[np.isfinite(before)]
            if len(known):
                taken[row, 0] = known[-1]
        return taken

    def future(self, origins: Origins, horizon: int) -> np.ndarray:
        """The `horizon` steps from each origin on; NaN past the end of a series."""
        step = origins.step[:, None] + np.arange(horizon)
        return self._take(origins.series, step, step < self.lengths[origins.series][:, None])

    def _take(self, series: np.ndarray, step: np.ndarray, inside: np.ndarray) -> np.ndarray:
        place = np.where(inside, self._starts[series][:, None] + step, 0)
        return np.where(inside, self.values[place], np.nan)
