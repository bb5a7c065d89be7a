"""A saved forecaster without torch: arrays in, quantiles out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from .._model_file import ModelFile
from .._series.derived import Derived
from .._series.inputs import Inputs
from .._series.model import Model
from .._series.scale import STEADY
from .._series.shape import FIRST_STEP, Shape
from .._stream_state import fingerprint
from .._tensors import under
from ..data import Covariate, Frequency, Panel
from ..data._like import read_like, require_same
from ..data.covariates import ROLES
from ..errors import InputError
from ..ops import gru, min_gru
from ._forecast_stream import ForecastStream

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import ArrayLike

Array = np.ndarray


class Forecaster:
    """What `GRUForecaster.save` wrote, forecasting with NumPy alone.

    Example:
        from tidegate.runtime import load

        model = load("model.safetensors")
        quantiles = model([[112.0, 118.0, 132.0, 129.0]])  # (series, horizon, quantiles)

    Attributes:
        horizon: steps that it forecasts.
        quantiles: which quantiles it gives, in rising order, the median in the middle.
        frequency: the calendar that it learnt.
        reads: the covariates that it must be given, each with its role.
        facts: all that its file says of it, but arrays.
        tensors: the arrays of its file.
    """

    kind = "forecaster"

    def __init__(self, model: Model, derived: Derived, file: ModelFile):
        self.model = model
        self.derived = derived
        self.facts, self.tensors = file.facts, file.tensors
        self.frequency = Frequency.parse(self.facts["frequency"])
        self.horizon = model.scaling.horizon
        self.quantiles = model.quantiles
        columns = {c.name for c in (*model.layout.numbers, *model.layout.categories)}
        self.reads = {
            name: role
            for role in ROLES
            for name in self.facts["arguments"].get(f"{role}_cols", ())
            if name in columns
        }

    def __call__(
        self,
        values: Sequence[ArrayLike] | Panel,
        times: Sequence[ArrayLike] | None = None,
        covariates: Mapping[str, tuple[str, Sequence[ArrayLike]]] | None = None,
    ) -> Float[Array, "series horizon quantiles"]:
        """Forecast the steps after the end of each series.

        Args:
            values: one array a series, in order, NaN where a value is missing; or a `Panel`.
            times: their time stamps, needed where the model reads gaps, the calendar or holidays.
            covariates: by name: the role ("static", "past" or "future"), and one array a series;
                what is known ahead has `horizon` more entries than the values.

        Raises:
            InputError: a series has no value or an infinite one, or what the model reads is not
                there; or the series have another calendar than those that were learnt from.
        """
        panel = values if isinstance(values, Panel) else self._panel(values, times, covariates)
        require_same(panel.frequency, self.frequency)
        self._require_ahead(panel)
        source = self.derived.source(panel, self.model.layout, self.horizon)
        return self.model.forecast(source, source.windows.ends())

    def stream(self, batch: int = 1) -> ForecastStream:
        """Give it a value at a time, for `batch` series at once; see `ForecastStream`.

        Raises:
            ValueError: `batch` is not positive.
        """
        return ForecastStream(self, batch)

    @property
    def fingerprint(self) -> str:
        """A digest of all that it is."""
        return fingerprint(self.facts, sorted(self.tensors.items()))

    def entries(self, name: str, role: str, given: ArrayLike) -> Array:
        """Entries of a covariate that the model reads: names or numbers, as it has learnt them.

        Raises:
            InputError: the role is another than in training, or numbers are none.
        """
        if role != self.reads[name]:
            raise InputError(
                f"covariate {name!r} must be {self.reads[name]!r}, as in training, not {role!r}"
            )
        if any(category.name == name for category in self.model.layout.categories):
            return np.asarray(given).astype(np.str_)
        try:
            return np.asarray(given, np.float64)
        except (TypeError, ValueError):
            raise InputError(f"covariate {name!r} must be numbers, as in training") from None

    def _panel(
        self,
        values: Sequence[ArrayLike],
        times: Sequence[ArrayLike] | None,
        covariates: Mapping[str, tuple[str, Sequence[ArrayLike]]] | None,
    ) -> Panel:
        series = [_series(i, y) for i, y in enumerate(values)]
        ids = [str(i) for i in range(len(series))]
        if times is None:
            if self.derived.reads_time:
                raise InputError("the model reads time stamps: give times, an array a series")
            stamps = [np.arange(len(y)) for y in series]
            panel = Panel(ids, stamps, series, self.frequency)
        else:
            read = partial(Panel.from_arrays, ids, times, series)
            freq = self.facts["arguments"].get("freq")
            panel = read_like(read, self.frequency, freq is not None)
        found = {
            name: Covariate(role, [self.entries(name, role, entries) for entries in arrays])
            for name, (role, arrays) in (covariates or {}).items()
            if name in self.reads
        }
        return replace(panel, covariates=found)

    def _require_ahead(self, panel: Panel) -> None:
        for name, covariate in panel.covariates.items():
            if covariate.role != "future":
                continue
            for y, entries in zip(panel.values, covariate.values, strict=True):
                if len(entries) < len(y) + self.horizon:
                    raise InputError(
                        f"covariate {name!r} is known ahead: {len(y) + self.horizon} entries are "
                        f"needed for a series of {len(y)} values, and {len(entries)} were given"
                    )

    @classmethod
    def from_file(cls, file: ModelFile) -> Self:
        """The forecaster that a file of kind "forecaster" holds.

        Raises:
            KeyError, TypeError, ValueError: its facts and arrays do not fit.
        """
        facts = file.facts
        shape = Shape.from_facts(facts["shape"])
        networks = []
        for member in range(facts["arguments"]["members"]):
            networks.append(_Network(shape, under(f"{member}.", file.tensors)))
        model = Model.from_facts(facts["model"], networks, file.tensors["correlation"])
        _check_sizes(model, shape)
        derived = Derived.from_facts(facts["derived"])
        return cls(model, derived, file)


class _Network:
    """The network of `tidegate.forecast`, in NumPy."""

    def __init__(self, shape: Shape, tensors: Mapping[str, Array]):
        self.shape = shape
        self.tensors = tensors
        self.run, kinds = _CELLS[shape.cell]
        self.layers = [
            [tensors[f"gru.{kind}_l{layer}"] for kind in kinds] for layer in range(shape.num_layers)
        ]

    def __call__(self, inputs: Inputs) -> Float[Array, "rows horizon quantiles"]:
        shape = self.shape
        columns = self._columns(inputs.numbers, inputs.codes, range(inputs.codes.shape[-1]))
        steps = np.concatenate([inputs.history, *columns], -1, dtype=np.float32)
        output = np.ascontiguousarray(steps.swapaxes(0, 1))
        keep = self._keep(inputs.numbers)
        for weights in self.layers:
            output, _ = self.run(output, None, *weights, keep=keep)
        state = output[-1]
        tail = inputs.history[:, inputs.history.shape[1] - shape.tail :, 0]
        steady = inputs.candidates[:, :STEADY].reshape(len(state), -1)
        seen = np.concatenate([state, inputs.facts, inputs.season, steady, tail], 1)
        answer = self._linear("answer", _silu(self._linear("read", seen)))
        size = shape.horizon * shape.answers
        answer, logits = answer[:, :size], answer[:, size:]
        answer = answer.reshape(-1, shape.horizon, shape.answers)
        if shape.ahead_size:
            answer = answer + self._effect(state, inputs)
        median, below, above = np.split(answer, [1, 1 + shape.bands], 2)
        weights = np.exp(logits - logits.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        median = median + np.einsum("rk,rkh->rh", weights, inputs.candidates)[..., None]
        below = median - _softplus(below - FIRST_STEP).cumsum(2)
        above = median + _softplus(above - FIRST_STEP).cumsum(2)
        return np.concatenate([below[..., ::-1], median, above], 2)

    def _linear(self, name: str, x: Array) -> Array:
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def _columns(self, numbers: Array, codes: Array, which: Sequence[int]) -> list[Array]:
        known = np.isfinite(numbers)
        embedded = [
            self.tensors[f"embeddings.{column}.weight"][codes[..., i]]
            for i, column in enumerate(which)
        ]
        return [np.where(known, numbers, 0.0), known, *embedded]

    def _keep(self, numbers: Array) -> Array | None:
        if self.shape.gap < 0:
            return None
        gap = np.nan_to_num(numbers[..., self.shape.gap]).swapaxes(0, 1)
        decay = np.maximum(gap[..., None] * self.tensors["decay"], 0.0)
        return np.ascontiguousarray(np.exp(-decay), np.float32)

    def _effect(self, state: Array, inputs: Inputs) -> Array:
        shape, numbers = self.shape, inputs.numbers_ahead
        columns = self._columns(numbers, inputs.codes_ahead, shape.categories_ahead)
        if shape.gap_ahead >= 0:
            gap = np.nan_to_num(numbers[..., shape.gap_ahead])
            count = np.arange(1, shape.horizon + 1)
            columns.append(np.log(np.exp(gap).cumsum(1) / count)[..., None])
        before = np.concatenate([state, inputs.facts], 1)[:, None]
        before = np.repeat(before, shape.horizon, 1)
        seen = np.concatenate([before, *columns], -1)
        return self._linear("effect_answer", _silu(self._linear("effect_read", seen)))


def _check_sizes(model: Model, shape: Shape) -> None:
    """Hold what the facts say of sizes against the arrays, or against what no model has.

    Raises:
        InputError: a size is none.
    """
    scaling, horizon = model.scaling, len(model.correlation)
    if scaling.horizon != horizon or shape.horizon != horizon:
        raise InputError(f"its arrays are of {horizon} steps ahead, and its facts of other steps")
    if len(model.quantiles) != len(model.widths) or len(model.quantiles) != 1 + 2 * shape.bands:
        raise InputError(f"it has {len(model.quantiles)} quantiles, and arrays of other numbers")
    sizes = {name: getattr(scaling, name) for name in ("context", "input_length", "season_length")}
    for name, size in (sizes | {"least": model.least}).items():
        if not isinstance(size, int) or not 1 <= size <= _LONGEST:
            raise InputError(f"{name} must be from 1 to {_LONGEST:,}, not {size!r}")


_LONGEST = 2**20  # steps of a window; models have some thousand
# What runs a layer, and its arrays in order.
_CELLS: dict[str, tuple[Callable, tuple[str, ...]]] = {
    "gru": (gru, ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
    "mingru": (min_gru, ("weight_ih", "bias_ih")),
}


def _series(number: int, values: ArrayLike) -> Array:
    try:
        y = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        y = np.empty(0)
    if y.ndim != 1 or not np.isfinite(y).any() or np.isinf(y).any():
        raise InputError(
            f"series {number} must be one row of numbers, none infinite and not all missing"
        )
    return y


def _silu(x: Array) -> Array:
    return x / (1 + np.exp(-np.clip(x, -80, 80)))


def _softplus(x: Array) -> Array:
    return np.logaddexp(x, 0)
