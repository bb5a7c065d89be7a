"""All that a network reads for some forecasts, in one tuple of arrays; a row a forecast."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .channels import Channels
from .scale import Scaled, Scaling
from .windows import Origins


class Inputs(NamedTuple):
    """What the network takes, in this order, as arrays or as tensors."""

    history: np.ndarray  # (rows, input_length, CHANNELS)
    facts: np.ndarray  # (rows, FACTS)
    season: np.ndarray  # (rows, horizon)
    candidates: np.ndarray  # (rows, CANDIDATES, horizon)
    numbers: np.ndarray  # (rows, input_length, numbers); NaN where missing
    codes: np.ndarray  # (rows, input_length, categories); 0 where missing
    numbers_ahead: np.ndarray  # (rows, horizon, numbers known ahead)
    codes_ahead: np.ndarray  # (rows, horizon, categories known ahead)


def make_inputs(scaled: Scaled, channels: Channels, origins: Origins, scaling: Scaling) -> Inputs:
    """Put together what is scaled and the covariates at the same origins."""
    past = channels.history(origins, scaling.input_length)
    ahead = channels.ahead(origins, scaling.horizon)
    values = (scaled.history, scaled.facts, scaled.season, scaled.candidates)
    return Inputs(*values, *past, *ahead)
