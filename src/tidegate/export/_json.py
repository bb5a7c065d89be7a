"""Models in JSON: RTNeural's, GuitarML's, and state dicts of torch as nested lists."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._files import replacing
from .._tensors import under
from ..errors import InputError
from ..runtime import GRU, Activation, AddInput, Layer, Linear, Model, Stack
from ..weights import from_keras, to_keras
from ._bounded import parse_json, read_bytes
from ._torch import from_state, to_state

Array = np.ndarray

_KNOWN = (
    "RTNeural's (in_shape and layers), GuitarML's (model_data and state_dict), and a state_dict of "
    "torch (weight_ih_l0 and so on)"
)
# RTNeural's functions; its ELU has alpha 1.
_RTNEURAL = {
    **dict.fromkeys(("tanh", "relu", "sigmoid", "softmax"), 0.0),
    "elu": 1.0,
}


def read_json(
    path: str | os.PathLike[str],
    *,
    layers: Sequence[str] | None = None,
    reset: str = "after",
    batch_first: bool | None = None,
) -> Model:
    """Read a model in JSON, of whichever of the known layouts it is.

    Args:
        path: the file.
        layers, reset, batch_first: of a plain state_dict, as in `read_torch`.

    Raises:
        InputError: the file is damaged, of no known layout, or has what cannot be carried over.
    """
    content = parse_json(read_bytes(path), path)
    keys = set(content) if isinstance(content, dict) else set()
    try:
        if {"in_shape", "layers"} <= keys:
            return _from_rtneural(content, path)
        if {"model_data", "state_dict"} <= keys:
            return _from_guitarml(content, path)
        if any("weight_ih" in key for key in keys):
            state = {key: _numbers(value, f"{path}: {key}") for key, value in content.items()}
            first = bool(batch_first)
            return from_state(state, path, layers=layers, reset=reset, batch_first=first)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not as its layout has it: {error!r}") from None
    found = ", ".join(sorted(keys)[:8]) or type(content).__name__
    raise InputError(f"{path} is JSON of a layout that is not known ({found}); known are {_KNOWN}")


def _numbers(value: Any, name: str) -> Array:
    try:
        array = np.array(value, np.float64)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{name} is not an array of numbers") from None
    if not np.all(np.abs(array) < np.finfo(np.float32).max):
        raise InputError(f"{name} has numbers that float32 cannot hold")
    return array.astype(np.float32)


def _from_rtneural(content: Mapping[str, Any], path: object) -> Model:
    layers: list[Layer] = []
    for number, described in enumerate(content["layers"]):
        name = f"{path}: layer {number}"
        arrays = [_numbers(array, name) for array in described.get("weights", [])]
        layers += _rtneural_layer(described, arrays, name)
    stack = Stack(layers)
    if content["in_shape"][-1] != stack.input_size:
        raise InputError(
            f"{path} says in_shape {content['in_shape']}, and its first layer takes "
            f"{stack.input_size} features"
        )
    return Model(stack, batch_first=True)


def _rtneural_layer(described: Mapping[str, Any], arrays: list[Array], name: str) -> list[Layer]:
    kind, function = described["type"], described.get("activation", "")
    match kind:
        case "gru":
            if function not in ("", "tanh"):
                raise InputError(f"{name} is a GRU with the function {function!r}, not tanh")
            if len(arrays) != 3 or arrays[2].ndim != 2:
                raise InputError(f"{name} is a GRU without its two rows of biases")
            return [GRU((from_keras(*arrays, reset_after=True),))]
        case "dense" | "time-distributed-dense":
            if len(arrays) not in (1, 2):
                raise InputError(f"{name} is a Dense with {len(arrays)} arrays")
            return [Linear(arrays[0].T, *arrays[1:]), *_rtneural_function(function, name)]
        case "activation":
            return _rtneural_function(function, name)
    known = "gru, dense, time-distributed-dense and activation"
    raise InputError(f"{name} is of type {kind!r}; known are {known}")


def _rtneural_function(function: str, name: str) -> list[Layer]:
    if not function:
        return []
    if function not in _RTNEURAL:
        raise InputError(f"{name} has the function {function!r}; known are {', '.join(_RTNEURAL)}")
    return [Activation(function, _RTNEURAL[function])]


def _from_guitarml(content: Mapping[str, Any], path: object) -> Model:
    facts, state = content["model_data"], content["state_dict"]
    arrays = {key: _numbers(value, f"{path}: {key}") for key, value in state.items()}
    match facts["model"]:
        case "SimpleRNN":
            blocks = [("", facts["unit_type"], facts["skip"])]
        case "RecNet":
            if facts["skip"]:
                raise InputError(f"{path} is a RecNet with a skip around all its blocks")
            blocks = [
                (f"layers.block_{int(number) + 1}.", block["block_type"], block.get("skip", 1))
                for number, block in sorted(
                    content["blocks"].items(), key=lambda item: int(item[0])
                )
            ]
        case other:
            raise InputError(f"{path} is a {other!r}; known are SimpleRNN and RecNet")
    layers: list[Layer] = []
    for prefix, kind, skip in blocks:
        if kind != "GRU":
            raise InputError(f"{path} is of {kind}, not GRU")
        if skip and prefix not in ("", "layers.block_1."):
            raise InputError(f"{path} has a skip around a block that is not the first")
        own = under(prefix, arrays)
        modules = ["rec", "lin" if "lin.bias" in own else "linear:lin"]
        layers += from_state(own, path, layers=modules).stack.layers
        layers += [AddInput(int(skip))] if skip else []
    return Model(Stack(layers), batch_first=False)


def write_rtneural(model: Model, path: str | os.PathLike[str]) -> None:
    """Write RTNeural's JSON.

    Raises:
        InputError: the file cannot be written, or RTNeural has no such layer.
    """
    width = model.stack.input_size
    described = []
    for layer in model.stack.layers:
        match layer:
            case GRU(final=False, reverse=False) if len(layer.directions) == 1:
                arrays = to_keras(_after(layer).directions[0])
                described.append(_described("gru", "", layer.hidden_size, arrays))
            case Linear():
                bias = np.zeros(len(layer.weight)) if layer.bias is None else layer.bias
                arrays = (layer.weight.T, bias)
                described.append(_described("dense", "", len(layer.weight), arrays))
            case Activation() if _RTNEURAL.get(layer.name) == layer.alpha:
                shape = described[-1]["shape"][-1] if described else width
                described.append(_described("activation", layer.name, shape, ()))
            case _:
                raise InputError(f"RTNeural has no layer that is {layer_name(layer)}")
    _write(path, {"in_shape": [None, None, width], "layers": described})


def _described(kind: str, function: str, size: int, arrays: Sequence[Array]) -> dict[str, Any]:
    weights = [array.astype(np.float32).tolist() for array in arrays]
    shape = [None, None, size]
    return {"type": kind, "activation": function, "shape": shape, "weights": weights}


def write_guitarml(model: Model, path: str | os.PathLike[str]) -> None:
    """Write the JSON of GuitarML and CoreAudioML: one GRU, a linear layer, and perhaps a skip.

    Raises:
        InputError: the file cannot be written, or the model is of another shape.
    """
    layers = list(model.stack.layers)
    added = layers.pop() if isinstance(layers[-1], AddInput) else None
    *before, head = layers
    recurrent = [layer for layer in before if isinstance(layer, GRU)]
    plain = len(recurrent) == len(before) and all(len(gru.directions) == 1 for gru in recurrent)
    sizes = {gru.hidden_size for gru in recurrent}
    if not plain or not isinstance(head, Linear) or len(sizes) != 1:
        raise InputError("GuitarML's models are one nn.GRU of one direction and a linear layer")
    _, tensors = to_state(Model(Stack(layers)))
    if any(layer.final for layer in recurrent):
        raise InputError("GuitarML's models give every step, and this one the final state alone")
    names = {"gru": "rec", "linear": "lin"}
    state = {
        f"{names[module]}.{rest}": array.astype(np.float32).tolist()
        for module, rest, array in ((*key.split(".", 1), array) for key, array in tensors.items())
    }
    facts = {
        "model": "SimpleRNN",
        "input_size": model.stack.input_size,
        "skip": added.columns if isinstance(added, AddInput) else 0,
        "output_size": model.stack.output_size,
        "unit_type": "GRU",
        "num_layers": len(recurrent),
        "hidden_size": recurrent[0].hidden_size,
        "bias_fl": head.bias is not None,
    }
    _write(path, {"model_data": facts, "state_dict": state})


def _after(layer: GRU) -> GRU:
    if layer.directions[0].reset != "after":
        reset = layer.directions[0].reset
        raise InputError(f"RTNeural's GRU has reset 'after' only, and this one {reset!r}")
    return layer


def layer_name(layer: Layer) -> str:
    """A layer as errors name it."""
    match layer:
        case GRU():
            ways = "of two directions" if len(layer.directions) == 2 else "of one direction"
            ends = " that gives its final state alone" if layer.final else ""
            return f"a GRU {'in reverse' if layer.reverse else ways}{ends}"
        case Activation():
            return f"the function {layer.name} (alpha {layer.alpha:g})"
    return f"of the kind {type(layer).__name__}"


def _write(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    with replacing(Path(path)) as file:
        file.write_text(json.dumps(content), "utf-8")
