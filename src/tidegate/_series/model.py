"""Networks that have learnt, and the way from a history to their forecast; NumPy alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from .bands import stretch
from .channels import Channels, Layout
from .inputs import Inputs, make_inputs
from .scale import Scaled, Scaling, scale, unscale
from .windows import Origins, Windows

# Histories are scaled some at a time, so many numbers, so that memory does not grow with the panel.
_CHUNK = 2**20

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
    """

    scaling: Scaling
    layout: Layout
    networks: Sequence[Network]
    quantiles: tuple[float, ...]
    trust: float
    reach: float
    widths: np.ndarray
    correlation: np.ndarray

    def forecast(self, source: Source, origins: Origins) -> np.ndarray:
        """Quantiles from each origin on, (origins, horizon, quantiles)."""
        parts = [
            unscale(stretch(answer.quantiles, self.widths), answer.scaled)
            for answer in self.answers(source, origins)
        ]
        return np.concatenate(parts)

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
        return mean + (self.median(median, scaled.last) - median)[..., None]

    def median(self, correction: np.ndarray, last: np.ndarray) -> np.ndarray:
        """The median forecast, from what the networks say and where the last value lies."""
        return self.reach * self.trust * correction + (1 - self.reach) * last

    def facts(self) -> dict[str, Any]:
        """All but the networks, as JSON has it."""
        return {
            "scaling": asdict(self.scaling),
            "layout": self.layout.facts(),
            "quantiles": list(self.quantiles),
            "trust": self.trust,
            "reach": self.reach,
            "widths": self.widths.tolist(),
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
        )


def chunks(origins: Origins, context: int) -> Iterator[Origins]:
    """The origins, some at a time."""
    rows = max(_CHUNK // context, 1)
    for start in range(0, len(origins.series), rows):
        part = slice(start, start + rows)
        yield Origins(origins.series[part], origins.step[part])
