"""What `tidegate forecast` was asked for, and the model that this means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..forecast import GRUForecaster

_LEVELS = (50.0, 80.0, 95.0)


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line; None where nothing was said.

    `source` is the file as it was typed: it may be a folder, or an address. `ray` says that a Ray
    cluster is to do the work, the one at `address` if that is given.
    """

    source: str
    out: Path
    horizon: int | None = None
    model: Path | None = None
    id: str | None = None
    time: str | None = None
    target: str | None = None
    freq: str | None = None
    levels: Sequence[float] | None = None
    seed: int = 0
    quick: bool = False
    skip: bool = False
    static: Sequence[str] = ()
    past: Sequence[str] = ()
    ahead: Sequence[str] = ()
    future: Path | None = None
    holidays: str | None = None
    tune: int | None = None
    tensorboard: Path | None = None
    resume: bool = False
    ray: bool = False
    address: str | None = None
    workers: int | None = None
    gpus: bool = False
    storage: str | None = None

    @property
    def file(self) -> Path:
        """The source as a file."""
        return Path(self.source)


def new_model(request: Request) -> GRUForecaster:
    """A forecaster that is to be trained.

    Raises:
        InputError: the horizon is not said, or a level is said twice.
    """
    from ..forecast import GRUForecaster

    if request.horizon is None:
        raise InputError("say how many steps to forecast: --horizon 12")
    levels = request.levels or _LEVELS
    if len(set(levels)) < len(levels):
        raise InputError("--levels must be different numbers")
    return GRUForecaster(
        request.horizon,
        levels=levels,
        seed=request.seed,
        freq=request.freq,
        static_cols=tuple(request.static),
        past_cols=tuple(request.past),
        future_cols=tuple(request.ahead),
        holidays=request.holidays,
        **column_names(request),
    )


def require_settings_of(path: Path, horizon: int, request: Request) -> None:
    """See that nothing was asked for that a saved model does otherwise.

    Raises:
        InputError: something was.
    """
    if request.levels is not None:
        raise InputError("--levels belong to the training; a saved model keeps its own")
    if request.horizon not in (None, horizon):
        raise InputError(
            f"{path} forecasts {horizon} steps, not {request.horizon}; leave --horizon out, "
            "or leave --model out to train a new one"
        )


def column_names(request: Request) -> dict[str, Any]:
    """Arguments of a forecaster for the columns that were named."""
    names = {"id_col": request.id, "time_col": request.time, "target_col": request.target}
    return {argument: name for argument, name in names.items() if name is not None}
