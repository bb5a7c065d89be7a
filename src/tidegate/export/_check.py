"""What was converted, in a sentence; and a model run beside the file that was made of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .._files import replacing, require_apart
from ..errors import InputError
from ..runtime import GRU, Activation, AddInput, Embedding, Last, Layer, LayerNorm, Linear, Model
from ._formats import FORMATS, read, target_of, title, write

Array = np.ndarray

_TIME, _BATCH = 16, 3
# Rounding of float32 over so few steps stays far below, and another equation far above.
_ALLOWED = 1e-4


def describe(model: Model) -> str:
    """The layers of a model, in a line."""
    return ", ".join(_name(layer) for layer in model.stack.layers)


def _name(layer: Layer) -> str:
    match layer:
        case GRU():
            ways = "bidirectional " if len(layer.directions) == 2 else ""
            ways = "reverse " if layer.reverse else ways
            reset = layer.directions[0].reset
            gate = "no reset gate" if reset == "none" else f"reset {reset} the product"
            end = ", final state" if layer.final else ""
            return f"{ways}GRU {layer.input_size} to {layer.hidden_size} ({gate}{end})"
        case Linear():
            return f"Linear {layer.weight.shape[1]} to {len(layer.weight)}"
        case Embedding():
            return f"Embedding of {len(layer.weight)} to {layer.weight.shape[1]}"
        case LayerNorm():
            return f"LayerNorm of {layer.size}"
        case Activation():
            return layer.name
        case Last():
            return "last step"
        case AddInput():
            return f"plus input {'1' if layer.columns == 1 else f'1 to {layer.columns}'}"


def check_file(model: Model, path: Path, format: str) -> str:
    """Read a file that was made of a model, run both on random numbers, and say how far apart.

    Raises:
        InputError: they are further apart than rounding brings them.
    """
    x = example(model)
    y = model.stack(x)
    apart = _apart(y, _read_back(model, path, format).stack(x))
    _require(apart, "the file, read back,")
    said = f"read back, it answers random input with at most {apart:.2g} of difference"
    if format == "onnx" and (runtime := _by_onnxruntime(path, model, x)) is not None:
        apart = _apart(y, runtime)
        _require(apart, "ONNX Runtime")
        said += f", ONNX Runtime with {apart:.2g}"
    return said


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    read_as: str | None = None,
    write_as: str | None = None,
    reading: Mapping[str, object] | None = None,
    writing: Mapping[str, object] | None = None,
) -> str:
    """Convert a file, check the result by running it, and say in a sentence what was done.

    Args:
        source: the file to read.
        target: where to write; if the check fails, nothing is written.
        read_as: format of the source; found from the file if None.
        write_as: format of the target; what its name means if None.
        reading: options of the source's reader.
        writing: options of the target's writer.

    Raises:
        InputError: as `read` and `write`, or the result does not compute the same; or the target
            is the source.
    """
    require_apart(target, "the target", source)
    with replacing(Path(target)) as part:
        _, said = convert_aside(
            Path(source),
            Path(target),
            part,
            read_as=read_as,
            write_as=write_as,
            reading=reading,
            writing=writing,
        )
    return said


def convert_aside(
    source: Path,
    target: Path,
    part: Path,
    *,
    read_as: str | None = None,
    write_as: str | None = None,
    reading: Mapping[str, object] | None = None,
    writing: Mapping[str, object] | None = None,
) -> tuple[Model, str]:
    """`convert`, written to `part`, of the same name as `target`: the model, and the sentence.

    Raises:
        InputError: as `convert`.
    """
    to = target_of(target) if write_as is None else write_as
    model = read(source, read_as, **(reading or {}))
    came = title(source, read_as)
    write(model, part, to, **(writing or {}))
    said = f"; {check_file(model, part, to)}" if FORMATS[to].reader else ""
    made = FORMATS[to].title
    return model, f"{source} ({came}): {describe(model)}; written to {target} as {made}{said}"


def example(model: Model) -> Array:
    """Random input, time first."""
    rng, stack = np.random.default_rng(0), model.stack
    if stack.input_size:
        return rng.standard_normal((_TIME, _BATCH, stack.input_size)).astype(stack.dtype)
    rows = next(len(layer.weight) for layer in stack.layers if isinstance(layer, Embedding))
    return rng.integers(0, rows, (_TIME, _BATCH))


def _read_back(model: Model, path: Path, format: str) -> Model:
    if format == "keras" and path.suffix != ".keras":
        from ._keras import read_weights

        return read_weights(path, model)
    resets = [layer.directions[0].reset for layer in model.stack.recurrent]
    return read(path, format, **({"reset": resets[0]} if format == "stacked" else {}))


def _apart(y: Array, z: Array) -> float:
    if y.shape != z.shape:
        raise InputError(f"the conversion failed: outputs of shape {z.shape}, not {y.shape}")
    return float(np.abs(y - z).max(initial=0))


def _require(apart: float, what: str) -> None:
    if not apart <= _ALLOWED:
        raise InputError(f"the conversion failed: {what} is {apart:.2g} away from the model")


def _by_onnxruntime(path: Path, model: Model, x: Array) -> Array | None:
    """The answer of ONNX Runtime, time first; None where it is not installed."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        given = x if x.dtype.kind == "i" else x.astype(np.float32)
        feeds = {"x": given.swapaxes(0, 1) if model.batch_first else given}
        sizes = iter(model.stack.recurrent)
        for wanted in session.get_inputs():
            if wanted.name == "lengths":
                feeds["lengths"] = np.full(_BATCH, _TIME, np.int32)
            elif wanted.name.startswith("h_0"):
                layer = next(sizes)
                shape = (len(layer.directions), _BATCH, layer.hidden_size)
                feeds[wanted.name] = np.zeros(shape, np.float32)
        y = np.asarray(session.run(None, feeds)[0])
    except Exception as error:  # it has exceptions of its own
        raise InputError(f"the conversion failed: ONNX Runtime says: {error}") from None
    return y.swapaxes(0, 1) if model.batch_first and y.ndim == 3 else y
