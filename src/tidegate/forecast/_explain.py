"""Which past steps and covariates moved a forecast: integrated gradients (arXiv:1703.01365).

The mean of the median over the horizon, in units of the series, is followed from a history that
stands still at its level, with covariates at their means, to the history that was. What each number
contributes along the way adds up to the difference; names are put in one column after the other
before that, each for "missing". So all effects together are the forecast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .._series.channels import Layout
from .._series.inputs import Inputs, make_inputs
from .._series.model import Model, Source
from .._series.scale import Scaled, scale
from .._series.windows import Origins
from ..data import Panel
from ._examples import as_tensors
from ._network import Network

_STEPS = 64

Forecast = Callable[[list[Tensor]], Tensor]


class Effects(NamedTuple):
    """What moved the forecasts of some series, in their units; a row a series.

    Attributes:
        start: the forecast of a history that stands still, with nothing else known.
        values: of each past step.
        summary: of all that sums up the history: trend, season, other forecasts, length.
        numbers: of each covariate at each past step, (rows, steps, numbers).
        numbers_ahead: of each that is known ahead, at each step ahead.
        categories: of each covariate that is a name, over all steps, (rows, categories).
    """

    start: np.ndarray
    values: np.ndarray
    summary: np.ndarray
    numbers: np.ndarray
    numbers_ahead: np.ndarray
    categories: np.ndarray


def explain_model(
    model: Model, networks: Sequence[Network], source: Source, origins: Origins
) -> Effects:
    """Trace the mean forecast from each origin back to what the networks read."""
    scaled = scale(source.windows.history(origins, model.scaling.context), model.scaling)
    inputs = make_inputs(scaled, source.channels, origins, model.scaling)
    tensors = list(as_tensors(inputs))

    def forecast(tensors: list[Tensor]) -> Tensor:
        return _mean_forecast(model, networks, tensors, scaled)

    categories, bare = _of_categories(forecast, model.layout, tensors)
    starts = [torch.zeros_like(t) if t.is_floating_point() else t for t in bare]
    for i, tensor in enumerate(bare):
        if tensor.is_floating_point():
            starts[i] = torch.where(torch.isfinite(tensor), 0.0, tensor)
    # Whether a value is known is no number to walk along.
    starts[0][..., 1] = bare[0][..., 1]
    effects = _along(forecast, starts, bare)
    value, season = effects[0][..., 0], effects[0][..., 2].sum(1)
    return Effects(
        start=forecast(starts).detach().numpy(),
        values=value,
        summary=season + effects[1].sum(1) + effects[2].sum(1) + effects[3].sum((1, 2)),
        numbers=effects[4],
        numbers_ahead=effects[6],
        categories=categories,
    )


def effect_columns(
    model: Model, panel: Panel, effects: Effects, target: str
) -> dict[str, np.ndarray]:
    """Effects as columns of a long frame: "id", "time", "input" and "effect"."""
    ids, stamps, inputs, sizes = [], [], [], []
    for i, name in enumerate(panel.ids):
        for moments, what, size in _effects_of(model, panel, effects, target, i):
            ids.append(np.full(len(size), name, object))
            stamps.append(moments)
            inputs.append(np.full(len(size), what, object))
            sizes.append(size)
    columns = {"id": ids, "time": stamps, "input": inputs, "effect": sizes}
    return {name: np.concatenate(column) for name, column in columns.items()}


def _effects_of(
    model: Model, panel: Panel, effects: Effects, target: str, i: int
) -> Iterator[tuple[np.ndarray, str, np.ndarray]]:
    """Time stamps, the name of the input, and the effects, of one series."""
    layout, length = model.layout, model.scaling.input_length
    past = panel.times[i][-length:]
    ahead = panel.stamps(i, len(panel.times[i]), model.scaling.horizon)
    never = np.array(["NaT"], "datetime64[ns]")
    if past.dtype.kind != "M":
        past, ahead, never = past.astype(float), ahead.astype(float), np.array([np.nan])
    there = slice(length - len(past), None)
    yield never, "start", effects.start[i : i + 1]
    yield never, "summary", effects.summary[i : i + 1]
    yield past, target, effects.values[i, there]
    for k, number in enumerate(layout.numbers):
        yield past, number.name, effects.numbers[i, there, k]
    for k, which in enumerate(layout.numbers_ahead):
        yield ahead, layout.numbers[which].name, effects.numbers_ahead[i, :, k]
    for k, category in enumerate(layout.categories):
        yield never, category.name, effects.categories[i, k : k + 1]


def _of_categories(
    forecast: Forecast, layout: Layout, tensors: list[Tensor]
) -> tuple[np.ndarray, list[Tensor]]:
    """What each name adds to a forecast that knows none; and the inputs without them."""
    past, ahead = Inputs._fields.index("codes"), Inputs._fields.index("codes_ahead")
    bare = list(tensors)
    bare[past], bare[ahead] = torch.zeros_like(bare[past]), torch.zeros_like(bare[ahead])
    now, filled, effects = forecast(bare), list(bare), []
    place = {column: i for i, column in enumerate(layout.categories_ahead)}
    for column in range(tensors[past].shape[-1]):
        filled[past] = filled[past].clone()
        filled[past][..., column] = tensors[past][..., column]
        if column in place:
            filled[ahead] = filled[ahead].clone()
            filled[ahead][..., place[column]] = tensors[ahead][..., place[column]]
        after = forecast(filled)
        effects.append((after - now).detach().numpy())
        now = after
    rows = len(tensors[0])
    return (np.stack(effects, 1) if effects else np.zeros((rows, 0))), bare


def _along(forecast: Forecast, starts: list[Tensor], ends: list[Tensor]) -> list[np.ndarray]:
    """Integrated gradients of each input, by the midpoint rule."""
    totals = [np.zeros(tuple(end.shape)) for end in ends]
    which = [i for i, end in enumerate(ends) if end.is_floating_point() and end.numel()]
    for step in range(_STEPS):
        share = (step + 0.5) / _STEPS
        here = list(ends)
        for i in which:
            here[i] = torch.lerp(starts[i], ends[i], share).requires_grad_()
        total = forecast(here).sum()
        gradients = torch.autograd.grad(total, [here[i] for i in which], allow_unused=True)
        for i, gradient in zip(which, gradients, strict=True):
            if gradient is not None:
                walked = torch.nan_to_num(gradient * (ends[i] - starts[i]))
                totals[i] += walked.double().numpy() / _STEPS
    return totals


def _mean_forecast(
    model: Model, networks: Sequence[Network], inputs: list[Tensor], scaled: Scaled
) -> Tensor:
    """The median forecast, averaged over the horizon, in units of the series."""
    middle = len(model.quantiles) // 2
    medians = [network(*inputs)[..., middle] for network in networks]
    correction = torch.stack(medians).mean(0).double()
    base, last, size, unit, lowest = (
        torch.from_numpy(a)
        for a in (scaled.base, scaled.last, scaled.scale, scaled.unit, scaled.lowest)
    )
    reach = torch.from_numpy(model.reach_of(scaled))
    answer = reach * model.trust * correction + (1 - reach) * last
    z = base + size[:, None] * answer
    z = torch.where(torch.from_numpy(scaled.log)[:, None], torch.exp(z.clamp(-300, 300)), z)
    return torch.maximum(z * unit[:, None], lowest[:, None]).mean(1)
