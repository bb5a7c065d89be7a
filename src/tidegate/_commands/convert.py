"""`tidegate convert`: a model from one format to another, or to narrower numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .._model_file import STORAGES, ModelFile, read_model, write_model
from ..errors import InputError
from ..export import convert
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
    ours = target.suffix == _OWN and formats.write_as in (None, "tidegate")
    for option, given in (("--dtype", dtype), ("--check", check)):
        if given is not None and not ours:
            raise InputError(f"{option} is for a {_OWN} file, and {target} is none of Tidegate's")
    before = source.stat().st_size if source.is_file() else 0
    if ours and formats == Formats() and format_of(source) == "tidegate":
        file = read_model(source)
        write_model(target, file.kind, file.tensors, file.facts, narrow=_narrow(file, dtype))
        after = target.stat().st_size
        output.print(f"{source} ({before:,} bytes) written as {target} ({after:,} bytes)")
        model = load(source) if check else None
    else:
        output.print(convert(source, target, **vars(formats)))
        model = load(target) if check else None
        if dtype is not None:
            file = read_model(target)
            write_model(target, file.kind, file.tensors, file.facts, narrow=_narrow(file, dtype))
    if check is not None:
        output.print(compared(model, load(target), check))


def _narrow(file: ModelFile, dtype: str | None) -> Mapping[str, str]:
    """How each matrix of a file is stored; as it was, unless another type is asked for."""
    if dtype is None:
        return file.narrow
    return file.narrow_as(dtype if dtype in STORAGES else None)
