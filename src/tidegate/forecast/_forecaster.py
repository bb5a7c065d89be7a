"""`GRUForecaster`: one network for all series of a panel."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self, TypeGuard

import numpy as np

from .._estimator import NOT_NEGATIVE, Estimator, Range, check_seed, require_count
from .._inspectable import Inspectable
from .._plots import ForecastChart, forecast_figure
from .._series.bands import column_names, quantiles_of
from .._series.derived import Derived
from .._series.model import Model, Source
from .._series.paths import draw_paths
from .._series.scale import Scaling, unscale
from .._series.shape import Shape
from .._series.windows import Origins
from ..data import Panel, read_table
from ..data._parquet import is_many
from ..data.panel import require_names
from ..errors import InputError
from ..train import History, Progress, Settings
from ._adapt import adapt_networks
from ._columns import Columns
from ._explain import effect_columns, explain_model
from ._fit import AsFunction, Watch, fit_model, learn, require_values
from ._frames import NAME, as_frame, head, quantile_columns
from ._looked_into import look_into
from ._lots import FolderLots, Lots
from ._network import CELLS, Network
from ._plan import HEAD, TAIL, Plan, context_of
from ._reading import Reading
from ._sample import gather_lessons, read_sample
from ._saved import read_forecaster, write_forecaster
from ._suggest import Suggestion, suggest
from ._team import assemble_team
from ._trust import WORDS_OF_NO_TRUST, words_of_reach

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from narwhals.typing import IntoFrame, IntoFrameT
    from ray.data import Dataset as RayDataset

# Arguments that count something; and those of them that are chosen where they are not given.
_COUNTS = "horizon", "batch_size", "members"
_CHOSEN = "season_length", "input_length", "hidden_size", "num_layers", "steps"


@dataclass(eq=False, repr=False)
class GRUForecaster(Estimator):
    """Forecasts many series with one GRU that has learnt from all of them.

    Each history is brought to one scale by itself (logarithm, season, level, noise), forecast by
    exponential smoothing, and read by the network, which answers with quantiles of what the
    smoothing will miss. A share of its correction is added, as much as held-back values ask for: a
    mean of forecasts that err in different ways. Where nothing beats the last value, as with
    prices, the last value is the forecast, and `notes_` says so. Any number of series, of any
    lengths, with missing values, irregular time stamps and covariates.

    Frames are long: a row for each series and time stamp. They come back as they came: pandas,
    polars or pyarrow.

    Args:
        horizon: steps to forecast.
        season_length: steps in a season; by the calendar of the data when not given.
        levels: bands to forecast, in percent of the values that they shall hold.
        input_length: steps that the network reads; chosen from the data (`suggest`) when not given.
        hidden_size: units of each layer; likewise.
        num_layers: recurrent layers; likewise.
        steps: batches to learn from; likewise.
        cell: "gru"; or "mingru", whose gates do not see the state (`tidegate.nn.MinGRU`).
        batch_size: windows in a batch.
        learning_rate: the highest.
        members: networks to train and average.
        trust: share of the network's correction that is added, 0 to 1; when not given, six tenths,
            or what forecasts the held-back end of the series clearly better, and nothing where the
            last value is the better forecast. Of a few series without covariates too little is held
            back to tell a gain from chance: nothing is added there either, unless it is sure.
        log: take logarithms of histories that are positive throughout, and forecast those that
            were never negative as never negative.
        season: remove seasonal indices before, and put them back after.
        trend: let the smoothed level drift along half of the linear trend.
        seed: of all random numbers; same seed, machine and threads, same forecasts.
        freq: the calendar as pandas names it, or "irregular" to take time stamps as they come;
            inferred when not given.
        id_col: the column that tells series apart; without it, the frame is one series.
        time_col: the column of time stamps.
        target_col: the column of values.
        static_cols: covariates that do not change in a series. Columns of numbers are standardised,
            columns of text embedded; missing entries are allowed in all covariates.
        past_cols: covariates that are known until now.
        future_cols: covariates that are known ahead too: `predict` is given them (`future`).
        calendar: whether the network reads where each step stands in the year, the week and the
            day; when not given, where steps are of a day or less.
        holidays: a country whose holidays the network reads, as the package holidays names it.
        gaps: whether the network reads the time between steps, and forgets over it; when not given,
            where the calendar pauses (closed markets, nights) or is irregular.

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

    horizon: int
    _: KW_ONLY
    season_length: int | None = None
    levels: Sequence[float] = (50, 80, 95)
    input_length: int | None = None
    hidden_size: int | None = None
    num_layers: int | None = None
    steps: int | None = None
    cell: str = "gru"
    batch_size: int = 128
    learning_rate: float = 6e-3
    members: int = 1
    trust: float | None = None
    log: bool = True
    season: bool = True
    trend: bool = True
    seed: int = 0
    freq: str | int | None = None
    id_col: str = "unique_id"
    time_col: str = "ds"
    target_col: str = "y"
    static_cols: Sequence[str] = ()
    past_cols: Sequence[str] = ()
    future_cols: Sequence[str] = ()
    calendar: bool | None = None
    holidays: str | None = None
    gaps: bool | None = None

    def fit(
        self,
        df: IntoFrameT | Panel | str | os.PathLike[str] | RayDataset,
        *,
        progress: Callable[[int, Progress], None] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        skip: bool = False,
    ) -> Self:
        """Learn from all series of a long frame, of a `Panel`, or of files.

        In a trial, the last `horizon` steps of every series are held back: how well they are
        forecast says when to stop. Then the networks learn from everything for as long. What the
        trial missed there, and smoothing at all times, says how wide the bands must be.

        A folder of Parquet files, or an address that pyarrow knows (s3://bucket/folder), may be
        larger than memory: a sample of its series is learnt from. Each file must be sorted by
        series, and no series may be in two files. Processes that `torchrun` started share the work;
        so do the workers of a Ray cluster, where the series are a Ray dataset.

        Args:
            df: the series; or a CSV or Parquet file, or a folder of Parquet files.
            progress: called after each step, with the number of the network (the trial is 0).
            checkpoint: where to keep the state of the fit, in a file a network; `save` removes it,
                once the model is in its file.
            resume: go on from `checkpoint` where it is there.
            skip: leave out series of a folder that cannot be used, instead of stopping.

        Raises:
            InputError: the data cannot be used, or are too short; or an argument
                of the constructor is out of range.
        """
        self._check_arguments()
        if _is_of_ray(df):
            from .ray import fit

            told = {"progress": progress, "checkpoint": checkpoint, "resume": resume}
            return fit(self, df, skip=skip, **told)
        watch = Watch(progress, checkpoint, resume)
        if isinstance(df, str | os.PathLike):
            if is_many(df):
                return self._fit_lots(self._lots_of(os.fspath(df)), watch, skip)
            df = read_table(df, text=[self.id_col])  # type: ignore[assignment]
        panel = self.read_panel(df)
        plan = self._choose(panel)
        source = self.derived_.source(panel, plan.layout, self.horizon)
        self.panel_: Panel | None = panel
        self._like = None if isinstance(df, Panel) else head(df)
        return self._learnt(plan, watch, fit_model(source, plan, watch))

    def _lots_of(self, folder: str) -> Callable[[Reading], Lots]:
        return lambda reading: FolderLots.open(folder, reading, self.seed)

    def _fit_lots(
        self, lots_of: Callable[[Reading], Lots], watch: Watch, skip: bool = False
    ) -> Self:
        team = assemble_team()
        sample = read_sample(lots_of, Reading(self._columns(), self.freq, skip), self.seed, team)
        plan = self._choose(sample.panel, sample.points)
        lessons = gather_lessons(sample, self.derived_, plan, team)
        self.panel_, self._like = None, None
        return self._learnt(plan, watch, learn(lessons, plan, watch, team))

    def _choose(self, panel: Panel, points: int | None = None) -> Plan:
        """The calendar, the sizes and the columns, for a panel or what it is a sample of."""
        require_values(max(map(len, panel.values)), self.horizon)
        self.notes_, self.frequency_ = list(panel.notes), panel.frequency
        self.suggestion_ = self._choose_sizes(panel, points)
        self.derived_ = Derived.choose(panel, self.gaps, self.calendar, self.holidays)
        return self._plan(panel)

    def _learnt(
        self, plan: Plan, watch: Watch, found: tuple[Model, list[Network], list[History]]
    ) -> Self:
        self.model_, self.networks_, self.history_ = found
        self.shape_ = plan.shape
        self._checkpoints = [watch.files(number) for number in range(len(self.history_))]
        if self.trust is None and not self.model_.trust:
            self.notes_.append(WORDS_OF_NO_TRUST)
        if self.model_.reach < 1:
            self.notes_.append(words_of_reach(self.model_.reach))
        if len(self.history_) == self.members:
            self.notes_.append(
                "the series are too short to hold a part back: training was not validated, and "
                "the bands are as wide as the errors of smoothing"
            )
        return self

    def suggest(self, df: IntoFrame | Panel) -> Suggestion:
        """The sizes that a fit on these series would take, with the reasons.

        Arguments that were given stand.
        """
        return self._choose_sizes(self.read_panel(df))

    def read_panel(self, df: IntoFrame | Panel) -> Panel:
        """The table as the series that a fit would learn from."""
        return self._columns().panel(df, self.freq)

    def predict(
        self, df: IntoFrameT | Panel | None = None, *, future: IntoFrame | None = None
    ) -> IntoFrameT:
        """Forecast the `horizon` steps after the end of each series.

        Args:
            df: other series, also such as were not in the training; those of `fit` when not given.
            future: a row for each series and step ahead, with the columns that are known ahead. For
                irregular time stamps it says when to forecast.

        Returns:
            A long frame: ids, time stamps, the median "GRU", and for each level the limits of its
            band ("GRU-lo-80", "GRU-hi-80"). Of the kind of `df`; pandas for a `Panel`.

        Raises:
            InputError: the data cannot be used.
        """
        panel, like = self._to_forecast(df, future)
        source = self._source(panel)
        origins = source.windows.ends()
        return self._frame(panel, origins, self.model_.forecast(source, origins), like)

    def sample(
        self,
        df: IntoFrameT | Panel | None = None,
        *,
        future: IntoFrame | None = None,
        paths: int = 100,
        seed: int = 0,
    ) -> IntoFrameT:
        """Draw whole futures, whose steps go together as the errors on held-back values did.

        A sum over the horizon has its band in the quantiles of the sums of the paths.

        Args:
            df: as for `predict`.
            future: as for `predict`.
            paths: how many for each series.
            seed: of the draw.

        Returns:
            A long frame: ids, time stamps, "path" counted from 0, and the value "GRU".

        Raises:
            InputError: the data cannot be used.
        """
        require_count("paths", paths)
        check_seed(seed)
        panel, like = self._to_forecast(df, future)
        source, model = self._source(panel), self.model_
        rng = np.random.default_rng(seed)
        drawn = []
        for answer in model.answers(source, source.windows.ends()):
            some = draw_paths(model.bands(answer), model.quantiles, model.correlation, paths, rng)
            drawn.append(unscale(some.swapaxes(1, 2), answer.scaled).swapaxes(1, 2))
        stamps = [panel.stamps(i, len(panel.times[i]), self.horizon) for i in range(len(panel))]
        columns = {
            self.id_col: np.array(panel.ids, object).repeat(paths * self.horizon),
            self.time_col: np.concatenate([np.tile(s, paths) for s in stamps]),
            "path": np.tile(np.arange(paths).repeat(self.horizon), len(panel)),
            NAME: np.concatenate(drawn).ravel(),
        }
        return as_frame(columns, like, panel.clock, self.id_col)

    def adapt(self, df: IntoFrameT | Panel, *, steps: int = 100, proximity: float = 0.1) -> Self:
        """A copy of the forecaster, brought closer to these series by a few steps of training.

        What was learnt before is held on to: the rate is small, and distance from the old weights
        costs. In a trial the latest values are held back: they say how many steps to take, and
        none are taken where none surely help; `notes_` says which. Level, season and scale are each
        series' own anyhow.

        Args:
            df: the series; `predict` without a frame forecasts them.
            steps: of training, at most.
            proximity: what the squared distance of the weights from where they were costs.

        Raises:
            InputError: the data cannot be used.
            ValueError: an argument is out of range.
        """
        self._check_fitted()
        require_count("steps", steps)
        NOT_NEGATIVE.require("proximity", proximity)
        panel = self._panel_like(df)
        adapted = copy.copy(self)
        found = adapt_networks(
            self.model_, self.networks_, self._source(panel), steps, proximity, self.seed
        )
        adapted.networks_ = found.networks
        functions = [AsFunction(network) for network in adapted.networks_]
        adapted.model_ = replace(self.model_, networks=functions)
        adapted.panel_, adapted.notes_ = panel, [*self.notes_, *panel.notes, found.words]
        adapted._like = None if isinstance(df, Panel) else head(df)
        return adapted

    def explain(
        self, df: IntoFrameT | Panel | None = None, *, future: IntoFrame | None = None
    ) -> IntoFrameT:
        """What moved the forecast of each series: its past steps, and the covariates.

        Integrated gradients of the mean of the median over the horizon. All effects of a series
        together are this mean.

        Args:
            df: as for `predict`.
            future: as for `predict`.

        Returns:
            A long frame: ids, the time stamp of what had the effect (none for what belongs to no
            step), "input" (the target's name, a covariate's, "summary" for trend and season and
            other forecasts, "start" for the forecast if the series stood still at its level), and
            "effect" in units of the series.

        Raises:
            InputError: the data cannot be used.
        """
        panel, like = self._to_forecast(df, future)
        source = self._source(panel)
        effects = explain_model(self.model_, self.networks_, source, source.windows.ends())
        columns = effect_columns(self.model_, panel, effects, self.target_col)
        named = {self.id_col: columns.pop("id"), self.time_col: columns.pop("time")}
        return as_frame(named | columns, like, panel.clock, self.id_col)

    def plot(
        self,
        df: IntoFrameT | Panel | None = None,
        *,
        future: IntoFrame | None = None,
        ids: Sequence[str] | None = None,
        level: float = 80,
    ) -> Figure:
        """Draw forecasts with the histories before them; four series at most.

        Args:
            df: as for `predict`.
            future: as for `predict`.
            ids: which series; the first four when not given.
            level: the band to draw, in percent; one of `levels`.

        Raises:
            InputError: the data cannot be used.
            ValueError: there is no such band or series.
        """
        if level not in self.levels:
            raise ValueError(f"level must be one of {list(self.levels)}, got {level}")
        if ids is not None and (isinstance(ids, str) or not len(ids)):
            raise InputError(f"ids must be a list of series, got {ids!r}")
        panel, _ = self._to_forecast(df, future)
        strange = [name for name in ids or () if name not in panel.ids]
        if strange:
            raise ValueError(f"there is no series {strange[0]!r}")
        shown = panel.ids[:4] if ids is None else list(ids)[:4]
        panel = panel.select([panel.ids.index(name) for name in shown])
        source = self._source(panel)
        answer = self.model_.forecast(source, source.windows.ends())
        names = column_names(NAME, self.levels)
        low, high = (names.index(f"{NAME}-{side}-{level:g}") for side in ("lo", "hi"))
        charts = [
            ForecastChart(
                title=name,
                times=panel.times[i],
                history=panel.values[i],
                future=panel.stamps(i, len(panel.times[i]), self.horizon),
                median=answer[i, :, len(self.levels)],
                low=answer[i, :, low],
                high=answer[i, :, high],
            )
            for i, name in enumerate(panel.ids)
        ]
        return forecast_figure(charts, f"{self.horizon} steps ahead", f"{level:g}% band")

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
        require_count("windows", windows)
        require_count("step", step)
        panel = self.read_panel(df)
        backs = [self.horizon + step * k for k in reversed(range(windows))]
        past = panel.without_last(backs[0])
        if not len(past):
            longest = max(len(values) for values in panel.values)
            raise InputError(
                f"the longest series has {longest} values, and the backtest needs more than "
                f"{backs[0]}"
            )
        fitted = type(self)(**self.get_params()).fit(past)
        source = fitted._source(panel)
        whole = source.windows
        ends = [whole.ends(back) for back in backs]
        origins = Origins(*(np.concatenate(column) for column in zip(*ends, strict=True)))
        origins = origins.where(whole.known_before(origins, 1))
        forecast, truth = (
            fitted.model_.forecast(source, origins),
            whole.future(origins, self.horizon),
        )
        like = None if isinstance(df, Panel) else head(df)
        return self._frame(panel, origins, forecast, like, truth)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted forecaster, without the data, to one safetensors file.

        Raises:
            InputError: the file cannot be written.
        """
        self._check_fitted()
        write_forecaster(self, path)
        for checkpoint in filter(None, self._checkpoints):
            checkpoint.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a forecaster from a file that `save` wrote.

        Raises:
            InputError: the file is not there, damaged, or no forecaster.
        """
        return read_forecaster(cls, path)

    def _inspectable(self, input: Any = None, *, known: bool = False) -> Inspectable:
        """What `tidegate.inspect` looks into; `input` as `predict` takes it."""
        self._check_fitted()
        panel = self.panel_ if input is None else self._panel_like(input)
        if panel is None:
            raise InputError("the model holds no data: give the series to look at")
        return look_into(self, panel, known)

    def _check_arguments(self) -> None:
        self._check_training()
        self._check_counts(_COUNTS, _CHOSEN)
        self._check_choice("cell", CELLS)
        if self.trust is not None:
            self._check_numbers(Range("from 0 to 1", lambda trust: 0 <= trust <= 1), "trust")
        for name in ("calendar", "gaps"):
            if getattr(self, name) is not None:
                self._check_flag(name)
        if self.holidays is not None and not isinstance(self.holidays, str):
            raise InputError(f"holidays must be the name of a country, got {self.holidays!r}")
        for name in ("static_cols", "past_cols", "future_cols"):
            require_names(name, getattr(self, name))
        quantiles_of(self.levels)

    def _check_fitted(self) -> None:
        if not hasattr(self, "model_"):
            raise ValueError(f"{self!r} is not fitted yet: call fit first")

    def _columns(self) -> Columns:
        return Columns(
            self.id_col,
            self.time_col,
            self.target_col,
            tuple(self.static_cols),
            tuple(self.past_cols),
            tuple(self.future_cols),
        )

    def _to_forecast(
        self, df: IntoFrameT | Panel | None, future: IntoFrame | None
    ) -> tuple[Panel, IntoFrameT | None]:
        """The series to forecast, with what is known ahead, and a frame to give the answer as."""
        self._check_fitted()
        panel = self.panel_ if df is None else self._panel_like(df)
        if panel is None:
            raise InputError("the model holds no data: give predict the series to forecast")
        like = self._like if df is None else None if isinstance(df, Panel) else head(df)
        return self._columns().with_future(panel, future, self.horizon), like

    def _panel_like(self, df: IntoFrame | Panel) -> Panel:
        """The table as series on the calendar of those that were learnt from."""
        return self._columns().panel_like(df, self.frequency_, self.freq)

    def _source(self, panel: Panel) -> Source:
        return self.derived_.source(panel, self.model_.layout, self.horizon)

    def _choose_sizes(self, panel: Panel, points: int | None = None) -> Suggestion:
        chosen = asdict(suggest(panel, self.horizon, self.season_length, points))
        for name in ("input_length", "num_layers", "hidden_size", "steps"):
            if getattr(self, name) is not None:
                chosen[name] = int(getattr(self, name))
                chosen["reasons"][name] = "as you said"
        return Suggestion(**chosen)

    def _plan(self, panel: Panel) -> Plan:
        sizes = self.suggestion_
        layout = self.derived_.learn_layout(panel, self.horizon)
        return Plan(
            scaling=Scaling(
                horizon=self.horizon,
                season_length=sizes.season_length,
                context=context_of(sizes),
                input_length=sizes.input_length,
                log=self.log,
                season=self.season,
                trend=self.trend,
            ),
            layout=layout,
            shape=Shape.of(
                layout,
                self.horizon,
                len(self.levels),
                sizes.hidden_size,
                sizes.num_layers,
                HEAD,
                min(TAIL, sizes.input_length),
                self.cell,
            ),
            quantiles=tuple(quantiles_of(self.levels).tolist()),
            trust=self.trust,
            members=self.members,
            batch_size=self.batch_size,
            settings=Settings(sizes.steps, learning_rate=self.learning_rate, seed=self.seed),
        )

    def _frame(
        self,
        panel: Panel,
        origins: Origins,
        forecast: np.ndarray,
        like: Any,
        truth: np.ndarray | None = None,
    ) -> Any:
        places = list(zip(*origins, strict=True))
        ahead = np.concatenate([panel.stamps(i, t, self.horizon) for i, t in places])
        ids = np.array(panel.ids, object)[origins.series].repeat(self.horizon)
        columns: dict[str, Any] = {self.id_col: ids, self.time_col: ahead}
        if truth is not None:
            last = [panel.times[i][t - 1] for i, t in places]
            columns |= {"cutoff": np.repeat(last, self.horizon), self.target_col: truth.ravel()}
        columns |= quantile_columns(forecast, self.levels)
        return as_frame(columns, like, panel.clock, self.id_col)


def _is_of_ray(df: Any) -> TypeGuard[RayDataset]:
    return type(df).__module__.partition(".")[0] == "ray"
