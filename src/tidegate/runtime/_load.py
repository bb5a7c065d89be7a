"""`load`: whatever Tidegate saved."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from .._model_file import read_model, words_of_kind
from ..errors import InputError

# Where each kind of file is opened: `from_file` of a class in a module here, imported when asked
# for, and without torch.
_KINDS = {
    "stack": ("_model", "Model"),
    "language": ("_language", "Reader"),
    "classifier": ("_classifier", "Classifier"),
    "regressor": ("_classifier", "Regressor"),
    "forecaster": ("_forecaster", "Forecaster"),
}


def load(path: str | os.PathLike[str]) -> Any:
    """Open a model file of any kind, to run it without torch.

    Returns:
        For a stack of layers, a `Model`; for what else Tidegate saves, a class of its own.

    Raises:
        InputError: the file is not there, damaged, no model, or of a kind that is not known here.
    """
    file = read_model(path)
    if file.kind not in _KINDS:
        known = ", ".join(_KINDS)
        raise InputError(f"{path} holds {words_of_kind(file.kind)}, and the runtime knows {known}")
    module, name = _KINDS[file.kind]
    kind = getattr(import_module(f".{module}", __package__), name)
    try:
        return kind.from_file(file)
    except Exception as error:  # whatever a stranger's facts lead to
        said = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is damaged: {said or type(error).__name__}") from None
