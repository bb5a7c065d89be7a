"""What an estimator shows of itself to `tidegate.inspect`: its network, and words for its input.

An estimator is inspectable if it has a method

    def _inspectable(self, input, *, known: bool = False) -> Inspectable

where `input` is what its user would give it (a frame, a text, a list of sequences; None for what
`fit` saw), and `known` asks for an input whose truth is known, so that `loss` can be there: a
forecaster then looks back from a horizon before the end of its series.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from .train import History


@dataclass(frozen=True)
class Ahead:
    """A forecast that came out of a row.

    Attributes:
        labels: the steps ahead, such as dates.
        median: the forecast, one number a step.
        low: lower edge of the band.
        high: upper edge of the band.
        band: the band in words: "80% band".
        truth: what came, where that is known.
    """

    labels: Sequence[str]
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray
    band: str
    truth: np.ndarray | None = None


@dataclass(frozen=True)
class Choices:
    """Probabilities that came out of a row: of its class, or of the token after a step.

    Attributes:
        names: what could come, the likeliest first; a few are enough.
        chances: the probability of each.
        step: after which step of the row, counted from 0; -1 is the last.
        truth: the name of what came, where that is known.
    """

    names: Sequence[str]
    chances: Sequence[float]
    step: int = -1
    truth: str | None = None


@dataclass(frozen=True)
class Numbers:
    """Numbers that came out of a row: one for all of it, or one a step.

    Attributes:
        values: one, or as many as the row has steps.
        truth: what came, where that is known.
    """

    values: np.ndarray
    truth: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Inspectable:
    """A network, an input of it, and words for both.

    Attributes:
        module: the network; it holds one `GRU` or several, and `module(*inputs)` runs it.
        inputs: its arguments, rows first; the first one is the sequence.
        title: the model in one line, such as "GRUForecaster, 12 months ahead".
        labels: for each row, the name of every step, as many as the GRU reads; "" for padding.
        names: of the rows, such as the ids of series; none for a single text.
        tokens: the labels are pieces of a text, to be read one after the other.
        values: (rows, time) the series at each step in its own units; NaN where not known.
        outcomes: for each row what came out: one `Ahead`, one `Numbers`, or `Choices`, one or more.
        foresees: the choices are of what comes after a step, not of the step itself.
        score: from the module's result and a step (-1 for the last) to one number a row, whose
            origin is traced back to the steps of the input.
        score_words: that number in words: "the median forecast one month ahead".
        score_step: the step that is asked about where nothing is said.
        loss: from the module's result to the loss, one number; None where no truth is known.
        history: of each training, by name.
        notes: what a reader should know, a sentence each.
    """

    module: nn.Module
    inputs: tuple[Any, ...]
    title: str
    labels: Sequence[Sequence[str]] | None = None
    names: Sequence[str] | None = None
    tokens: bool = False
    values: np.ndarray | None = None
    outcomes: Sequence[Ahead | Numbers | Sequence[Choices]] | None = None
    foresees: bool = False
    score: Callable[[Any, int], Tensor] | None = None
    score_words: str = "the output"
    score_step: int = -1
    loss: Callable[[Any], Tensor] | None = None
    history: dict[str, History] | None = None
    notes: Sequence[str] = ()


@runtime_checkable
class CanBeInspected(Protocol):
    """An estimator that shows its network."""

    def _inspectable(self, input: Any, *, known: bool = False) -> Inspectable: ...
