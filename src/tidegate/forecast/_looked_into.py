"""A fitted forecaster as `tidegate.inspect` sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .._inspectable import Ahead, Inspectable
from .._series.bands import quantiles_of
from .._series.inputs import make_inputs
from .._series.model import Source
from .._series.scale import Scaled, scale, scale_future
from .._series.windows import Origins
from ..data import Panel
from ..errors import InputError
from ._examples import as_tensors
from ._network import pinball

if TYPE_CHECKING:
    from ._forecaster import GRUForecaster


def look_into(forecaster: GRUForecaster, panel: Panel, known: bool) -> Inspectable:
    """The first network, reading the end of each series.

    Args:
        forecaster: fitted.
        panel: the series.
        known: read up to a horizon before the end, so that what came is known.

    Raises:
        InputError: no series has the two values that a forecast is made of.
    """
    model, horizon = forecaster.model_, forecaster.horizon
    source = forecaster.derived_.source(panel, model.layout, horizon)
    windows = source.windows
    origins = windows.ends(horizon if known else 0)
    origins = origins.where(windows.known_before(origins, 2, model.scaling.context))
    if not len(origins.step):
        where = f" before its last {horizon} steps" if known else ""
        raise InputError(f"nothing can be read: no series has two known values{where}")
    history = windows.history(origins, model.scaling.context)
    scaled = scale(history, model.scaling)
    truth = windows.future(origins, horizon)
    inputs = make_inputs(scaled, source.channels, origins, model.scaling)
    network, count = forecaster.networks_[0], len(forecaster.networks_)
    layers = "layer" if network.shape.num_layers == 1 else "layers"
    words = panel.frequency.words.partition(",")[0]  # monthly, weekly
    notes = [] if count == 1 else [f"This is the first of {count} networks, whose mean it is."]
    return Inspectable(
        module=network,
        inputs=as_tensors(inputs),
        title=(
            f"A forecaster of {horizon} steps: {network.shape.num_layers} {layers} of "
            f"{network.shape.hidden_size} units reading {model.scaling.input_length} steps, {words}"
        ),
        labels=_labels(panel, origins, model.scaling.input_length),
        names=[panel.ids[i] for i in origins.series],
        values=history[:, -model.scaling.input_length :],
        outcomes=_outcomes(forecaster, panel, source, origins, truth),
        score=_first_step_ahead,
        score_words="the network's correction of the next step, in sizes of its usual error",
        loss=_loss(scaled, truth, quantiles_of(forecaster.levels)),
        history={_name(i, forecaster): h for i, h in enumerate(forecaster.history_)} or None,
        notes=notes,
    )


def stamps(times: np.ndarray) -> list[str]:
    """Time stamps as short as they can be without losing anything.

    Example:
        >>> stamps(np.array(["2024-01-01", "2024-02-01"], "datetime64[ns]"))
        ['2024-01', '2024-02']
    """
    if times.dtype.kind != "M":
        return [str(time) for time in times]
    for unit in ("Y", "M", "D", "m", "s"):
        short = times.astype(f"datetime64[{unit}]")
        if (short == times).all():
            return [str(time).replace("T", " ") for time in short]
    return [str(time).replace("T", " ") for time in times]


def _labels(panel: Panel, origins: Origins, length: int) -> list[list[str]]:
    """Of the steps that the network reads; "" before a series begins."""
    rows = []
    for series, step in zip(*origins, strict=True):
        shown = stamps(panel.times[series][max(step - length, 0) : step])
        rows.append([""] * (length - len(shown)) + shown)
    return rows


def _outcomes(
    forecaster: GRUForecaster,
    panel: Panel,
    source: Source,
    origins: Origins,
    truth: np.ndarray,
) -> list[Ahead]:
    quantiles = forecaster.model_.forecast(source, origins)
    levels = sorted(forecaster.levels)
    nearest = int(np.argmin([abs(level - 80) for level in levels]))
    middle = len(levels)
    ahead = []
    for row, (series, step) in enumerate(zip(*origins, strict=True)):
        times = panel.stamps(series, step, forecaster.horizon)
        ahead.append(
            Ahead(
                labels=stamps(times),
                median=quantiles[row, :, middle],
                low=quantiles[row, :, middle - 1 - nearest],
                high=quantiles[row, :, middle + 1 + nearest],
                band=f"{levels[nearest]:g}% band",
                truth=truth[row] if np.isfinite(truth[row]).any() else None,
            )
        )
    return ahead


def _first_step_ahead(answer: Tensor, step: int) -> Tensor:
    """The network reads to the end before it answers, whichever step is asked about."""
    return answer[:, 0, answer.size(2) // 2]


def _loss(scaled: Scaled, truth: np.ndarray, quantiles: np.ndarray):
    """The quantile loss of the network's answer; None where nothing that came is known."""
    wanted = torch.from_numpy(scale_future(truth, scaled).astype(np.float32))
    known = torch.isfinite(wanted)
    if not known.any():
        return None
    wanted = torch.where(known, wanted, 0.0)
    q = torch.as_tensor(quantiles, dtype=torch.float32)

    def loss(answer: Tensor) -> Tensor:
        each = pinball(answer, wanted, q) * known
        return each.sum() / known.sum()

    return loss


def _name(number: int, forecaster: GRUForecaster) -> str:
    trials = len(forecaster.history_) - forecaster.members
    if number < trials:
        return "trial, the last steps held back"
    return "network" if forecaster.members == 1 else f"network {number - trials + 1}"
