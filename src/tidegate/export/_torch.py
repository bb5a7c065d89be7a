"""State dicts of torch: named tensors, without the order of layers or what is between them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import NoReturn

import numpy as np
import safetensors.numpy

from .._files import replacing
from .._tensors import save_tensors
from ..errors import InputError
from ..runtime import (
    GRU,
    Activation,
    AddInput,
    Embedding,
    Last,
    Layer,
    LayerNorm,
    Linear,
    Model,
    Stack,
)
from ..weights import GRUWeights
from ._bounded import as_real, read_bytes
from ._torch_file import read_torch_file

Array = np.ndarray
State = Mapping[str, Array]

_RECURRENT = re.compile(
    r"(?:(?P<module>.+)\.)?(?P<kind>(?:weight|bias)_[ih]h)(?:_l(?P<layer>\d+)(?P<back>_reverse)?)?"
)
_FUNCTIONS = {
    **dict.fromkeys(("relu", "tanh", "sigmoid", "silu", "softplus", "softmax", "log_softmax"), 0.0),
    "elu": 1.0,
    "leaky_relu": 0.01,
}
_KINDS = ("linear", "embedding", "layer_norm", "gru")
_LARGEST_HEADER = 2**24


def read_torch(
    path: str | os.PathLike[str],
    *,
    layers: Sequence[str] | None = None,
    reset: str = "after",
    batch_first: bool | None = None,
) -> Model:
    """Read a `state_dict` that holds an `nn.GRU` or `nn.GRUCell`, and perhaps layers around it.

    Args:
        path: safetensors; or what `torch.save(module.state_dict())` wrote, which is read without
            torch, and without executing anything in it.
        layers: modules of the file in the order in which they run, with what else happens between:
            names of functions ("relu"), "last" for the last step, "final" for the state after the
            GRU. `KIND:NAME` says what a module is where its tensors do not: "embedding:words".
            Not needed where a GRU is all that the file holds.
        reset: as the GRU has it; torch's is "after".
        batch_first: whether rows come before steps; as torch's, False if None.

    Raises:
        InputError: the file is damaged, tensors do not fit, or `layers` are needed or wrong.
    """
    state, facts = _read_state(Path(path))
    if layers is None and "layers" in facts:
        layers = facts["layers"].split(",")
    first = facts.get("batch_first") == "True" if batch_first is None else batch_first
    return from_state(state, path, layers=layers, reset=reset, batch_first=first)


def from_state(
    state: State,
    name: object,
    *,
    layers: Sequence[str] | None = None,
    reset: str = "after",
    batch_first: bool = False,
) -> Model:
    """The same from tensors as arrays; `name` is what errors call them."""
    reader = _State(state, name, reset)
    try:
        return Model(Stack(reader.layers(layers)), batch_first)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError) and str(error).startswith(str(name)):
            raise
        raise InputError(f"{name}: {error}") from None


class _State:
    """The tensors of a file, sorted by the modules that they belong to."""

    def __init__(self, state: State, name: object, reset: str) -> None:
        self.name, self.reset = name, reset
        self.recurrent: dict[str, dict[tuple[int, bool], dict[str, Array]]] = {}
        self.others: dict[str, dict[str, Array]] = {}
        for key, array in state.items():
            if array.dtype.kind != "f":
                self._refuse(f"tensor {key!r} is of {array.dtype}")
            array = as_real(array)
            match = _RECURRENT.fullmatch(key)
            if match is None:
                module, _, parameter = key.rpartition(".")
                self.others.setdefault(module, {})[parameter] = array
                continue
            place = (int(match["layer"] or 0), match["back"] is not None)
            module = self.recurrent.setdefault(match["module"] or "", {})
            module.setdefault(place, {})[match["kind"]] = array

    def _refuse(self, why: str) -> NoReturn:
        raise InputError(f"{self.name}: {why}")

    def layers(self, names: Sequence[str] | None) -> list[Layer]:
        """Layers in the order of the names, or the only ones there can be."""
        if not self.recurrent:
            found = ", ".join([*self.others][:8]) or "nothing"
            self._refuse(
                f"no tensor is named as those of nn.GRU (weight_ih_l0) or nn.GRUCell (weight_ih); "
                f"it has the modules {found}"
            )
        if names is not None:
            return self._in_order([name.strip() for name in names])
        if len(self.recurrent) == 1 and not self.others:
            return self._gru(next(iter(self.recurrent)))
        modules = [*self.recurrent, *self.others]
        self._refuse(
            f"it holds the modules {', '.join(modules)}, and a state_dict says neither their order "
            f"nor what is between them: give layers, such as {','.join(modules)}"
        )

    def _in_order(self, names: Sequence[str]) -> list[Layer]:
        layers: list[Layer] = []
        for name in names:
            if name == "final" and name not in self.others:
                if not layers or not isinstance(layers[-1], GRU):
                    self._refuse("layers has 'final' elsewhere than right after a GRU")
                layers[-1] = replace(layers[-1], final=True)
            else:
                layers += self._named(name)
        return layers

    def _named(self, name: str) -> list[Layer]:
        kind, _, module = name.rpartition(":")
        if kind and kind not in _KINDS:
            self._refuse(f"layers has {name!r}, and kinds are {', '.join(_KINDS)}")
        if module in self.recurrent and kind in ("", "gru"):
            return self._gru(module)
        if module in self.others:
            return [self._simple(module, kind, self.others[module])]
        if name == "last":
            return [Last()]
        if name in _FUNCTIONS:
            return [Activation(name, _FUNCTIONS[name])]
        modules = ", ".join((*self.recurrent, *self.others))
        functions = ", ".join(("last", "final", *_FUNCTIONS))
        self._refuse(f"layers has {name!r}, which is none of its modules {modules} nor {functions}")

    def _simple(self, module: str, kind: str, arrays: Mapping[str, Array]) -> Layer:
        weight, bias = arrays.get("weight"), arrays.get("bias")
        if weight is None or set(arrays) - {"weight", "bias"}:
            self._refuse(f"module {module!r} has {', '.join(arrays)}, which no layer here has")
        if not kind and weight.ndim == 2 and bias is not None:
            kind = "linear"
        match kind:
            case "linear":
                return Linear(weight, bias)
            case "embedding" if bias is None:
                return Embedding(weight)
            case "layer_norm" if weight.ndim == 1:
                return LayerNorm(len(weight), weight, bias)
        self._refuse(
            f"module {module!r} has a weight of shape {weight.shape}: say what it is, such as "
            f"{'embedding' if weight.ndim == 2 else 'layer_norm'}:{module}"
        )

    def _gru(self, module: str) -> list[Layer]:
        found = self.recurrent[module]
        both = any(back for _, back in found)
        count = 1 + max(layer for layer, _ in found)
        wanted = {(layer, back) for layer in range(count) for back in (False, True)[: 1 + both]}
        if count > len(found) or wanted != set(found):
            self._refuse(f"module {module!r} lacks a layer or a direction")
        extra = [key for key in self.others.get(module, {}) if key.startswith(("norm_", "hx_"))]
        if extra:
            self._refuse(f"module {module!r} has {', '.join(extra)}, which no layer here has")
        ways = (False, True) if both else (False,)
        return [
            GRU(tuple(self._weights(module, found[layer, back]) for back in ways))
            for layer in range(count)
        ]

    def _weights(self, module: str, arrays: Mapping[str, Array]) -> GRUWeights:
        if not {"weight_ih", "weight_hh"} <= set(arrays):
            self._refuse(f"module {module!r} has only {', '.join(arrays)}")
        recurrent = arrays["weight_hh"]
        gates = recurrent.shape[0] / max(recurrent.shape[-1], 1) if recurrent.ndim == 2 else 0
        if gates in (1, 4):
            kind = "a plain RNN" if gates == 1 else "an LSTM"
            self._refuse(f"module {module!r} is {kind}, by the shape {recurrent.shape}")
        return GRUWeights(**arrays, reset=self.reset)


def is_state(names: Iterable[str]) -> bool:
    """Whether tensors are named as those of a GRU of torch."""
    last = {name.rpartition(".")[2] for name in names}
    return any(_RECURRENT.fullmatch(name) for name in last) and "bias_n" not in last


def _read_state(path: Path) -> tuple[State, Mapping[str, str]]:
    data = read_bytes(path)
    if path.suffix == ".safetensors":
        return _from_safetensors(data, path)
    state, others = read_torch_file(data, path)
    if others:
        raise InputError(f"{path} is not a state_dict: {others[0]!r} is no tensor")
    return state, {}


def _from_safetensors(data: bytes, path: Path) -> tuple[State, Mapping[str, str]]:
    length = int.from_bytes(data[:8], "little")
    if length > min(len(data) - 8, _LARGEST_HEADER):
        raise InputError(f"{path} cannot be read as safetensors: its header does not fit into it")
    try:
        state = safetensors.numpy.load(data)
        facts = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except Exception as error:  # whatever a stranger's bytes make it say
        raise InputError(f"{path} cannot be read as safetensors: {error}") from None
    return state, facts


def write_torch(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a `state_dict` in safetensors, for `safetensors.torch.load_file`.

    GRU layers in a row that `nn.GRU` can hold are one module `gru`, others `gru_1` and so on, each
    other kind by its name. The order of the layers stands in the file's metadata.

    Raises:
        InputError: the file cannot be written, or torch's layers cannot compute the model.
    """
    names, tensors = to_state(model)
    facts = {"format": "pt", "layers": ",".join(names), "batch_first": str(model.batch_first)}
    with replacing(Path(path)) as file:
        save_tensors(tensors, file, facts)


def to_state(model: Model) -> tuple[list[str], dict[str, Array]]:
    """Layers by name, as `read_torch` takes them, and the tensors of the modules among them."""
    names: list[str] = []
    tensors: dict[str, Array] = {}

    def module(kind: str) -> str:
        number = sum(name.rpartition(":")[2].startswith(kind) for name in names)
        return f"{kind}_{number}" if number else kind

    for kind, group in groupby(model.stack.layers, _torch_kind):
        run = list(group)
        recurrent = [layer for layer in run if isinstance(layer, GRU)]
        if recurrent:
            names.append(module("gru"))
            tensors |= _gru_tensors(names[-1], recurrent)
            names += ["final"] if recurrent[-1].final else []
            continue
        for layer in run:
            match layer:
                case Linear() | Embedding() | LayerNorm():
                    name = module(kind[0])
                    names.append(f"{kind[0]}:{name}")
                    arrays = {"weight": layer.weight, "bias": getattr(layer, "bias", None)}
                    parts = {f"{name}.{key}": a for key, a in arrays.items() if a is not None}
                    tensors |= {key: np.ascontiguousarray(a) for key, a in parts.items()}
                case Activation():
                    if layer.alpha != _FUNCTIONS[layer.name]:
                        raise InputError(
                            f"a state_dict cannot say that {layer.name} has alpha {layer.alpha}"
                        )
                    names.append(layer.name)
                case Last():
                    names.append("last")
                case AddInput():
                    raise InputError("a state_dict cannot say that the input is added")
    return names, tensors


def _torch_kind(layer: Layer) -> tuple:
    """What may stand in one module of torch together."""
    if not isinstance(layer, GRU):
        return (re.sub("(?<!^)([A-Z])", r"_\1", type(layer).__name__).lower(),)
    if layer.directions[0].reset != "after" or layer.reverse:
        way = "in reverse alone" if layer.reverse else f"with reset {layer.directions[0].reset!r}"
        raise InputError(f"torch.nn.GRU cannot run {way}")
    return "gru", layer.hidden_size, len(layer.directions)


def _gru_tensors(name: str, run: Sequence[GRU]) -> dict[str, Array]:
    return {
        f"{name}.{kind}_l{number}{back}": np.ascontiguousarray(array)
        for number, layer in enumerate(run)
        for back, weights in zip(("", "_reverse"), layer.directions, strict=False)
        for kind, array in zip(
            ("weight_ih", "weight_hh", "bias_ih", "bias_hh"), weights.arrays, strict=True
        )
    }
