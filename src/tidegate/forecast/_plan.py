"""How to learn: what the networks see, their sizes, and the settings of their training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._series.bands import quantiles_of
from .._series.channels import Layout
from .._series.scale import Scaling
from .._series.shape import Shape
from ..data import Panel
from ..train import Settings

if TYPE_CHECKING:
    from ._forecaster import GRUForecaster

# Level, scale and season are worked out from so many seasons, or from fewer, down to the least
# that shows a season, where they would be more steps than this.
_SEASONS, _LEAST_SEASONS, _LONGEST = 10, 4, 2048
_SHORTEST, _AT_MOST = 64, 6000
# The head sees so many of the last residuals itself, and has a hidden layer of so many units.
_TAIL, _HEAD = 12, 128


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


def make_plan(forecaster: GRUForecaster, panel: Panel) -> Plan:
    """The plan of a forecaster that has chosen its sizes and columns for these series."""
    sizes = forecaster.suggestion_
    least = min(_LEAST_SEASONS * sizes.season_length, _AT_MOST)
    context = min(_SEASONS * sizes.season_length, max(_LONGEST, least))
    scaling = Scaling(
        horizon=forecaster.horizon,
        season_length=sizes.season_length,
        context=max(context, sizes.input_length, _SHORTEST),
        input_length=sizes.input_length,
        log=forecaster.log,
        season=forecaster.season,
        trend=forecaster.trend,
    )
    layout = forecaster.derived_.learn_layout(panel, forecaster.horizon)
    shape = Shape.of(
        layout,
        forecaster.horizon,
        len(forecaster.levels),
        sizes.hidden_size,
        sizes.num_layers,
        _HEAD,
        min(_TAIL, sizes.input_length),
        forecaster.cell,
    )
    return Plan(
        scaling=scaling,
        layout=layout,
        shape=shape,
        quantiles=tuple(quantiles_of(forecaster.levels).tolist()),
        trust=forecaster.trust,
        members=forecaster.members,
        batch_size=forecaster.batch_size,
        settings=Settings(
            sizes.steps, learning_rate=forecaster.learning_rate, seed=forecaster.seed
        ),
    )
