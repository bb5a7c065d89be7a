"""Which formats are known, by the ending of a file's name, and who reads and writes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..runtime import Model, load

# Functions of modules here, imported when asked for. A reader takes a path and returns a `Model`; a
# writer takes a `Model` and a path.
READERS: dict[str, str] = {
    ".safetensors": "_formats:_read_own",
}
WRITERS: dict[str, str] = {
    ".safetensors": "_formats:_write_own",
}


def read(path: str | os.PathLike[str]) -> Model:
    """The stack of layers in a file of any format that is known.

    Raises:
        InputError: the format is not known, the file is damaged, or it holds what cannot be
            carried exactly.
    """
    return _function(READERS, Path(path), "read")(Path(path))


def write(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a stack of layers in the format that the ending of `path` names.

    Raises:
        InputError: the format is not known, or cannot say what the model computes.
    """
    _function(WRITERS, Path(path), "written")(model, Path(path))


def _function(table: Mapping[str, str], path: Path, done: str) -> Callable[..., Any]:
    ending = path.suffix.lower()
    if ending not in table:
        known = ", ".join(table)
        raise InputError(f"{path}: files that end in {known} can be {done}, but not {ending!r}")
    module, _, name = table[ending].partition(":")
    return getattr(import_module(f".{module}", __package__), name)


def _read_own(path: Path) -> Model:
    model = load(path)
    if not isinstance(model, Model):
        raise InputError(
            f"{path} holds a {model.kind}, which is more than a stack of layers: it can only be "
            "converted to another .safetensors file"
        )
    return model


def _write_own(model: Model, path: Path) -> None:
    model.save(path)
