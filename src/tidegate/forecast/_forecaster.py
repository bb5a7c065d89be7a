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
from ..data import Frequency, Panel, to_frame
from ..errors import InputError
from ..train import History, Progress, Settings
from ._bands import column_names, measure_widths, quantiles_of, stretch
from ._file import read_model, write_model
from ._learn import Examples, answers, learn, make_examples
from ._network import Network, Shape
from ._scale import Scaling, scale_future, unscale
from ._suggest import Suggestion, suggest
from ._windows import Origins, Windows

if TYPE_CHECKING:
    from narwhals.typing import IntoFrameT

_NAME = "GRU"
# Level, scale and season are worked out from so many seasons, within these limits in steps.
_SEASONS, _SHORTEST, _LONGEST = 10, 64, 2048
# Numbers that the scaled windows may take together; beyond it, windows are drawn at random.
_MEMORY = 2**25


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
        history_: loss and validation of each network over its training.
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

        The last `horizon` steps of every series are held back: the weights that forecast them best
        are kept, and the bands get the width that would have held them.

        Args:
            df: the series.
            progress: called after each step of training, with the number of the network.
            checkpoint: where to keep the state of training; the number of the network is appended.
            resume: go on from `checkpoint` where it is there.

        Raises:
            InputError: the data cannot be used, or are too short.
            ValueError: an argument of the constructor is out of range.
        """
        self._check_arguments()
        panel = self._panel(df)
        windows = Windows(panel.values)
        self.panel_, self.notes_, self.frequency_ = panel, list(panel.notes), panel.frequency
        self._like = None if isinstance(df, Panel) else _head(df)
        self.suggestion_ = self._choose_sizes(panel)
        self.scaling_ = self._choose_scaling()
        examples, validation, held_out = self._split(windows)
        self.networks_, self.history_ = [], []
        for member in range(self.members):
            network, history = self._train(
                member,
                examples,
                validation,
                None if progress is None else lambda p, member=member: progress(member, p),
                None if checkpoint is None else f"{os.fspath(checkpoint)}.{member}",
                resume,
            )
            self.networks_.append(network)
            self.history_.append(history)
        self.widths_ = self._measure_widths(windows, held_out)
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
        if df is None and self.panel_ is None:
            raise InputError("a loaded model holds no data: give predict the series to forecast")
        panel = self.panel_ if df is None else self._panel(df)
        like = self._like if df is None else None if isinstance(df, Panel) else _head(df)
        self._check_calendar(panel)
        windows = Windows(panel.values)
        origins = windows.ends()
        return self._frame(panel, origins, self._forecast(windows, origins), like)

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
        model = type(self)(**self.get_params()).fit(past)
        all_windows = Windows(panel.values)
        origins = _join([all_windows.ends(back) for back in backs])
        origins = _select(origins, all_windows.known_before(origins, 1))
        truth = all_windows.future(origins, self.horizon)
        like = None if isinstance(df, Panel) else _head(df)
        return model._frame(panel, origins, model._forecast(all_windows, origins), like, truth)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted forecaster, without the data, to one safetensors file.

        Raises:
            InputError: the file cannot be written.
        """
        self._check_fitted()
        tensors = {
            f"{member}.{name}": tensor.detach().cpu().numpy()
            for member, network in enumerate(self.networks_)
            for name, tensor in network.state_dict().items()
        }
        facts = {
            "version": __version__,
            "arguments": self.get_params() | {"levels": list(self.levels)},
            "scaling": asdict(self.scaling_),
            "shape": asdict(self.networks_[0].shape),
            "suggestion": asdict(self.suggestion_),
            "widths": self.widths_.tolist(),
            "frequency": self.frequency_.name,
            "notes": self.notes_,
        }
        write_model(path, tensors, facts)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a forecaster from a file that `save` wrote.

        Raises:
            InputError: the file is not there, damaged, or no forecaster.
        """
        tensors, facts = read_model(path)
        try:
            model = cls(**facts["arguments"])
            model.levels = tuple(model.levels)
            model.suggestion_ = Suggestion(**facts["suggestion"])
            model.scaling_ = Scaling(**facts["scaling"])
            model.widths_ = np.array(facts["widths"])
            model.frequency_ = Frequency.parse(facts["frequency"])
            model.notes_ = facts["notes"]
            model.networks_ = _networks(Shape(**facts["shape"]), tensors, model.members)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{path} is damaged: {error}") from None
        model.history_, model.panel_, model._like = [], None, None
        return model

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
        if not hasattr(self, "networks_"):
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

    def _choose_scaling(self) -> Scaling:
        season_length, input_length = self.suggestion_.season_length, self.suggestion_.input_length
        context = int(np.clip(_SEASONS * season_length, _SHORTEST, _LONGEST))
        return Scaling(
            horizon=self.horizon,
            season_length=season_length,
            context=max(context, input_length),
            input_length=input_length,
            log=self.log,
            season=self.season,
            trend=self.trend,
        )

    def _split(self, windows: Windows) -> tuple[Examples, Examples | None, Origins | None]:
        """Examples to learn from, and those held back at the end of each series."""
        horizon, longest = self.horizon, int(windows.lengths.max())
        wish = self.suggestion_.season_length + 2
        least = wish if longest >= wish + 2 * horizon else 3
        if longest < least + horizon:
            raise InputError(
                f"the longest series has {longest} values, too few to learn a horizon of {horizon} "
                f"from: {least + horizon} are needed"
            )
        held_out = windows.ends(horizon)
        held_out = _select(held_out, windows.known_before(held_out, least))
        validate = longest >= least + 2 * horizon and len(held_out.series) > 0
        if not validate:
            self.notes_.append(
                "series are too short to hold a part back: training was not validated, and the "
                "bands are as the network gave them"
            )
        held_back = horizon if validate else 0
        most = max(_MEMORY // self.scaling_.context, 1024)
        origins = windows.draw(least, held_back, most, np.random.default_rng(self.seed))
        origins = _select(origins, windows.known_before(origins, 2))
        examples = make_examples(windows, origins, self.scaling_, held_back)
        some = torch.isfinite(examples.truth).any(1)
        if not some.any():
            raise InputError("the series have too few values that are not missing to learn from")
        examples = examples.rows(some)
        if not validate:
            return examples, None, None
        return examples, make_examples(windows, held_out, self.scaling_, 0), held_out

    def _train(
        self,
        member: int,
        examples: Examples,
        validation: Examples | None,
        progress: Callable[[Progress], None] | None,
        checkpoint: str | None,
        resume: bool,
    ) -> tuple[Network, History]:
        sizes = self.suggestion_
        shape = Shape(self.horizon, len(self.levels), sizes.hidden_size, sizes.num_layers)
        settings = Settings(
            steps=sizes.steps, learning_rate=self.learning_rate, seed=self.seed + member
        )
        with torch.random.fork_rng([]):
            torch.manual_seed(settings.seed)
            network = Network(shape)
        history = learn(
            network,
            examples,
            validation,
            quantiles_of(self.levels),
            self.batch_size,
            settings,
            progress,
            checkpoint,
            resume,
        )
        return network, history

    def _measure_widths(self, windows: Windows, held_out: Origins | None) -> np.ndarray:
        quantiles = quantiles_of(self.levels)
        if held_out is None:
            return np.ones(len(quantiles))
        parts = [
            (self._blend(answer), scale_future(windows.future(chunk, self.horizon), scaled))
            for chunk, scaled, answer in answers(self.networks_, windows, held_out, self.scaling_)
        ]
        answer, truth = (np.concatenate(column) for column in zip(*parts, strict=True))
        return measure_widths(answer, truth, quantiles)

    def _blend(self, answer: np.ndarray) -> np.ndarray:
        """Quantiles moved so that the median has only a share of the network's correction."""
        middle = len(self.levels)
        return answer - (1 - self.trust) * answer[..., middle : middle + 1]

    def _forecast(self, windows: Windows, origins: Origins) -> np.ndarray:
        """Quantiles, (origins, horizon, quantiles)."""
        return np.concatenate(
            [
                unscale(stretch(self._blend(answer), self.widths_), scaled)
                for _, scaled, answer in answers(self.networks_, windows, origins, self.scaling_)
            ]
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
        like: IntoFrameT | None,
        truth: np.ndarray | None = None,
    ) -> IntoFrameT:
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


def _head(df: IntoFrameT) -> IntoFrameT:
    """A few rows of a frame, to remember its kind by."""
    import narwhals as nw

    return nw.from_native(df).head(2).to_native()


def _columns(df: Any) -> list[str]:
    import narwhals as nw

    return nw.from_native(df).collect_schema().names()


def _select(origins: Origins, which: np.ndarray) -> Origins:
    return Origins(origins.series[which], origins.step[which])


def _join(many: list[Origins]) -> Origins:
    return Origins(*(np.concatenate(column) for column in zip(*many, strict=True)))


def _networks(shape: Shape, tensors: dict[str, np.ndarray], members: int) -> list[Network]:
    networks = []
    for member in range(members):
        prefix = f"{member}."
        mine = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        network = Network(shape).eval()
        network.load_state_dict({name: torch.from_numpy(t.copy()) for name, t in mine.items()})
        networks.append(network)
    return networks
