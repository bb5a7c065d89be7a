"""`GRUForecaster`: one network for all series of a panel."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from .. import __version__
from .._estimator import Estimator
from .._inspectable import Inspectable
from .._model_file import read_model, write_model
from ..data import Frequency, Panel, to_frame
from ..errors import InputError
from ..train import Progress, Settings
from ._bands import column_names, quantiles_of
from ._fit import Plan, Watch, fit_model
from ._looked_into import look_into
from ._model import Model
from ._network import Network, Shape
from ._scale import Scaling
from ._suggest import Suggestion, suggest
from ._windows import Origins, Windows

if TYPE_CHECKING:
    from narwhals.typing import IntoFrameT

_NAME = "GRU"
# Level, scale and season are worked out from so many seasons, or from fewer, down to the least
# that shows a season, where they would be more steps than this.
_SEASONS, _LEAST_SEASONS, _LONGEST = 10, 4, 2048
_SHORTEST, _AT_MOST = 64, 6000


class GRUForecaster(Estimator):
    """Forecasts many series with one GRU that has learnt from all of them.

    Each history is brought to one scale by itself (logarithm, season, level, noise), forecast by
    exponential smoothing, and read by the network, which answers with quantiles of what the
    smoothing will miss. Half of its correction is added: the mean of two forecasts that err in
    different ways. Any number of series, of any lengths, with missing values.

    Frames are long: a row for each series and time stamp. They come back as they came: pandas,
    polars or pyarrow.

    Args:
        horizon: steps to forecast.
        season_length: steps in a season; by the calendar of the data when not given.
        levels: bands to forecast, in percent of the values that they shall hold.
        input_length: steps that the network reads; chosen from the data (`suggest`) when not given.
        hidden_size: units of each layer; likewise.
        num_layers: GRU layers; likewise.
        steps: batches to learn from; likewise.
        batch_size: windows in a batch.
        learning_rate: the highest.
        members: networks to train and average.
        trust: share of the network's correction that is added, 0 to 1.
        log: take logarithms of histories that are positive throughout.
        season: remove seasonal indices before, and put them back after.
        trend: let the smoothed level drift along half of the linear trend.
        seed: of all random numbers; same seed, machine and threads, same forecasts.
        freq: the calendar as pandas names it; inferred when not given.
        id_col: the column that tells series apart; without it, the frame is one series.
        time_col: the column of time stamps.
        target_col: the column of values.

    Attributes:
        suggestion_: the sizes that were used, with reasons.
        notes_: what was noticed in the data and done about it, a sentence each.
        history_: loss and validation over each training: the trial, if there was one, and then
            each network.
        frequency_: the calendar of the data.

    Example:
        >>> import pandas as pd
        >>> months = pd.date_range("2015-01-01", periods=60, freq="MS")
        >>> df = pd.DataFrame({"ds": months, "y": [m.month + 10.0 for m in months]})
        >>> GRUForecaster(horizon=3, steps=20).fit(df).predict()["GRU"].round().to_list()
        [11.0, 12.0, 13.0]
    """

    def __init__(
        self,
        horizon: int,
        *,
        season_length: int | None = None,
        levels: Sequence[float] = (50, 80, 95),
        input_length: int | None = None,
        hidden_size: int | None = None,
        num_layers: int | None = None,
        steps: int | None = None,
        batch_size: int = 128,
        learning_rate: float = 3e-3,
        members: int = 1,
        trust: float = 0.5,
        log: bool = True,
        season: bool = True,
        trend: bool = True,
        seed: int = 0,
        freq: str | int | None = None,
        id_col: str = "unique_id",
        time_col: str = "ds",
        target_col: str = "y",
    ):
        self.horizon = horizon
        self.season_length = season_length
        self.levels = levels
        self.input_length = input_length
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.members = members
        self.trust = trust
        self.log = log
        self.season = season
        self.trend = trend
        self.seed = seed
        self.freq = freq
        self.id_col = id_col
        self.time_col = time_col
        self.target_col = target_col

    def fit(
        self,
        df: IntoFrameT | Panel,
        *,
        progress: Callable[[int, Progress], None] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> Self:
        """Learn from all series of a long frame, or of a `Panel`.

        In a trial, the last `horizon` steps of every series are held back: how well they are
        forecast says when to stop, and how wide the bands must be. Then the networks learn from
        everything for as long.

        Args:
            df: the series.
            progress: called after each step, with the number of the network (the trial is 0).
            checkpoint: where to keep the state of the fit while it lasts, in a file a network.
            resume: go on from `checkpoint` where it is there.

        Raises:
            InputError: the data cannot be used, or are too short.
            ValueError: an argument of the constructor is out of range.
        """
        self._check_arguments()
        panel = self._panel(df)
        self.panel_: Panel | None = panel
        self.notes_, self.frequency_ = list(panel.notes), panel.frequency
        self._like = None if isinstance(df, Panel) else _head(df)
        self.suggestion_ = self._choose_sizes(panel)
        watch = Watch(progress, checkpoint, resume)
        self.model_, self.history_ = fit_model(Windows(panel.values), self._plan(), watch)
        if len(self.history_) == self.members:
            self.notes_.append(
                "the series are too short to hold a part back: training was not validated, and "
                "the bands are as the network gave them"
            )
        return self

    def predict(self, df: IntoFrameT | Panel | None = None) -> IntoFrameT:
        """Forecast the `horizon` steps after the end of each series.

        Args:
            df: other series, also such as were not in the training; those of `fit` when not given.

        Returns:
            A long frame: ids, time stamps, the median "GRU", and for each level the limits of its
            band ("GRU-lo-80", "GRU-hi-80"). Of the kind of `df`; pandas for a `Panel`.

        Raises:
            InputError: the data cannot be used.
        """
        self._check_fitted()
        panel = self.panel_ if df is None else self._panel(df)
        if panel is None:
            raise InputError("a loaded model holds no data: give predict the series to forecast")
        like = self._like if df is None else None if isinstance(df, Panel) else _head(df)
        self._check_calendar(panel)
        windows = Windows(panel.values)
        origins = windows.ends()
        return self._frame(panel, origins, self.model_.forecast(windows, origins), like)

    def backtest(
        self, df: IntoFrameT | Panel, windows: int = 3, step: int | None = None
    ) -> IntoFrameT:
        """Forecast the last steps of the series as if they were not known, from several origins.

        A forecaster with these arguments learns from what lies before the first origin, and
        forecasts from each; this forecaster itself stays as it is.

        Args:
            df: the series; those too short for an origin are left out there.
            windows: how many origins.
            step: steps from one origin to the next; the horizon when not given.

        Returns:
            A long frame as `predict` gives it, with the last time stamp before each origin
            ("cutoff") and the true values.

        Raises:
            InputError: the data cannot be used, or are too short.
        """
        step = self.horizon if step is None else step
        if windows < 1 or step < 1:
            raise ValueError(f"windows and step must be at least 1, got {windows} and {step}")
        panel = self._panel(df)
        backs = [self.horizon + step * k for k in reversed(range(windows))]
        past = panel.without_last(backs[0])
        if not len(past):
            longest = max(len(values) for values in panel.values)
            raise InputError(
                f"the longest series has {longest} values, and the backtest needs more than "
                f"{backs[0]}"
            )
        fitted = type(self)(**self.get_params()).fit(past)
        whole = Windows(panel.values)
        ends = [whole.ends(back) for back in backs]
        origins = Origins(*(np.concatenate(column) for column in zip(*ends, strict=True)))
        origins = origins.where(whole.known_before(origins, 1))
        forecast, truth = (
            fitted.model_.forecast(whole, origins),
            whole.future(origins, self.horizon),
        )
        like = None if isinstance(df, Panel) else _head(df)
        return self._frame(panel, origins, forecast, like, truth)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted forecaster, without the data, to one safetensors file.

        Raises:
            InputError: the file cannot be written.
        """
        self._check_fitted()
        tensors = {
            f"{member}.{name}": tensor.detach().cpu().numpy()
            for member, network in enumerate(self.model_.networks)
            for name, tensor in network.state_dict().items()
        }
        facts = {
            "version": __version__,
            "arguments": self.get_params() | {"levels": list(self.levels)},
            "scaling": asdict(self.model_.scaling),
            "shape": asdict(self.model_.networks[0].shape),
            "widths": self.model_.widths.tolist(),
            "suggestion": asdict(self.suggestion_),
            "frequency": self.frequency_.name,
            "notes": self.notes_,
        }
        write_model(path, "forecaster", tensors, facts)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a forecaster from a file that `save` wrote.

        Raises:
            InputError: the file is not there, damaged, or no forecaster.
        """
        file = read_model(path, "forecaster")
        facts = file.facts
        try:
            self = cls(**facts["arguments"])
            self.levels = tuple(self.levels)
            self.suggestion_ = Suggestion(**facts["suggestion"])
            self.frequency_ = Frequency.parse(facts["frequency"])
            self.notes_ = facts["notes"]
            networks = _networks(Shape(**facts["shape"]), file.tensors, self.members)
            widths = np.array(facts["widths"])
            self.model_ = Model(Scaling(**facts["scaling"]), networks, self.trust, widths)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{path} is damaged: {error}") from None
        self.history_, self.panel_, self._like = [], None, None
        return self

    def _inspectable(self, input: Any = None, *, known: bool = False) -> Inspectable:
        """What `tidegate.inspect` looks into; `input` as `predict` takes it."""
        self._check_fitted()
        panel = self.panel_ if input is None else self._panel(input)
        if panel is None:
            raise InputError("a loaded model holds no data: give the series to look at")
        self._check_calendar(panel)
        return look_into(self, panel, known)

    def _check_arguments(self) -> None:
        for name in ("horizon", "batch_size", "members"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("season_length", "hidden_size", "num_layers", "steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.trust <= 1:
            raise ValueError(f"trust must be from 0 to 1, got {self.trust}")
        quantiles_of(self.levels)

    def _check_fitted(self) -> None:
        if not hasattr(self, "model_"):
            raise ValueError(f"{self!r} is not fitted yet: call fit first")

    def _panel(self, df: IntoFrameT | Panel) -> Panel:
        if isinstance(df, Panel):
            return df
        return Panel.from_frame(df, self.id_col, self.time_col, self.target_col, self.freq)

    def _choose_sizes(self, panel: Panel) -> Suggestion:
        chosen = asdict(suggest(panel, self.horizon, self.season_length))
        for name in ("input_length", "num_layers", "hidden_size", "steps"):
            if getattr(self, name) is not None:
                chosen[name] = getattr(self, name)
                chosen["reasons"][name] = "as you said"
        return Suggestion(**chosen)

    def _plan(self) -> Plan:
        sizes = self.suggestion_
        least = min(_LEAST_SEASONS * sizes.season_length, _AT_MOST)
        context = min(_SEASONS * sizes.season_length, max(_LONGEST, least))
        scaling = Scaling(
            horizon=self.horizon,
            season_length=sizes.season_length,
            context=max(context, sizes.input_length, _SHORTEST),
            input_length=sizes.input_length,
            log=self.log,
            season=self.season,
            trend=self.trend,
        )
        return Plan(
            scaling=scaling,
            shape=Shape(self.horizon, len(self.levels), sizes.hidden_size, sizes.num_layers),
            quantiles=tuple(quantiles_of(self.levels).tolist()),
            trust=self.trust,
            members=self.members,
            batch_size=self.batch_size,
            settings=Settings(sizes.steps, learning_rate=self.learning_rate, seed=self.seed),
        )

    def _check_calendar(self, panel: Panel) -> None:
        if panel.frequency.season_length != self.frequency_.season_length:
            raise InputError(
                f"the model forecasts series that are {self.frequency_.words}, but these are "
                f"{panel.frequency.words}"
            )

    def _frame(
        self,
        panel: Panel,
        origins: Origins,
        forecast: np.ndarray,
        like: Any,
        truth: np.ndarray | None = None,
    ) -> Any:
        last = [panel.times[i][t - 1] for i, t in zip(*origins, strict=True)]
        ahead = np.concatenate([panel.frequency.next(time, self.horizon) for time in last])
        ids = np.array(panel.ids, object)[origins.series].repeat(self.horizon)
        columns: dict[str, Any] = {self.id_col: ids, self.time_col: ahead}
        if truth is not None:
            columns |= {"cutoff": np.repeat(last, self.horizon), self.target_col: truth.ravel()}
        names = column_names(_NAME, self.levels)
        middle = len(self.levels)
        for i in (middle, *(i for i in range(len(names)) if i != middle)):
            columns[names[i]] = forecast[..., i].ravel()
        if like is None:
            import pandas as pd

            return pd.DataFrame(columns)
        if self.id_col not in _columns(like):
            del columns[self.id_col]
        return to_frame(columns, like, panel.clock)


def _head(df: Any) -> Any:
    """A few rows of a frame, to remember its kind by."""
    import narwhals as nw

    return nw.from_native(df).head(2).to_native()


def _columns(df: Any) -> list[str]:
    import narwhals as nw

    return nw.from_native(df).collect_schema().names()


def _networks(shape: Shape, tensors: dict[str, np.ndarray], members: int) -> list[Network]:
    networks = []
    for member in range(members):
        prefix = f"{member}."
        mine = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        network = Network(shape).eval()
        network.load_state_dict({name: torch.from_numpy(t.copy()) for name, t in mine.items()})
        networks.append(network)
    return networks
