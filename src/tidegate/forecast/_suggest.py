"""Sizes of the network from the data, with the reason for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .._series.windows import Windows
from ..data import Panel

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame

STEPS = 600, 1000  # batches to learn from, at least and at most


@dataclass(frozen=True)
class Suggestion:
    """The sizes that `suggest` chose, and a reason for each. Prints as a short list."""

    season_length: int
    input_length: int
    num_layers: int
    hidden_size: int
    steps: int
    reasons: dict[str, str]

    def __str__(self) -> str:
        """One line for each size."""
        return "\n".join(
            f"{name} = {getattr(self, name)}: {reason}" for name, reason in self.reasons.items()
        )


def suggest(
    df: IntoFrame | Panel,
    horizon: int,
    season_length: int | None = None,
    points: int | None = None,
) -> Suggestion:
    """Choose the sizes of a network for these series.

    Args:
        df: the series, as a `Panel` or a long frame with columns unique_id, ds and y.
        horizon: steps to forecast.
        season_length: steps in a season; by the calendar of the panel when not given.
        points: values of the whole of which these series are a sample.
    """
    panel = df if isinstance(df, Panel) else Panel.from_frame(df)
    windows = Windows(panel.values)
    longest, whole = int(windows.lengths.max()), points is None
    points = int(windows.lengths.sum()) if points is None else points
    usual = int(np.median(windows.lengths))
    reasons: dict[str, str] = {}

    season = season_length or panel.frequency.season_length
    if season_length:
        reasons["season_length"] = "as you said"
    elif season > 1:
        reasons["season_length"] = f"the data are {panel.frequency.words}"
    else:
        reasons["season_length"] = f"data {panel.frequency.words} have no usual season"

    wish = 3 * season if season > 1 else max(12, 2 * horizon)
    wish = int(np.clip(wish, 12, 192))
    input_length = max(2, min(wish, longest - 1))
    if input_length < wish:
        reasons["input_length"] = f"the longest series has {longest} values"
    elif season > 1 and wish == 3 * season:
        reasons["input_length"] = "three seasons show what repeats and what changes"
    else:
        reasons["input_length"] = "recent steps say most; longer input costs time in proportion"

    hidden = 32 if points < 10_000 else 64 if points < 2_000_000 else 128
    size = {32: "few: a larger network would learn them by heart", 64: "enough for this many units"}
    reasons["hidden_size"] = f"{points:,} values are " + size.get(hidden, "enough for a large one")
    layers = 1 if points < 2_000 else 2
    reasons["num_layers"] = (
        "with so few values a second layer finds nothing more"
        if layers == 1
        else "the second reads what the first remembers; a third rarely helps forecasts"
    )
    steps = int(np.clip(points // 100, *STEPS))
    series = f"{len(panel):,} series" if whole else f"a sample of {len(panel):,} series"
    reasons["steps"] = f"batches of windows, for {series} of usually {usual:,} values"
    return Suggestion(season, input_length, layers, hidden, steps, reasons)
