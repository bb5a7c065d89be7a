"""A user's tables as panels: what each column is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..data import Frequency, Panel
from ..data._ahead import with_future
from ..data._columns import Names
from ..data._like import read_like
from ..errors import InputError

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame


@dataclass(frozen=True)
class Columns:
    """What the columns of a user's tables are called, and what each is for."""

    id: str
    time: str
    target: str
    static: tuple[str, ...]
    past: tuple[str, ...]
    future: tuple[str, ...]

    def for_scanning(self, source: str) -> tuple[str, ...]:
        """Those that are read of what may be larger than memory, the ids first.

        Raises:
            InputError: some are known ahead.
        """
        if self.future:
            raise InputError(
                f"{source}: columns that are known ahead ({', '.join(self.future)}) are read from "
                "a file or a frame only"
            )
        return (self.id, self.time, self.target, *self.static, *self.past)

    def panel(
        self, df: IntoFrame | Panel, freq: str | int | None, source: str = "the data"
    ) -> Panel:
        """The table as a panel; a panel as it is."""
        if isinstance(df, Panel):
            return df
        return Panel.from_frame(
            df,
            self.id,
            self.time,
            self.target,
            freq,
            source,
            static_cols=self.static,
            past_cols=self.past,
            future_cols=self.future,
        )

    def panel_like(
        self,
        df: IntoFrame | Panel,
        frequency: Frequency,
        freq: str | int | None,
        source: str = "the data",
    ) -> Panel:
        """The table as a panel, on the calendar of a model.

        Args:
            df: the table.
            frequency: of the model.
            freq: the calendar that it was told to take, if it was.
            source: what error messages call the table.

        Raises:
            InputError: it has another calendar, or cannot be read.
        """
        return read_like(lambda name: self.panel(df, name, source), frequency, freq is not None)

    def with_future(self, panel: Panel, future: IntoFrame | None, horizon: int) -> Panel:
        """The panel with what is known ahead of it.

        Raises:
            InputError: something is known ahead in training, and `future` is not given.
        """
        if future is None:
            if self.future and not _reaches(panel, self.future, horizon):
                raise InputError(
                    f"the model reads {', '.join(map(repr, self.future))}, known ahead: give "
                    f"predict a frame with these columns for the next {horizon} steps (future)"
                )
            return panel
        import narwhals as nw

        there = nw.from_native(future).collect_schema().names()
        single = self.id == "unique_id" and self.id not in there and len(panel) == 1
        names = Names("the future", None if single else self.id, self.time, self.target)
        return with_future(panel, future, names, horizon)


def _reaches(panel: Panel, names: Sequence[str], horizon: int) -> bool:
    lengths = [len(values) + horizon for values in panel.values]
    return all(
        len(ahead) >= length
        for name in names
        for ahead, length in zip(panel.covariates[name].values, lengths, strict=True)
    )
