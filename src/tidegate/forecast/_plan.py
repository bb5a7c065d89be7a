"""How to learn: what the networks see, their sizes, and the settings of their training."""

from __future__ import annotations

from dataclasses import dataclass

from .._series.channels import Layout
from .._series.scale import Scaling
from .._series.shape import Shape
from ..train import Settings
from ._suggest import Suggestion

# Level, scale and season are worked out from so many seasons, or from fewer, down to the least
# that shows a season, where they would be more steps than this.
_SEASONS, _LEAST_SEASONS, _LONGEST = 10, 4, 2048
_SHORTEST, _AT_MOST = 64, 6000
# The head sees so many of the last residuals itself, and has a hidden layer of so many units.
TAIL, HEAD = 12, 128


@dataclass(frozen=True)
class Plan:
    """How to learn: what the networks see, their sizes, and the settings of their training."""

    scaling: Scaling
    layout: Layout
    shape: Shape
    quantiles: tuple[float, ...]
    trust: float | None
    members: int
    batch_size: int
    settings: Settings


def context_of(sizes: Suggestion) -> int:
    """Steps of history from which level, scale and season are worked out."""
    least = min(_LEAST_SEASONS * sizes.season_length, _AT_MOST)
    context = min(_SEASONS * sizes.season_length, max(_LONGEST, least))
    return max(context, sizes.input_length, _SHORTEST)
