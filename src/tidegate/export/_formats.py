"""Which formats are known, by name and by the ending of a file, and who reads and writes them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from .._model_file import FORMAT, words_of_kind
from ..errors import InputError
from ..runtime import Model, load
from ._bounded import parse_json


class Format(NamedTuple):
    """How a format is called, and the functions, "module:name" here, imported when asked for.

    A reader takes a path and options by name, and returns a `Model`; a writer takes a `Model`, a
    path and options.
    """

    title: str
    endings: tuple[str, ...]
    reader: str  # or nothing: it is only written
    writer: str
    written: tuple[str, ...] = ()  # endings, where not all that are read


def _cells(title: str) -> Format:
    return Format(title, (".npz", ".safetensors"), "_cells:read_cells", "_cells:write_cells")


FORMATS: dict[str, Format] = {
    "tidegate": Format("Tidegate", (".safetensors",), "_formats:_read_own", "_formats:_write_own"),
    "onnx": Format("ONNX", (".onnx",), "_onnx_read:read_onnx_stack", "_onnx_write:write_onnx"),
    "keras": Format("Keras", (".keras", ".h5"), "_keras:read_keras", "_keras:write_keras"),
    "torch": Format(
        "a state_dict of torch",
        (".safetensors", ".pt", ".pth", ".bin", ".json"),
        "_torch:read_torch",
        "_torch:write_torch",
        (".safetensors",),
    ),
    "rtneural": Format("RTNeural", (".json",), "_json:read_json", "_json:write_rtneural"),
    "guitarml": Format("GuitarML", (".json",), "_json:read_json", "_json:write_guitarml"),
    "equinox": Format(
        "Equinox", (".eqx", ".npz", ".safetensors"), "_cells:read_cells", "_cells:write_cells"
    ),
    "flax": _cells("Flax Linen"),
    "nnx": _cells("Flax NNX"),
    "haste": _cells("haste"),
    "keras-arrays": _cells("Keras' arrays"),
    "tf1": _cells("TensorFlow 1"),
    "ng": _cells("Ng's course"),
    "stacked": _cells("stacked matrices"),
    "c": Format("a C99 header", (".h",), "", "_c_header:write_header"),
}
_CELLS = tuple(name for name, each in FORMATS.items() if each.reader == "_cells:read_cells")


def read(path: str | os.PathLike[str], format: str | None = None, **options: Any) -> Model:
    """The stack of layers in a file of any format that is known.

    Args:
        path: the file.
        format: one of `FORMATS`; found from the file if None.
        options: of the format's own reader, such as `layers` of a state_dict.

    Raises:
        InputError: the format is not known, the file is damaged, or it holds what cannot be
            carried exactly.
    """
    path = Path(path)
    name = format_of(path) if format is None else _known(format)
    if name in _CELLS:
        options["layout"] = None if format is None else name
    elif name == "torch" and path.suffix == ".json":
        name = "rtneural"  # one reader for all JSON
    model: Model = _call(name, FORMATS[name].reader, "read", (path,), options)
    for array, numbers in model.stack.arrays():
        if not numbers.size:
            raise InputError(f"{path}: {array} has shape {numbers.shape}, and no numbers")
    return model


def write(
    model: Model, path: str | os.PathLike[str], format: str | None = None, **options: Any
) -> None:
    """Write a stack of layers.

    Args:
        model: what to write.
        path: where to write it.
        format: one of `FORMATS`; what the ending of `path` means if None.
        options: of the format's own writer.

    Raises:
        InputError: the format is not known, or cannot say what the model computes.
    """
    path = Path(path)
    name = target_of(path) if format is None else _known(format)
    allowed = FORMATS[name].written or FORMATS[name].endings
    if path.suffix.lower() not in allowed:
        endings = " or ".join(allowed)
        raise InputError(f"{path}: {name} is written to files that end in {endings}")
    if name in _CELLS:
        options["layout"] = name
    _call(name, FORMATS[name].writer, "written", (model, path), options)


def format_of(path: Path) -> str:
    """The format of a file that is there, by its ending and, where that is not enough, its names.

    Raises:
        InputError: no format has such files.
    """
    ending = path.suffix.lower()
    if ending == ".safetensors":
        return _of_safetensors(path)
    if ending == ".npz":
        return "stacked"  # any of the cells: their reader looks at the names
    names = [name for name, each in FORMATS.items() if ending in each.endings and each.reader]
    if not names:
        known = ", ".join(sorted({e for f in FORMATS.values() if f.reader for e in f.endings}))
        raise InputError(f"{path}: files that end in {known} can be read, but not {ending!r}")
    return names[0] if ending != ".json" else "rtneural"


def target_of(path: Path) -> str:
    """The format in which a file of that name is written.

    Raises:
        InputError: there is none, or several.
    """
    ending = path.suffix.lower()
    if ending == ".safetensors":
        return "tidegate"
    names = [name for name, each in FORMATS.items() if ending in (each.written or each.endings)]
    if not names:
        known = ", ".join(sorted({e for f in FORMATS.values() for e in f.written or f.endings}))
        raise InputError(f"{path}: files that end in {known} can be written, but not {ending!r}")
    if len(names) > 1:
        raise InputError(f"{path} may be {' or '.join(names)}: say which with --to, or format=")
    return names[0]


def title(path: Path, format: str | None) -> str:
    """What a file is called; where several formats share an ending, by what they have in common."""
    shared = {".json": "JSON", ".npz": "named arrays"}
    if format is None and path.suffix in shared:
        return shared[path.suffix]
    return FORMATS[format or format_of(path)].title


def _known(name: str) -> str:
    if name not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, not {name!r}")
    return name


def _call(name: str, where: str, done: str, given: tuple, options: dict[str, Any]) -> Any:
    """Call a reader or writer with the options that were given, all of which it must have."""
    module, _, function = where.partition(":")
    call: Callable[..., Any] = getattr(import_module(f".{module}", __package__), function)
    options = {option: value for option, value in options.items() if value is not None}
    has = [p.name for p in inspect.signature(call).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in has:
            own = ", ".join(each for each in has if each != "layout") or "none"
            title = FORMATS[name].title
            raise InputError(f"{option} is no option with which {title} is {done}; it has {own}")
    return call(*given, **options)


def _of_safetensors(path: Path) -> str:
    from ._torch import is_state

    names, facts = _header(path)
    if facts.get("format") == FORMAT or not names:
        return "tidegate"  # whose reader also says what is wrong with a damaged file
    return "torch" if is_state(names) else "stacked"


def _header(path: Path) -> tuple[list[str], dict[str, Any]]:
    """Names and metadata of a safetensors file; nothing where it is none."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(length) if length <= 2**24 else b""
        content = parse_json(header, path)
        facts = content.pop("__metadata__", {})
        return list(content), facts if isinstance(facts, dict) else {}
    except (OSError, InputError, AttributeError, TypeError):
        return [], {}


def _read_own(path: Path) -> Model:
    model = load(path)
    if not isinstance(model, Model):
        raise InputError(
            f"{path} holds {words_of_kind(model.kind)}, which is more than a stack of layers: "
            "it can only be converted to another .safetensors file"
        )
    return model


def _write_own(model: Model, path: Path) -> None:
    model.save(path)
