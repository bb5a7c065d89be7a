"""`tidegate demo`: a competition's series, forecast and compared with simple methods."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .. import __version__
from .._files import require_writable, staged
from ..data import Competition, Panel, load_competition
from ..forecast import GRUForecaster, coverage
from ._classical import classical_forecasts, require_statsforecast
from ._judge import Judge, naive_forecasts
from ._results import (
    as_facts,
    band,
    score_table,
    sizes_table,
    write_csv,
    write_json,
    write_picture,
)
from ._terminal import messages, output, training_bar

_OURS = "GRU (Tidegate)"
_LEVEL = 80


def run_demo(out: Path, seed: int, all_methods: bool = False, series: int | None = None) -> None:
    """Train on M3 monthly, forecast what was held back, print the table, write the results.

    Args:
        out: the folder for the results.
        seed: where the random numbers start.
        all_methods: compare with AutoETS too.
        series: use only so many of the series.

    Raises:
        InputError: the data are not installed, or the folder cannot be written to.
        ModuleNotFoundError: statsforecast is not installed.
    """
    require_writable(out)
    require_statsforecast()
    competition = _first(load_competition("M3", "monthly"), series)
    panel = Panel.from_frame(competition.train, source="M3 monthly")
    truth = np.stack(Panel.from_frame(competition.test, source="M3 monthly").values)
    horizon = competition.horizon
    output.print(
        f"M3 monthly: {len(panel):,} series of the M3 competition, "
        f"its last {horizon} months held back\n"
    )
    begun = time.perf_counter()
    model = GRUForecaster(horizon, seed=seed)
    with training_bar("training") as progress:
        model.fit(panel, progress=progress)
    forecast = model.predict(panel)
    ours = band(forecast, _LEVEL, horizon)
    output.print("The network, its sizes chosen from the data:")
    output.print(sizes_table(model), "")

    judge = Judge(panel, truth, competition.season_length)
    scores = [judge(_OURS, ours["median"], time.perf_counter() - begun)]
    scores += [judge(*answer) for answer in _others(competition, panel, all_methods)]
    held = coverage(truth, ours["low"], ours["high"])
    output.print(score_table(scores, _OURS), "")
    output.print(f"The {_LEVEL}% band held {held:.0%} of the values that came.")

    facts = {
        "data": "M3 monthly",
        "series": len(panel),
        "horizon": horizon,
        "seed": seed,
        "tidegate": __version__,
        "coverage": {f"{_LEVEL}%": held},
        "methods": as_facts(scores),
    }
    with staged(out) as part:
        write_csv(forecast, "ds", part / "forecast.csv")
        model.save(part / "model.safetensors")
        write_json(facts, part / "metrics.json")
        write_picture(
            panel,
            ours,
            judge.examples(ours["median"]),
            f"M3 monthly, {horizon} months ahead: from a good forecast to a poor one",
            _LEVEL,
            part / "forecast.png",
            truth,
        )
        written = ", ".join(sorted(file.name for file in part.iterdir()))
    output.print(f"Written to {out}{os.sep}: {written}\n")
    _say_what_next(out)


def _first(competition: Competition, series: int | None) -> Competition:
    if series is None:
        return competition
    ids = competition.train["unique_id"].unique()[:series]
    train, test = competition.train, competition.test
    return competition._replace(
        train=train[train["unique_id"].isin(ids)], test=test[test["unique_id"].isin(ids)]
    )


def _others(
    competition: Competition, panel: Panel, all_methods: bool
) -> Iterator[tuple[str, np.ndarray, float]]:
    naive, seconds = naive_forecasts(panel, competition.horizon, competition.season_length)
    yield "Seasonal naive", naive, seconds
    with messages.status("the classical methods"):
        yield from classical_forecasts(competition, all_methods)


def _say_what_next(out: Path) -> None:
    command = "tidegate" if shutil.which("tidegate") else os.path.relpath(sys.argv[0])
    output.print("Try next (us_employment ships with Tidegate; a file of yours goes in its place):")
    for arguments in (
        "forecast us_employment --horizon 12",
        f"forecast us_employment --model {out / 'model.safetensors'}",
        "demo --all",
    ):
        output.print(f"  {command} {arguments}", style="bold")
