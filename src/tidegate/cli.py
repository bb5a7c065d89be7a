"""The command `tidegate`: its arguments. What the commands do is in `_commands`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

try:
    from cyclopts import App, Group, Parameter
    from cyclopts.validators import Number
    from rich.text import Text
except ModuleNotFoundError as missing:
    sys.exit(f"the command line needs the package {missing.name}: pip install 'tidegate[forecast]'")

from . import __version__
from ._commands import guarded


def _shown(default: object) -> str | None:
    """A default as the help shows it; a switch that is off says nothing."""
    return None if default is False else str(default)


def _one_line(error: Exception) -> Text:
    """What is wrong with the arguments, as any other error is said."""
    return Text(" ".join(["tidegate:", *str(error).split()]), no_wrap=True, overflow="ignore")


app = App(
    name="tidegate",
    help="Gated recurrent units: train them fast, run them anywhere, look inside them.",
    help_epilogue="Start with: tidegate demo",
    help_format="markdown",
    version=__version__,
    error_formatter=_one_line,
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative="", show_default=_shown),
)
app.meta.suppress_keyboard_interrupt = False

_FILE, _RESULTS, _TROUBLE = map(Group.create_ordered, ("The file", "Results", "In trouble"))

Debug = Annotated[bool, Parameter(help="Show where in the program an error arose.", group=_TROUBLE)]
Tokens = Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]
Count = Annotated[int, Parameter(validator=Number(gte=1))]
Percent = Annotated[float, Parameter(validator=Number(gt=0, lt=100))]
Folder = Annotated[Path, Parameter(group=_RESULTS)]
Column = Annotated[str | None, Parameter(group=_FILE)]


def main(tokens: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 2 for bad input and 130 after Ctrl-C."""
    return guarded(app.meta, sys.argv[1:] if tokens is None else tokens)


@app.meta.default
def _launch(*tokens: Tokens, debug: Debug = False) -> None:
    app(tokens, result_action="return_value")


@app.command
def demo(
    *,
    all: bool = False,
    series: Count | None = None,
    seed: int = 0,
    out: Folder = Path("tidegate-demo"),
) -> None:
    """Forecast the M3 competition's 1,428 monthly series, and compare with simple methods.

    Trains one network on all series, which takes about a minute on two cores, and writes the
    forecasts, the model, a picture and the measures.

    Args:
        all: Compare with AutoETS too, which takes minutes.
        series: Use only the first so many series, for a quick look.
        seed: Where the random numbers of the training start.
        out: The folder for the results.
    """
    from ._commands.demo import run_demo

    run_demo(out, seed, all, series)


@app.command
def forecast(
    file: Path,
    /,
    *,
    horizon: Count | None = None,
    model: Path | None = None,
    levels: Annotated[tuple[Percent, ...] | None, Parameter(consume_multiple=True)] = None,
    quick: bool = False,
    skip: bool = False,
    seed: int = 0,
    id: Column = None,
    time: Column = None,
    target: Column = None,
    freq: Column = None,
    out: Folder = Path("tidegate-forecast"),
) -> None:
    """Forecast the series in a file.

    Trains one network on all of them, or takes a saved one, and writes forecasts with bands.

    Args:
        file: A table in long format, CSV or Parquet: one row for each series and time stamp. Or a
            data set that ships: us_employment, weather.
        horizon: How many steps to forecast; needed unless a model is given.
        model: Forecast with this saved model; nothing is trained.
        levels: Bands to forecast, in percent of the values that they shall hold: 50 80 95.
        quick: Do not compare with the naive forecast on held-back steps; takes half the time.
        skip: Leave out series that are constant or shorter than the horizon, instead of stopping.
        seed: Where the random numbers of the training start.
        id: The column that tells series apart: unique_id. Without it, the file is one series.
        time: The column of time stamps, dates or whole numbers: ds.
        target: The column to forecast: y.
        freq: The calendar, such as MS, W-SUN, D, B or 15min; found from the time stamps.
        out: The folder for the forecasts, the model and the picture.
    """
    from ._commands.forecast import Request, run_forecast

    run_forecast(
        Request(
            file=file,
            out=out,
            horizon=horizon,
            model=model,
            id=id,
            time=time,
            target=target,
            freq=freq,
            levels=levels,
            seed=seed,
            quick=quick,
            skip=skip,
        )
    )


@app.command
def bench(
    *,
    threads: Count | None = None,
    seconds: Annotated[float, Parameter(validator=Number(gt=0))] = 15.0,
) -> None:
    """Time the GRU layer beside torch's on this machine: a forward pass and a training step.

    Args:
        threads: How many threads both use; without it, as many as torch takes.
        seconds: How long to measure, all shapes together.
    """
    from ._commands.bench import run_bench

    run_bench(threads, seconds)
