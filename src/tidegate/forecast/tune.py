"""A search for better settings than the suggested ones, over folds in order of time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
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
        suggested: that of the suggested settings, which are tried first; None where another process
            is at it still.
        trials: how many settings were tried, those given up early among them.
    """

    settings: dict[str, Any]
    error: float
    suggested: float | None
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
    after as many folds. The suggested settings are the first trial. Any number of processes, on any
    machines, may search together: they are given the same storage, and stop when all trials are
    done; what one that was killed was at is done by another. One process finds the same each time,
    also where it was stopped and went on.

    Args:
        model: its arguments are kept, but for those that are searched for.
        df: the series.
        trials: how many settings to try, those that the storage has already among them.
        folds: origins in order of time.
        storage: what keeps the search, so that it can go on later: a file (SQLite), or the address
            of a database, such as postgresql+psycopg://user@host/name. It may hold those of other
            data too.
        progress: called after each trial with its number, their total and the best error so far.

    Raises:
        InputError: the series are too short, or the database cannot be reached or written to.
        ModuleNotFoundError: Optuna is not installed.
    """
    import optuna

    from ._search import open_study

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if trials < 1 or folds < 1:
        raise ValueError(f"trials and folds must be at least 1, got {trials} and {folds}")
    panel = model.read_panel(df)
    past = [panel.without_last(model.horizon * (folds - k)) for k in range(folds)]
    longest = max((len(values) for values in past[0].values), default=0)
    if longest < model.horizon + _LEAST_HISTORY:
        raise InputError(f"the series are too short to hold {folds} horizons back")
    suggestion = model.suggest(panel)
    search = _Search(model, panel, past, suggestion.input_length, suggestion.steps)

    finished = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)

    def done(study: optuna.Study) -> int:
        return sum(trial.state in finished for trial in study.get_trials(deepcopy=False))

    def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if progress is not None:
            progress(done(study), trials, _best(study))
        if done(study) >= trials:
            study.stop()

    name = f"{_STUDY} {_fingerprint(panel, model)}"
    with open_study(name, storage, model.seed) as study:
        if not study.trials:
            study.enqueue_trial(_suggested(model, suggestion))
        if done(study) < trials:
            study.optimize(search, callbacks=[tell])
        settings = search.settings(study.best_params)
        return Tuned(settings, study.best_value, study.trials[0].value, done(study))


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


def _fingerprint(panel: Panel, model: GRUForecaster) -> str:
    """What must be the same for errors to be comparable."""
    digest = hashlib.blake2b(repr((panel.ids, model.horizon)).encode(), digest_size=16)
    for values in panel.values:
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
