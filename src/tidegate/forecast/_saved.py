"""A fitted forecaster in one file, without the data, and back."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from .. import __version__
from .._members import arrays_of, networks_of
from .._model_file import ModelFile, read_model, write_model
from .._series.derived import Derived
from .._series.model import Model
from .._series.shape import Shape
from ..data import Frequency
from ..errors import InputError
from ..train import History
from ._fit import AsFunction
from ._network import Network
from ._suggest import Suggestion

if TYPE_CHECKING:
    from ._forecaster import GRUForecaster

_F = TypeVar("_F", bound="GRUForecaster")


def write_forecaster(forecaster: GRUForecaster, path: str | os.PathLike[str]) -> None:
    """Write all that a forecast needs.

    Raises:
        InputError: the file cannot be written.
    """
    tensors = arrays_of(forecaster.networks_)
    tensors["correlation"] = forecaster.model_.correlation
    arguments = forecaster.get_params()
    facts = {
        "version": __version__,
        "arguments": {name: _plain(value) for name, value in arguments.items()},
        "model": forecaster.model_.facts(),
        "shape": asdict(forecaster.shape_),
        "derived": asdict(forecaster.derived_),
        "suggestion": asdict(forecaster.suggestion_),
        "frequency": forecaster.frequency_.name,
        "notes": forecaster.notes_,
        "history": [history.facts() for history in forecaster.history_],
    }
    write_model(path, "forecaster", tensors, facts)


def read_forecaster(cls: type[_F], path: str | os.PathLike[str]) -> _F:
    """A forecaster of this class from what `write_forecaster` wrote.

    Raises:
        InputError: the file is not there, damaged, or no forecaster.
    """
    file = read_model(path, "forecaster")
    try:
        return _restored(cls, file)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} is damaged: {error}") from None


def _restored(cls: type[_F], file: ModelFile) -> _F:
    facts = file.facts
    arguments: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in facts["arguments"].items()
    }
    forecaster = cls(**arguments)
    forecaster.suggestion_ = Suggestion(**facts["suggestion"])
    forecaster.frequency_ = Frequency.parse(facts["frequency"])
    forecaster.notes_ = facts["notes"]
    forecaster.history_ = [History.from_facts(each) for each in facts.get("history", ())]
    forecaster.derived_ = Derived.from_facts(facts["derived"])
    forecaster.shape_ = Shape.from_facts(facts["shape"])
    forecaster.networks_ = networks_of(
        lambda: Network(forecaster.shape_), file.tensors, forecaster.members
    )
    functions = [AsFunction(network) for network in forecaster.networks_]
    correlation = file.tensors["correlation"]
    forecaster.model_ = Model.from_facts(facts["model"], functions, correlation)
    forecaster.panel_, forecaster._like = None, None
    forecaster._checkpoints = []
    return forecaster


def _plain(value: Any) -> Any:
    """An argument as JSON has it."""
    return list(value) if isinstance(value, (tuple, list)) else value
