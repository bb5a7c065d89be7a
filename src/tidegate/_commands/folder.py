"""`tidegate forecast FOLDER`: series in many Parquet files, more of them than memory holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from .._files import require_apart
from ..errors import InputError
from ..forecast import GRUForecaster
from ..forecast._folder_out import MANIFEST, Job, Scored, run_parts
from ..forecast._team import Alone, agreed, assemble_team
from ._request import Request, new_model, require_settings_of
from ._results import sizes_table
from ._tensorboard import logged
from ._terminal import messages, output, rows_bar, training_bar

FORECASTS, MODEL, TRAINING = "forecast", "model.safetensors", "training"


def run_folder(request: Request) -> None:
    """Forecast the series of a folder with a new model or a saved one, part by part.

    Raises:
        InputError: the folder, the model or the folder for the results cannot be used.
    """
    _refuse_what_needs_a_table(request)
    require_apart(request.out / FORECASTS, "--out", request.source)
    with _cluster(request):
        _run_folder(request)


def _cluster(request: Request) -> AbstractContextManager[None]:
    """What must be connected for the work."""
    if not request.ray:
        return nullcontext()
    from ..forecast.ray import connected

    return connected(request.address)


def _run_folder(request: Request) -> None:
    team, forecasts = assemble_team(), request.out / FORECASTS
    if not request.resume and (forecasts / MANIFEST).exists():
        raise InputError(
            f"{request.out} holds forecasts already: --resume goes on with them, and --out names "
            "another folder"
        )
    model, trained = request.model or request.out / MODEL, request.model is not None
    if not trained:
        _train(request, model, team)
    names = {"id": request.id, "time": request.time, "target": request.target}
    job = Job.of(model, request.source, forecasts, skip=request.skip, **names)
    if trained:
        require_settings_of(model, job.forecaster.horizon, request)
    scored = _score(job, request, team)
    if not team.rank:
        _say(scored, request)


def _refuse_what_needs_a_table(request: Request) -> None:
    if request.tune is not None:
        raise InputError("--tune searches on a file that fits into memory: give it a sample")
    if request.ahead or request.future is not None:
        raise InputError("columns that are known ahead are read from a file, not from a folder")


def _train(request: Request, path: Path, team: Alone) -> None:
    model = new_model(request)
    if request.resume and path.exists():
        _require_same_arguments(model, path)
        return
    shown = training_bar("training") if not team.rank else nullcontext(lambda *_: None)
    with shown as progress, logged(None if team.rank else request.tensorboard, progress) as told:
        _fit_of(model, request)(
            request.source,
            progress=told,
            checkpoint=request.out / TRAINING,
            resume=request.resume,
            skip=request.skip,
        )
    if not team.rank:
        for note in model.notes_:
            messages.print(f"note: {note}")
        output.print("The network, its sizes chosen from the data:")
        output.print(sizes_table(model), "")
    agreed(team, lambda: None if team.rank else model.save(path))


def _fit_of(model: GRUForecaster, request: Request) -> Callable[..., Any]:
    """What trains the model, here or on the cluster."""
    if not request.ray:
        return model.fit
    from ..forecast.ray import fit

    return partial(fit, model, workers=request.workers, gpus=request.gpus)


def _require_same_arguments(model: GRUForecaster, path: Path) -> None:
    """See that a run that goes on is asked for the model that it has trained already."""
    trained = GRUForecaster.load(path).get_params()
    for name, asked in model.get_params().items():
        if trained[name] != asked:
            raise InputError(
                f"{path} was trained with {name} {trained[name]!r}, and now {asked!r} is asked "
                "for: --resume goes on with the same command only"
            )


def _score(job: Job, request: Request, team: Alone) -> Scored:
    claimed = agreed(team, lambda: [] if team.rank else job.begin(request.resume))
    to_do = team.gather(claimed)[0]
    mine = to_do[team.rank :: team.size]
    total = sum(job.parts.parts[i].rows for i in mine)
    run = _run_of(request)
    with rows_bar("forecasting", total) if not team.rank else nullcontext(None) as progress:
        agreed(team, lambda: run(job, mine, progress))
    return agreed(team, lambda: Scored(0, 0, 0, ()) if team.rank else job.finish())


def _run_of(request: Request) -> Callable[..., None]:
    """What does the parts, here or on the cluster."""
    if not request.ray:
        return run_parts
    from ..forecast import ray

    return ray.run_parts


def _say(scored: Scored, request: Request) -> None:
    for reason in scored.reasons:
        messages.print(f"note: {reason}")
    if scored.left_out:
        messages.print(f"note: {scored.left_out:,} series cannot be used; left out")
    output.print(
        f"Written to {request.out / FORECASTS}{os.sep}: {scored.rows:,} rows for "
        f"{scored.series:,} series"
    )
