"""`tidegate convert`: a model from one format to another, or to narrower numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._files import replacing, require_apart
from .._model_file import STORAGES, ModelFile, read_model, write_model
from ..errors import InputError
from ..export._check import convert_aside
from ..export._formats import format_of
from ..runtime import load
from ._compared import compared
from ._terminal import output

_OWN = ".safetensors"


@dataclass(frozen=True)
class Formats:
    """What the endings of the names do not say: formats by name, and options of either side."""

    read_as: str | None = None
    write_as: str | None = None
    reading: Mapping[str, object] = field(default_factory=dict)
    writing: Mapping[str, object] = field(default_factory=dict)


def run_convert(
    source: Path,
    target: Path,
    dtype: str | None,
    check: Path | None,
    formats: Formats | None = None,
) -> None:
    """Write the model in `source` as the ending of `target` says.

    Args:
        source: a model file of any format that can be read.
        target: where to write it.
        dtype: what to store its matrices as, in a model file of ours.
        check: a file of inputs, on which to measure what the conversion changed.
        formats: what the endings do not say.

    Raises:
        InputError: a file cannot be read or written, or the target cannot say what the model
            computes.
    """
    formats = formats or Formats()
    config: Any = formats.reading.get("config")
    require_apart(target, "TARGET", source, check, config)
    ours = target.suffix == _OWN and formats.write_as in (None, "tidegate")
    for option, given in (("--dtype", dtype), ("--check", check)):
        if given is not None and not ours:
            raise InputError(f"{option} is for a {_OWN} file, and {target} is none of Tidegate's")
    copied = ours and formats == Formats() and format_of(source) == "tidegate"
    with replacing(target) as part:
        if copied:
            model = load(source) if check else None
            said = _copy(source, target, part, dtype)
        else:
            model, said = convert_aside(source, target, part, **vars(formats))
            if dtype is not None:
                _store(read_model(part), part, dtype)
        if check is not None:
            said += "\n" + compared(model, load(part), check)
    output.print(said)


def _copy(source: Path, target: Path, part: Path, dtype: str | None) -> str:
    """Write a model file of ours to `part`, and say how large both are."""
    _store(read_model(source), part, dtype)
    before, after = source.stat().st_size, part.stat().st_size
    return f"{source} ({before:,} bytes) written as {target} ({after:,} bytes)"


def _store(file: ModelFile, path: Path, dtype: str | None) -> None:
    """Write a model file, its matrices as they were stored, unless another type is asked for."""
    narrow = file.narrow
    if dtype is not None:
        narrow = file.narrow_as(dtype if dtype in STORAGES else None)
    write_model(path, file.kind, file.tensors, file.facts, narrow=narrow)
