"""Networks that have learnt, and the way from a history to their forecast; NumPy alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from .bands import stretch
from .channels import Channels, Layout
from .inputs import Inputs, make_inputs
from .scale import Scaled, Scaling, scale, unscale
from .windows import Origins, Windows

# Histories are scaled some at a time, so many numbers, so that memory does not grow with the panel.
_CHUNK = 2**20
# How fast a forecast turns to the last value where a history is shorter than those learnt from.
_CAUTION = 3

Network = Callable[[Inputs], np.ndarray]


class Source(NamedTuple):
    """Series to learn from or to forecast, with their covariates."""

    windows: Windows
    channels: Channels


class Answer(NamedTuple):
    """For some origins: the scaled histories, and quantiles of the residual."""

    origins: Origins
    scaled: Scaled
    quantiles: np.ndarray


@dataclass
class Model:
    """All that a forecast needs, and that a file keeps.

    Args:
        scaling: what the networks are shown of the values.
        layout: what they are shown beside them.
        networks: their answers are averaged.
        quantiles: which quantiles they give, in rising order, the median in the middle.
        trust: the share of their correction of the median that is added.
        reach: how far the median goes from the last value towards all this: 1 all the way, 0 not
            at all.
        widths: by how much to stretch the distance of each quantile from the median.
        correlation: of the errors at each two steps ahead, as normal scores, (horizon, horizon).
        least: how many values histories had in training, at least. A shorter one is read with
            caution: the fewer its values, the nearer is the forecast to the last of them, and the
            bands to those of a random walk.
    """

    scaling: Scaling
    layout: Layout
    networks: Sequence[Network]
    quantiles: tuple[float, ...]
    trust: float
    reach: float
    widths: np.ndarray
    correlation: np.ndarray
    least: int = 1

    def forecast(self, source: Source, origins: Origins) -> np.ndarray:
        """Quantiles from each origin on, (origins, horizon, quantiles)."""
        parts = [
            unscale(self.bands(answer), answer.scaled) for answer in self.answers(source, origins)
        ]
        return np.concatenate(parts)

    def bands(self, answer: Answer) -> np.ndarray:
        """Quantiles of the residual, as wide as the data showed, (origins, horizon, quantiles)."""
        quantiles, believed = stretch(answer.quantiles, self.widths), self.believed(answer.scaled)
        short = np.flatnonzero(believed < 1)
        if len(short):
            share = believed[short, None, None]
            middle = len(self.quantiles) // 2
            median = quantiles[short, :, middle : middle + 1]
            walk = _random_walk(answer.scaled.change[short], self.scaling.horizon, self.quantiles)
            distance = share * (quantiles[short] - median) + (1 - share) * walk
            quantiles[short] = median + distance
        return quantiles

    def answers(self, source: Source, origins: Origins) -> Iterator[Answer]:
        """What the networks say of some origins at a time, before it is stretched."""
        for chunk in chunks(origins, self.scaling.context):
            history = source.windows.history(chunk, self.scaling.context)
            scaled = scale(history, self.scaling)
            inputs = make_inputs(scaled, source.channels, chunk, self.scaling)
            yield Answer(chunk, scaled, self._answer(inputs, scaled))

    def _answer(self, inputs: Inputs, scaled: Scaled) -> np.ndarray:
        answers = np.stack([network(inputs) for network in self.networks])
        mean = answers.mean(0, dtype=np.float64)
        middle = mean.shape[-1] // 2
        median = mean[..., middle]
        reach = self.reach_of(scaled)
        return mean + (self.median(median, scaled.last, reach) - median)[..., None]

    def median(
        self, correction: np.ndarray, last: np.ndarray, reach: np.ndarray | None = None
    ) -> np.ndarray:
        """The median forecast, from what the networks say and where the last value lies.

        `reach` is the model's own unless it is given.
        """
        share = self.reach if reach is None else reach
        return share * self.trust * correction + (1 - share) * last

    def reach_of(self, scaled: Scaled) -> np.ndarray:
        """The reach for each history, (rows, 1)."""
        return self.reach * self.believed(scaled)[:, None]

    def believed(self, scaled: Scaled) -> np.ndarray:
        """How far each history is one to go by, from 0 for a single value to 1, (rows,)."""
        share = (scaled.count - 1) / max(self.least - 1, 1)
        return np.where(scaled.count < self.least, share**_CAUTION, 1.0)

    def facts(self) -> dict[str, Any]:
        """All but the networks, as JSON has it."""
        return {
            "scaling": asdict(self.scaling),
            "layout": self.layout.facts(),
            "quantiles": list(self.quantiles),
            "trust": self.trust,
            "reach": self.reach,
            "widths": self.widths.tolist(),
            "least": self.least,
        }

    @classmethod
    def from_facts(
        cls, facts: dict[str, Any], networks: Sequence[Network], correlation: np.ndarray
    ) -> Model:
        """What `facts` gave, with its networks."""
        return cls(
            Scaling(**facts["scaling"]),
            Layout.from_facts(facts["layout"]),
            networks,
            tuple(facts["quantiles"]),
            facts["trust"],
            facts["reach"],
            np.array(facts["widths"]),
            correlation,
            facts.get("least", 1),  # files of before have none
        )


def _random_walk(change: np.ndarray, horizon: int, quantiles: Sequence[float]) -> np.ndarray:
    """Distances of its quantiles from its start; `change` is its mean absolute one, in a step."""
    normal = np.array([NormalDist().inv_cdf(quantile) for quantile in quantiles])
    steps = np.sqrt(np.pi / 2 * np.arange(1, horizon + 1))
    return change[:, None, None] * steps[:, None] * normal


def chunks(origins: Origins, context: int) -> Iterator[Origins]:
    """The origins, some at a time."""
    rows = max(_CHUNK // context, 1)
    for start in range(0, len(origins.series), rows):
        part = slice(start, start + rows)
        yield Origins(origins.series[part], origins.step[part])
