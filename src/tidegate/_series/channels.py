"""Covariates as numbers and codes that a network reads, a column each, in the same order always.

One mechanism serves them all: what the user gives, what the calendar tells, and the gaps between
time stamps. A column is a number (standardised over the panel) or a name (a code); it is known
until now, or ahead as well. What is static is known ahead and the same at every step.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from ..data.covariates import Covariate
from .windows import Origins

# Codes of names start here; 0 is for what is missing, or was never seen in training.
_FIRST_CODE = 1


@dataclass(frozen=True)
class Number:
    """A column of numbers, and what they are standardised by."""

    name: str
    ahead: bool
    mean: float = 0.0
    spread: float = 1.0


@dataclass(frozen=True)
class Category:
    """A column of names; the k-th has code k + 1."""

    name: str
    ahead: bool
    names: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """The columns that a network reads beside the values.

    Args:
        numbers: those that are numbers.
        categories: those that are names.
        gap: which of the numbers says how far apart the time stamps are; -1 if none does.
    """

    numbers: tuple[Number, ...] = ()
    categories: tuple[Category, ...] = ()
    gap: int = -1

    @property
    def columns(self) -> int:
        """How many there are."""
        return len(self.numbers) + len(self.categories)

    @property
    def numbers_ahead(self) -> list[int]:
        """Which numbers are known ahead."""
        return [i for i, number in enumerate(self.numbers) if number.ahead]

    @property
    def categories_ahead(self) -> list[int]:
        """Which categories are known ahead."""
        return [i for i, category in enumerate(self.categories) if category.ahead]

    def facts(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return asdict(self)

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Layout:
        """What `facts` gave."""
        return cls(
            tuple(Number(**number) for number in facts["numbers"]),
            tuple(Category(c["name"], c["ahead"], tuple(c["names"])) for c in facts["categories"]),
            facts["gap"],
        )


def learn_layout(covariates: dict[str, Covariate], gap: str | None = None) -> Layout:
    """The columns of these covariates, with the means and names that they show.

    Args:
        covariates: by name.
        gap: which of them says how far apart the time stamps are; it is not standardised.
    """
    numbers, categories = [], []
    for name, covariate in covariates.items():
        ahead = covariate.role != "past"
        entries = np.concatenate(covariate.values)
        if covariate.is_text:
            categories.append(Category(name, ahead, tuple(sorted(set(entries.tolist()) - {""}))))
        elif name == gap:
            numbers.append(Number(name, ahead))
        else:
            numbers.append(Number(name, ahead, *_moments(entries)))
    names = [number.name for number in numbers]
    return Layout(tuple(numbers), tuple(categories), names.index(gap) if gap else -1)


def _moments(entries: np.ndarray) -> tuple[float, float]:
    known = entries[np.isfinite(entries)]
    if not len(known):
        return 0.0, 1.0
    spread = float(known.std())
    return float(known.mean()), spread if spread > 0 else 1.0


class Slice(NamedTuple):
    """Columns at some steps: numbers, (rows, steps, columns), NaN where missing; and codes."""

    numbers: np.ndarray
    codes: np.ndarray


class Channels:
    """The covariates of a panel as the network reads them, cut at origins like `Windows`.

    Args:
        covariates: at least those of the layout.
        layout: what the network reads.
    """

    def __init__(self, covariates: dict[str, Covariate], layout: Layout):
        self.layout = layout
        self._numbers = [
            _Column(_flat(covariates[n.name], n), covariates[n.name]) for n in layout.numbers
        ]
        self._codes = [
            _Column(_coded(covariates[c.name], c), covariates[c.name]) for c in layout.categories
        ]

    def history(self, origins: Origins, length: int) -> Slice:
        """All columns at the `length` steps before each origin."""
        step = origins.step[:, None] + np.arange(-length, 0)
        return self._take(self._numbers, self._codes, origins.series, step)

    def ahead(self, origins: Origins, horizon: int) -> Slice:
        """The columns that are known ahead, at the `horizon` steps from each origin on."""
        step = origins.step[:, None] + np.arange(horizon)
        numbers = [self._numbers[i] for i in self.layout.numbers_ahead]
        codes = [self._codes[i] for i in self.layout.categories_ahead]
        return self._take(numbers, codes, origins.series, step)

    @staticmethod
    def _take(
        numbers: list[_Column], codes: list[_Column], series: np.ndarray, step: np.ndarray
    ) -> Slice:
        taken = np.empty((*step.shape, len(numbers)), np.float32)
        for i, column in enumerate(numbers):
            taken[..., i] = column.take(series, step, np.nan)
        coded = np.empty((*step.shape, len(codes)), np.int64)
        for i, column in enumerate(codes):
            coded[..., i] = column.take(series, step, 0)
        return Slice(taken, coded)


class _Column:
    """One column of all series, one after the other."""

    def __init__(self, entries: np.ndarray, covariate: Covariate):
        self.entries = entries
        self.static = covariate.role == "static"
        self.lengths = np.array([len(values) for values in covariate.values], np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).astype(np.int64)

    def take(self, series: np.ndarray, step: np.ndarray, missing: float) -> np.ndarray:
        if self.static:
            return np.broadcast_to(self.entries[series][:, None], step.shape)
        inside = (step >= 0) & (step < self.lengths[series][:, None])
        place = np.where(inside, self.starts[series][:, None] + step, 0)
        return np.where(inside, self.entries[place], missing)


def _flat(covariate: Covariate, number: Number) -> np.ndarray:
    entries = np.concatenate(covariate.values)
    return ((entries - number.mean) / number.spread).astype(np.float32)


def _coded(covariate: Covariate, category: Category) -> np.ndarray:
    codes = {name: _FIRST_CODE + k for k, name in enumerate(category.names)}
    names, inverse = np.unique(np.concatenate(covariate.values), return_inverse=True)
    known = np.array([codes.get(name, 0) for name in names.tolist()], np.int64)
    return known[inverse]
