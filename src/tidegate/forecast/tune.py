"""A search for better settings than the suggested ones, over folds in order of time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Panel
from ..errors import InputError
from ._forecaster import GRUForecaster
from ._suggest import Suggestion
from .metrics import mase, naive_error

if TYPE_CHECKING:
    import optuna
    from narwhals.typing import IntoFrame

# A fit needs so many values more than a horizon.
_LEAST_HISTORY = 3
_STUDY = "tidegate forecast"
_SIZES = (16, 32, 64, 128)
_INPUTS = (0.5, 1.0, 1.5, 2.0)
_STEPS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        settings: arguments of the best forecaster.
        error: its mean absolute scaled error over the folds.
        suggested: that of the suggested settings, which are tried first.
        trials: how many settings were tried, those given up early among them.
    """

    settings: dict[str, Any]
    error: float
    suggested: float
    trials: int


def tune(
    model: GRUForecaster,
    df: IntoFrame | Panel,
    trials: int,
    *,
    folds: int = 2,
    storage: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int, float | None], None] | None = None,
) -> Tuned:
    """Search for settings that forecast the ends of these series best (needs Optuna).

    Each trial learns from what lies before the last `folds` horizons and forecasts the next, then
    from a horizon more, and so on. It is given up when it is worse than half of the others were
    after as many folds. The suggested settings are the first trial.

    Args:
        model: its arguments are kept, but for those that are searched for.
        df: the series.
        trials: how many settings to try, those that the storage has already among them.
        folds: origins in order of time.
        storage: a file (SQLite) that keeps the search, so that it can go on later.
        progress: called after each trial with its number, their total and the best error so far.

    Raises:
        InputError: the series are too short, or the storage is of other data.
        ModuleNotFoundError: Optuna is not installed.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if trials < 1 or folds < 1:
        raise ValueError(f"trials and folds must be at least 1, got {trials} and {folds}")
    panel = model.read_panel(df)
    past = [panel.without_last(model.horizon * (folds - k)) for k in range(folds)]
    longest = max((len(values) for values in past[0].values), default=0)
    if longest < model.horizon + _LEAST_HISTORY:
        raise InputError(f"the series are too short to hold {folds} horizons back")
    study = optuna.create_study(
        study_name=_STUDY,
        storage=None if storage is None else f"sqlite:///{Path(storage)}",
        sampler=optuna.samplers.TPESampler(seed=model.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
        load_if_exists=True,
    )
    _require_same_data(study, panel, model)
    suggestion = model.suggest(panel)
    if not study.trials:
        study.enqueue_trial(_suggested(model, suggestion))
    search = _Search(model, panel, past, suggestion.input_length, suggestion.steps)

    def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if progress is not None:
            progress(len(study.trials), trials, _best(study))

    done = sum(trial.state.is_finished() for trial in study.trials)
    if done < trials:
        study.optimize(search, n_trials=trials - done, callbacks=[tell])
    first = next(t.value for t in study.trials if t.value is not None)
    settings = search.settings(study.best_params)
    return Tuned(settings, study.best_value, first, len(study.trials))


@dataclass
class _Search:
    """The error of settings that Optuna proposes."""

    model: GRUForecaster
    panel: Panel
    past: list[Panel]
    input_length: int
    steps: int

    def __call__(self, trial: optuna.Trial) -> float:
        import optuna

        proposed = {
            "hidden_size": trial.suggest_categorical("hidden_size", _SIZES),
            "num_layers": trial.suggest_int("num_layers", 1, 3),
            "input_length": trial.suggest_categorical("input_length", _INPUTS),
            "steps": trial.suggest_categorical("steps", _STEPS),
            "learning_rate": trial.suggest_float("learning_rate", 5e-4, 1e-2, log=True),
        }
        settings, errors = self.settings(proposed), []
        for fold, past in enumerate(self.past):
            errors.append(self._error(settings, past))
            trial.report(float(np.mean(errors)), fold)
            if fold + 1 < len(self.past) and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(errors))

    def settings(self, proposed: dict[str, Any]) -> dict[str, Any]:
        """Arguments of a forecaster: lengths are proposed as multiples of the suggested ones."""
        lengths = {
            "input_length": max(2, round(proposed["input_length"] * self.input_length)),
            "steps": max(1, round(proposed["steps"] * self.steps)),
        }
        return proposed | lengths

    def _error(self, settings: dict[str, Any], past: Panel) -> float:
        fitted = GRUForecaster(**(self.model.get_params() | settings)).fit(past)
        horizon = self.model.horizon
        forecast = fitted.predict()["GRU"].to_numpy().reshape(-1, horizon)
        number = {name: i for i, name in enumerate(self.panel.ids)}
        truth = np.full(forecast.shape, np.nan)
        for row, name in enumerate(past.ids):
            length = len(past.values[row])
            after = self.panel.values[number[name]][length : length + horizon]
            truth[row, : len(after)] = after
        naive = naive_error(past.values, fitted.suggestion_.season_length)
        error = mase(truth, forecast, naive)
        return float(np.nanmean(error)) if np.isfinite(error).any() else float("inf")


def _suggested(model: GRUForecaster, suggestion: Suggestion) -> dict[str, Any]:
    """The first trial: what a fit without a search would take, or the nearest to it."""
    return {
        "input_length": 1.0,
        "steps": 1.0,
        "learning_rate": float(np.clip(model.learning_rate, 5e-4, 1e-2)),
        "num_layers": min(suggestion.num_layers, 3),
        "hidden_size": min(_SIZES, key=lambda size: abs(size - suggestion.hidden_size)),
    }


def _best(study: optuna.Study) -> float | None:
    finished = [trial.value for trial in study.trials if trial.value is not None]
    return min(finished, default=None)


def _require_same_data(study: optuna.Study, panel: Panel, model: GRUForecaster) -> None:
    digest = hashlib.blake2b(repr((panel.ids, model.horizon)).encode(), digest_size=16)
    for values in panel.values:
        digest.update(np.ascontiguousarray(values).data)
    known = study.user_attrs.setdefault("data", digest.hexdigest())
    if known != digest.hexdigest():
        raise InputError("the storage of the search is of other data or another horizon")
    study.set_user_attr("data", known)
