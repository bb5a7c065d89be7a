"""`tidegate forecast`: the series in a file."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._files import require_apart, require_writable, staged
from ..data import Frequency, Panel, to_frame
from ..data._parquet import is_many
from ..errors import InputError
from ..forecast import GRUForecaster
from ._judge import Judge, naive_forecasts
from ._request import Request, column_names, new_model, require_settings_of
from ._results import band, score_table, sizes_table, write_csv, write_picture
from ._series_file import read_series
from ._tensorboard import logged
from ._terminal import messages, output, searching_bar, training_bar

if TYPE_CHECKING:
    from narwhals.typing import IntoFrame

_OURS = "GRU (Tidegate)"
_SHOWN = 4
_FORECAST, _PICTURE = "forecast.csv", "forecast.png"
_MODEL, _SEARCH = "model.safetensors", "search.db"


def run_forecast(request: Request) -> None:
    """Forecast the series in a file, with a new model or a saved one, and write the results.

    Raises:
        InputError: the file, the model or the folder for the results cannot be used.
    """
    require_writable(request.out)
    if request.storage is not None and request.tune is None:
        raise InputError("--storage keeps a search, and --tune N asks for one")
    if not request.ray and (request.gpus or request.workers is not None):
        raise InputError("--workers and --gpus are those of a Ray cluster, and --ray asks for one")
    if is_many(request.source):
        from .folder import run_folder

        run_folder(request)
    elif request.ray:
        raise InputError("--ray works on a folder of Parquet files, and this is one file")
    elif request.resume:
        raise InputError("--resume goes on with a folder of Parquet files, and this is one file")
    else:
        _run_file(request)


def _run_file(request: Request) -> None:
    trained = [] if request.model else [_MODEL]
    searched = [_SEARCH] if request.tune is not None and request.storage is None else []
    for name in [_FORECAST, _PICTURE, *trained, *searched]:
        require_apart(request.out / name, "--out", request.file, request.future, request.model)
    if request.model is None:
        _train_and_forecast(request)
    else:
        _forecast_with(request.model, request)


def _train_and_forecast(request: Request) -> None:
    model = new_model(request)
    if request.ahead and request.future is None:
        raise InputError("--ahead names columns that are known ahead: --future FILE gives them")
    table = read_series(request.file, model.id_col)
    named = model.id_col in _column_names_of(table)
    panel = _usable(_panel(table, model, request), model, request, named)
    if request.tune is not None:
        model.set_params(**_tuned(model, panel, request))
    with (
        training_bar("training") as progress,
        logged(request.tensorboard, progress) as told,
    ):
        model.fit(panel, progress=told)
    _say_notes(model.notes_[len(panel.notes) :])
    output.print("The network, its sizes chosen from the data:")
    output.print(sizes_table(model), "")
    if not request.quick:
        _compare(model, panel)
    _write(model, panel, table, request, save=True)
    path = request.out / _MODEL
    output.print(f"Forecast newer rows without training: tidegate forecast NEW.csv --model {path}")


def _forecast_with(path: Path, request: Request) -> None:
    model = GRUForecaster.load(path).set_params(**column_names(request))
    require_settings_of(path, model.horizon, request)
    table = read_series(request.file, model.id_col)
    panel = _panel(table, model, request, model.frequency_)
    _write(model, panel, table, request, save=False)


def _tuned(model: GRUForecaster, panel: Panel, request: Request) -> dict[str, Any]:
    """The best settings of a search, which is kept beside the results."""
    from ..forecast.tune import tune

    request.out.mkdir(parents=True, exist_ok=True)
    with searching_bar("searching") as progress:
        storage = request.storage or request.out / _SEARCH
        found = tune(model, panel, request.tune or 1, storage=storage, progress=progress)
    known = found.suggested is not None
    gain = f" (the suggested settings: {found.suggested:.3f})" if known else ""
    settings = ", ".join(f"{name} {value:.3g}" for name, value in found.settings.items())
    output.print(f"Best of {found.trials} settings, MASE {found.error:.3f}{gain}: {settings}", "")
    return found.settings


def _panel(
    table: IntoFrame, model: GRUForecaster, request: Request, learnt: Frequency | None = None
) -> Panel:
    """The series of a table, on the calendar that a model has learnt where they fit it."""
    columns, source = model._columns(), str(request.file)
    if learnt is not None and request.freq is None:
        panel = columns.panel_like(table, learnt, model.freq, source)
    else:
        panel = columns.panel(table, request.freq, source)
    lengths = [len(values) for values in panel.values]
    length = (
        f"{min(lengths):,}" if len(set(lengths)) == 1 else f"{min(lengths):,} to {max(lengths):,}"
    )
    frequency = panel.frequency
    series = "one series" if len(panel) == 1 else f"{len(panel):,} series"
    output.print(
        f"{request.file}: {series} of {length} time stamps, {frequency.words} ({frequency.name})\n"
    )
    _say_notes(panel.notes)
    return panel


def _usable(panel: Panel, model: GRUForecaster, request: Request, named: bool) -> Panel:
    """The panel, refused if nothing can be learnt from a series, or without it if told to skip."""
    problems = {
        i: problem
        for i, values in enumerate(panel.values)
        if (problem := _problem(values, model.horizon))
    }
    if not problems:
        return panel
    first, problem = next(iter(problems.items()))
    series = f"series {panel.ids[first]!r}" if named else "the series"
    place = f"{request.file}: column {model.target_col!r}: {series} {problem}"
    more = f", and {len(problems) - 1} other series cannot be used" if len(problems) > 1 else ""
    if not request.skip or len(problems) == len(panel):
        advice = "" if len(problems) == len(panel) else "; --skip leaves such series out"
        raise InputError(place + more + advice)
    _say_notes([f"{place}{more}; left out"])
    return panel.select([i for i in range(len(panel)) if i not in problems])


def _problem(values: np.ndarray, horizon: int) -> str | None:
    known = values[np.isfinite(values)]
    if len(known) < horizon:
        return f"has {len(known)} known values, fewer than the {horizon} steps to forecast"
    if (known == known[0]).all():
        return f"is constant (always {known[0]:g}), so there is nothing to learn"
    return None


def _compare(model: GRUForecaster, panel: Panel) -> None:
    """Hold back the last steps, forecast them by the same arguments, and print how good it was."""
    horizon, season_length = model.horizon, model.suggestion_.season_length
    past = panel.without_last(horizon)
    begun = time.perf_counter()
    try:
        with training_bar("comparing") as progress:
            trial = GRUForecaster(**model.get_params()).fit(past, progress=progress)
    except InputError:
        _say_notes([f"the series are too short to hold {horizon} steps back and compare methods"])
        return
    forecast = band(trial.predict(past), model.levels[0], horizon)["median"]
    seconds = time.perf_counter() - begun
    there = set(past.ids)
    truth = [v[-horizon:] for i, v in zip(panel.ids, panel.values, strict=True) if i in there]
    judge = Judge(past, np.stack(truth), season_length)
    naive, naive_seconds = naive_forecasts(past, horizon, season_length)
    name = "Seasonal naive" if season_length > 1 else "Naive"
    scores = [judge(_OURS, forecast, seconds), judge(name, naive, naive_seconds)]
    output.print(f"The last {horizon} steps of each series, held back and forecast:")
    output.print(score_table(scores, _OURS), "")


def _write(
    model: GRUForecaster, panel: Panel, table: IntoFrame, request: Request, save: bool
) -> None:
    import narwhals as nw

    future = None if request.future is None else read_series(request.future, model.id_col)
    forecast = model.predict(panel, future=future)
    if panel.clock == "UTC":
        stamps: Any = to_frame({model.time_col: forecast[model.time_col]}, table, panel.clock)
        in_zone = nw.from_native(stamps, eager_only=True).to_pandas()
        forecast[model.time_col] = in_zone[model.time_col]
    level = min(model.levels, key=lambda level: abs(level - 80))
    shown = {i: panel.ids[i] for i in range(min(_SHOWN, len(panel)))}
    some = f", the first {len(shown)} of {len(panel):,} series" if len(panel) > len(shown) else ""
    title = f"{request.file.name}: {model.horizon} steps ahead{some}"
    with staged(request.out) as part:
        drop = [] if model.id_col in _column_names_of(table) else [model.id_col]
        write_csv(forecast.drop(columns=drop), model.time_col, part / _FORECAST)
        if save:
            model.save(part / _MODEL)
        picture = part / _PICTURE
        write_picture(panel, band(forecast, level, model.horizon), shown, title, level, picture)
        written = ", ".join(sorted(file.name for file in part.iterdir()))
    output.print(f"Written to {request.out}{os.sep}: {written}")


def _column_names_of(table: IntoFrame) -> list[str]:
    import narwhals as nw

    return nw.from_native(table).columns


def _say_notes(notes: Sequence[str]) -> None:
    for note in notes:
        messages.print(f"note: {note}")
