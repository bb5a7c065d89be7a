"""Covariates that follow from the time stamps, and the way from a panel to what networks read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..data import Covariate, Panel
from ..data.clock import (
    GAP,
    calendar_covariates,
    gap_covariate,
    has_gaps,
    holiday_covariates,
    is_fine,
    useful_cycles,
)
from ..errors import InputError
from .channels import Channels, Layout, learn_layout
from .model import Source
from .windows import Windows


@dataclass(frozen=True)
class Derived:
    """What is worked out from the time stamps, chosen when the model is fitted."""

    gap: bool
    cycles: tuple[str, ...]
    holidays: str | None

    @classmethod
    def choose(
        cls, panel: Panel, gaps: bool | None, calendar: bool | None, holidays: str | None
    ) -> Derived:
        """Gaps where the calendar has some, cycles where steps are of a day or less."""
        wanted = is_fine(panel) if calendar is None else calendar
        return cls(
            has_gaps(panel) if gaps is None else gaps,
            tuple(useful_cycles(panel)) if wanted else (),
            holidays,
        )

    def covariates(self, panel: Panel, horizon: int) -> dict[str, Covariate]:
        """All covariates of the panel, its own last."""
        found: dict[str, Covariate] = {}
        if self.gap:
            found[GAP] = gap_covariate(panel, horizon)
        if self.cycles:
            found |= calendar_covariates(panel, list(self.cycles), horizon)
        if self.holidays is not None:
            found |= holiday_covariates(panel, self.holidays, horizon)
        return found | panel.covariates

    def learn_layout(self, panel: Panel, horizon: int) -> Layout:
        """The columns that a network is to read."""
        return learn_layout(self.covariates(panel, horizon), GAP if self.gap else None)

    def source(self, panel: Panel, layout: Layout, horizon: int) -> Source:
        """The panel as the networks of a model read it.

        Raises:
            InputError: a column of the layout is not there, or too short.
        """
        covariates = self.covariates(panel, horizon) if layout.columns else {}
        for column in (*layout.numbers, *layout.categories):
            if column.name not in covariates:
                raise InputError(f"the model reads the covariate {column.name!r}: give it")
            covariate = covariates[column.name]
            for values, entries in zip(panel.values, covariate.values, strict=True):
                least = 1 if covariate.role == "static" else len(values)
                if len(entries) < least:
                    raise InputError(
                        f"covariate {column.name!r} has {len(entries)} entries for a series of "
                        f"{len(values)} values"
                    )
        return Source(Windows(panel.values), Channels(covariates, layout))

    @property
    def reads_time(self) -> bool:
        """Whether anything is read from the time stamps."""
        return self.gap or bool(self.cycles) or self.holidays is not None

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Derived:
        """What `dataclasses.asdict` gave, from JSON."""
        return cls(facts["gap"], tuple(facts["cycles"]), facts["holidays"])
