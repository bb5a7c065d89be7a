"""Sizes of a forecasting network, in torch and without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .channels import Layout

# Bands start about one scale apart: softplus of zero less this.
FIRST_STEP = 0.5


@dataclass(frozen=True)
class Shape:
    """Sizes of a network; with its tensors, all that is needed to run it.

    Args:
        horizon: steps that it answers.
        bands: on each side of the median.
        hidden_size: units of each layer.
        num_layers: recurrent layers.
        head_size: units of the head's hidden layer.
        tail: last residuals that the head sees itself.
        numbers: columns of covariates that are numbers.
        categories: names of each categorical column, counted with the one for missing.
        numbers_ahead: how many of the numbers are known ahead.
        categories_ahead: which of the categories are.
        gap: which of the numbers is the gap between time stamps; -1 for none.
        gap_ahead: which of those known ahead it is.
        cell: "gru" or "mingru".
    """

    horizon: int
    bands: int
    hidden_size: int
    num_layers: int
    head_size: int
    tail: int
    numbers: int = 0
    categories: tuple[int, ...] = ()
    numbers_ahead: int = 0
    categories_ahead: tuple[int, ...] = ()
    gap: int = -1
    gap_ahead: int = -1
    cell: str = "gru"

    @property
    def answers(self) -> int:
        """Numbers that the head gives for each step."""
        return 1 + 2 * self.bands

    @property
    def ahead_size(self) -> int:
        """Numbers that tell of one step ahead."""
        embedded = sum(embedding_size(self.categories[i]) for i in self.categories_ahead)
        return 2 * self.numbers_ahead + embedded + int(self.gap_ahead >= 0)

    @classmethod
    def of(
        cls,
        layout: Layout,
        horizon: int,
        bands: int,
        hidden_size: int,
        num_layers: int,
        head_size: int,
        tail: int,
        cell: str,
    ) -> Shape:
        """The shape of a network that reads covariates of this layout."""
        ahead = layout.numbers_ahead
        return cls(
            horizon,
            bands,
            hidden_size,
            num_layers,
            head_size,
            tail,
            len(layout.numbers),
            tuple(len(category.names) + 1 for category in layout.categories),
            len(ahead),
            tuple(layout.categories_ahead),
            layout.gap,
            ahead.index(layout.gap) if layout.gap >= 0 else -1,
            cell,
        )

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Shape:
        """What `dataclasses.asdict` gave, from JSON, where tuples are lists."""
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in facts.items()
        }
        return cls(**plain)


def embedding_size(count: int) -> int:
    """Numbers that stand for one of `count` names: more for more names, 16 at most."""
    return min(16, round(1.6 * count**0.56))
