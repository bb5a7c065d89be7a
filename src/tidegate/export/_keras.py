"""Keras 3 in and out: what a model's JSON says of its layers, with the weights that stand beside.

Nothing of a file is executed: layers are recognised by name, and functions by the names of Keras'
own.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from .._files import replacing
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
from ..weights import GRUWeights, from_keras, to_keras
from ._bounded import as_real, parse_json, read_bytes, read_zip
from ._hdf5 import HDF5File, Tree, write_hdf5

Array = np.ndarray
Config = Mapping[str, Any]

_CONFIG, _WEIGHTS, _METADATA = "config.json", "model.weights.h5", "metadata.json"
_IDLE = {
    "Dropout",
    "SpatialDropout1D",
    "GaussianNoise",
    "GaussianDropout",
    "ActivityRegularization",
}
# Keras' functions that are ours under one name, with alpha where they have one.
_FUNCTIONS = {
    **{name: (name, 0.0) for name in ("relu", "tanh", "sigmoid", "softmax", "softplus", "silu")},
    "log_softmax": ("log_softmax", 0.0),
    "swish": ("silu", 0.0),
    "elu": ("elu", 1.0),
    "leaky_relu": ("leaky_relu", 0.2),
}


def read_keras(
    path: str | os.PathLike[str], *, config: str | os.PathLike[str] | None = None
) -> Model:
    """Read a model that Keras saved: `.keras`, a whole `.h5`, or `.weights.h5` with its JSON.

    Args:
        path: the file.
        config: of a `.weights.h5`, which holds numbers alone: what `model.to_json()` gave.

    Raises:
        InputError: the file is damaged, or a layer or option is not one that can be carried over
            exactly; it is named.
    """
    path = Path(path)
    data = read_bytes(path)
    if data[:2] == b"PK":
        files = read_zip(data, path, (_CONFIG, _WEIGHTS))
        if set(files) != {_CONFIG, _WEIGHTS}:
            raise InputError(f"{path} is an archive without {_CONFIG} and {_WEIGHTS}")
        described = parse_json(files[_CONFIG], f"{path}: {_CONFIG}")
        return _Reader(path, described, HDF5File(files[_WEIGHTS], f"{path}: {_WEIGHTS}")).model()
    file = HDF5File(data, str(path))
    inside = file.text("model_config")
    if config is not None:
        described = parse_json(read_bytes(config), config)
    elif inside is not None:
        described = parse_json(inside, f"{path}: model_config")
    else:
        raise InputError(
            f"{path} holds weights alone, and neither the order nor the functions of its layers: "
            "give config, the JSON of model.to_json(), or the .keras file"
        )
    return _Reader(path, described, file).model()


def read_weights(path: str | os.PathLike[str], model: Model) -> Model:
    """Read a `.weights.h5` into the layers of a model that it was made of."""
    described, _ = _described(model)
    return _Reader(Path(path), described, HDF5File(read_bytes(path), str(path))).model()


class _Reader:
    """Goes through the layers that the JSON names, and finds the arrays of each."""

    def __init__(self, path: Path, described: Any, file: HDF5File) -> None:
        self.path, self.described = path, described
        self.named = file.arrays("model_weights")  # of a whole .h5, by the names of layers
        self.numbered = file.arrays("layers")  # of Keras 3's, by their classes

    def model(self) -> Model:
        """The stack."""
        try:
            layers = [layer for found in self._chain() for layer in self._layer(*found)]
        except (
            KeyError,
            TypeError,
            AttributeError,
            IndexError,
            ValueError,
            RecursionError,
        ) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.path}: its JSON is not a model of Keras: {error!r}") from None
        if not any(isinstance(layer, GRU) for layer in layers):
            raise InputError(f"{self.path} has no GRU that Tidegate knows")
        try:
            return Model(Stack(layers), batch_first=True)
        except TypeError as error:
            raise InputError(f"{self.path}: {error}") from None

    def _refuse(self, name: str, why: str) -> NoReturn:
        raise InputError(f"{self.path}: layer {name!r} {why}")

    def _chain(self) -> list[tuple[str, Config, Mapping[str, Array]]]:
        """Class, options and arrays of each layer, in the order in which they run."""
        kind, config = self.described["class_name"], self.described["config"]
        if kind not in ("Sequential", "Functional", "Model"):
            raise InputError(f"{self.path} is a {kind}, and a Sequential or Functional is known")
        layers = config["layers"]
        if kind != "Sequential":
            _require_chain(layers, config, self.path)
        found, seen = [], Counter()
        for layer in layers:
            name, options = layer["class_name"], layer["config"]
            if layer.get("registered_name"):
                self._refuse(options.get("name"), f"is {layer['registered_name']}, not Keras' own")
            place = _snake(name)
            number = f"{place}_{seen[place]}" if seen[place] else place
            seen[place] += 1
            found.append((name, options, self._arrays(number, options["name"])))
        return found

    def _arrays(self, number: str, name: str) -> dict[str, Array]:
        arrays, start = (self.named, name) if self.named else (self.numbered, number)
        return {
            path.removeprefix(start + "/"): array
            for path, array in arrays.items()
            if path.startswith(start + "/")
        }

    def _layer(self, kind: str, config: Config, arrays: Mapping[str, Array]) -> list[Layer]:
        if kind == "InputLayer" or kind in _IDLE:
            return []
        if kind not in _READERS:
            known = ", ".join(sorted({*_READERS, *_IDLE}))
            self._refuse(config["name"], f"is a {kind}; known are {known}")
        if config.get("quantization_config") or config.get("lora_rank"):
            self._refuse(config["name"], "is quantised or has LoRA weights")
        return _READERS[kind](self, config, arrays)

    def gru(self, config: Config, arrays: Mapping[str, Array]) -> list[Layer]:
        self._check_gru(config)
        backwards, every = config.get("go_backwards", False), config.get("return_sequences", False)
        if backwards and every:
            self._refuse(
                config["name"],
                "goes backwards and gives every step in the order in which it read them, and "
                "Tidegate gives them in the order of time",
            )
        weights = self._weights(config, arrays)
        return [GRU((weights,), reverse=bool(backwards), final=not every)]

    def rnn(self, config: Config, arrays: Mapping[str, Array]) -> list[Layer]:
        cell = config["cell"]
        if not isinstance(cell, Mapping) or cell["class_name"] != "GRUCell":
            self._refuse(config["name"], "is an RNN of another cell than one GRUCell")
        return self.gru({**cell["config"], **config}, arrays)

    def bidirectional(self, config: Config, arrays: Mapping[str, Array]) -> list[Layer]:
        forward = config["layer"]
        backward = config.get("backward_layer") or forward
        kinds = {forward["class_name"], backward["class_name"]}
        if kinds != {"GRU"} or config["merge_mode"] != "concat":
            self._refuse(
                config["name"],
                f"joins {' and '.join(sorted(kinds))} by {config['merge_mode']!r}, and GRU by "
                "'concat' is known",
            )
        directions = []
        for way, layer in (("forward", forward), ("backward", backward)):
            self._check_gru(layer["config"])
            own = {path: array for path, array in arrays.items() if way in path}
            directions.append(self._weights(layer["config"], own))
        if forward["config"].get("go_backwards"):
            self._refuse(config["name"], "has a forward layer that goes backwards")
        if not backward["config"].get("go_backwards", True) and backward is not forward:
            self._refuse(config["name"], "has a backward layer that goes forwards")
        every = forward["config"].get("return_sequences", False)
        return [GRU(tuple(directions), final=not every)]

    def _check_gru(self, config: Config) -> None:
        gates, candidate = config["recurrent_activation"], config["activation"]
        if gates == "hard_sigmoid":
            self._refuse(
                config["name"],
                "has the gates' function hard_sigmoid, by which old files mean "
                "clip(0.2 x + 0.5) and Keras 3 clip(x / 6 + 0.5); Tidegate has sigmoid",
            )
        if gates != "sigmoid" or candidate != "tanh":
            self._refuse(
                config["name"], f"has functions {gates!r} and {candidate!r}, not sigmoid and tanh"
            )
        for option in ("return_state", "time_major"):
            if config.get(option):
                self._refuse(config["name"], f"has {option}, which a stack of layers has not")

    def _weights(self, config: Config, arrays: Mapping[str, Array]) -> GRUWeights:
        parts = self._parts(
            config, arrays, ("kernel", "recurrent_kernel", "bias"), config["use_bias"]
        )
        after = config.get("reset_after")
        if not isinstance(after, bool):
            self._refuse(
                config["name"], "does not say reset_after, which cannot be seen from weights"
            )
        try:
            return from_keras(*parts, reset_after=after)
        except InputError as error:
            self._refuse(config["name"], f"has weights that do not fit: {error}")

    def _parts(
        self, config: Config, arrays: Mapping[str, Array], names: Sequence[str], last: bool
    ) -> list[Array]:
        """Arrays by their names in a whole .h5, or by their numbers in Keras 3's."""
        names = names if last else names[:-1]
        by_last = {path.rpartition("/")[2].partition(":")[0]: a for path, a in arrays.items()}
        keys = names if self.named else [str(i) for i in range(len(names))]
        if set(by_last) != set(keys):
            found = ", ".join(sorted(arrays)) or "none"
            self._refuse(config["name"], f"needs the arrays {', '.join(names)}; found: {found}")
        return [as_real(by_last[key]) for key in keys]

    def dense(self, config: Config, arrays: Mapping[str, Array]) -> list[Layer]:
        kernel, *bias = self._parts(config, arrays, ("kernel", "bias"), config["use_bias"])
        return [Linear(kernel.T, *bias), *self._function(config, config["activation"])]

    def time_distributed(self, config: Config, arrays: Mapping[str, Array]) -> list[Layer]:
        inner = config["layer"]
        if inner["class_name"] not in ("Dense", "Activation", *_IDLE):
            self._refuse(config["name"], f"holds a {inner['class_name']}; a Dense is known")
        return self._layer(inner["class_name"], inner["config"], arrays)

    def embedding(self, config: Config, arrays: Mapping[str, Array]) -> list[Layer]:
        if config.get("mask_zero"):
            self._refuse(config["name"], f"masks zeros: {_HOLES}")
        return [Embedding(*self._parts(config, arrays, ("embeddings",), True))]

    def layer_normalization(self, config: Config, arrays: Mapping[str, Array]) -> list[Layer]:
        axis = config["axis"] if isinstance(config["axis"], list) else [config["axis"]]
        if axis not in ([-1], [2]) or config.get("rms_scaling"):
            self._refuse(config["name"], "normalises something else than the features")
        named = {"gamma": config.get("scale", True), "beta": config.get("center", True)}
        names = [name for name, there in named.items() if there]
        parts = dict(zip(names, self._parts(config, arrays, names, True), strict=True))
        size = [len(array) for array in parts.values()]
        if not size:
            self._refuse(
                config["name"], "has neither gamma nor beta, so that its size is not known"
            )
        return [LayerNorm(size[0], parts.get("gamma"), parts.get("beta"), config["epsilon"])]

    def activation(self, config: Config, arrays: Mapping[str, Array]) -> list[Layer]:
        return self._function(config, config["activation"])

    def softmax(self, config: Config, arrays: Mapping[str, Array]) -> list[Layer]:
        if config.get("axis", -1) not in (-1, [-1]):
            self._refuse(config["name"], "normalises over another axis than the features")
        return [Activation("softmax")]

    def relu(self, config: Config, arrays: Mapping[str, Array]) -> list[Layer]:
        if config.get("max_value") is not None or config.get("threshold"):
            self._refuse(config["name"], "has a largest value or a threshold")
        slope = config.get("negative_slope") or 0.0
        return [Activation("leaky_relu", slope) if slope else Activation("relu")]

    def leaky_relu(self, config: Config, arrays: Mapping[str, Array]) -> list[Layer]:
        return [Activation("leaky_relu", config["negative_slope"])]

    def elu(self, config: Config, arrays: Mapping[str, Array]) -> list[Layer]:
        return [Activation("elu", config["alpha"])]

    def masking(self, config: Config, arrays: Mapping[str, Array]) -> list[Layer]:
        self._refuse(config["name"], f"makes a mask: {_HOLES}")

    def _function(self, config: Config, name: Any) -> list[Layer]:
        if name in (None, "linear"):
            return []
        if not isinstance(name, str) or name not in _FUNCTIONS:
            said = name if isinstance(name, str) else "of somebody's own"
            known = ", ".join(("linear", *_FUNCTIONS))
            self._refuse(config["name"], f"has the function {said}; known are {known}")
        return [Activation(*_FUNCTIONS[name])]


_HOLES = (
    "a mask of Keras may have holes, over which the state is carried, and lengths cannot say that"
)

_READERS: dict[str, Callable[[_Reader, Config, Mapping[str, Array]], list[Layer]]] = {
    "GRU": _Reader.gru,
    "RNN": _Reader.rnn,
    "Bidirectional": _Reader.bidirectional,
    "Dense": _Reader.dense,
    "TimeDistributed": _Reader.time_distributed,
    "Embedding": _Reader.embedding,
    "LayerNormalization": _Reader.layer_normalization,
    "Activation": _Reader.activation,
    "Softmax": _Reader.softmax,
    "ReLU": _Reader.relu,
    "LeakyReLU": _Reader.leaky_relu,
    "ELU": _Reader.elu,
    "Masking": _Reader.masking,
}


def _require_chain(layers: Sequence[Config], config: Config, path: Path) -> None:
    """Each layer of a Functional model must take the one before, and nothing else."""
    before = None
    for layer in layers:
        sources = _sources(layer["inbound_nodes"])
        name = layer["config"]["name"]
        if sources != ([] if before is None else [before]):
            raise InputError(
                f"{path}: layer {name!r} takes {', '.join(sources) or 'nothing'}, and only a chain "
                f"of layers is known{f', in which it takes {before!r}' if before else ''}"
            )
        before = name
    last = json.dumps(config["output_layers"])
    if json.loads(last) not in ([before, 0, 0], [[before, 0, 0]]):
        raise InputError(f"{path} gives {last}, and only the last layer's output is known")


def _sources(nodes: Any) -> list[str]:
    """Names of the layers whose outputs a layer takes, wherever they stand among its arguments."""
    if isinstance(nodes, Mapping):
        history = nodes.get("keras_history")
        if history is not None:
            return [str(history[0])]
        return [name for value in nodes.values() for name in _sources(value)]
    if isinstance(nodes, list):
        return [name for value in nodes for name in _sources(value)]
    return []


def _snake(name: str) -> str:
    """A class as Keras names its group: LayerNormalization is layer_normalization, GRU gru."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def write_keras(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a model for `keras.models.load_model` (.keras) or `model.load_weights` (.weights.h5).

    A `.keras` file is a Sequential model; the weights alone fit one with the same layers.

    Raises:
        InputError: the file cannot be written, or a layer is none that Keras has.
    """
    described, tree = _described(model)
    weights = write_hdf5(tree)
    path = Path(path)
    if path.suffix != ".keras":
        with replacing(path) as file:
            file.write_bytes(weights)
        return
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr(
            zipfile.ZipInfo(_METADATA), json.dumps({"keras_version": "3.0.0", "date_saved": ""})
        )
        archive.writestr(zipfile.ZipInfo(_CONFIG), json.dumps(described))
        archive.writestr(zipfile.ZipInfo(_WEIGHTS), weights)
    with replacing(path) as file:
        file.write_bytes(held.getvalue())


def _described(model: Model) -> tuple[dict[str, Any], Tree]:
    """The JSON of a Sequential model, and its weights as Keras 3 groups them."""
    stack = model.stack
    width = [stack.input_size] if stack.input_size else []
    first = {"batch_shape": [None, None, *width], "dtype": "float32" if width else "int32"}
    layers = [_part("InputLayer", {**first, "name": "input"})]
    groups: dict[str, Tree] = {}
    seen: Counter[str] = Counter()
    for layer in stack.layers:
        kind, options, arrays = _keras_layer(layer)
        place = _snake(kind)
        number = f"{place}_{seen[place]}" if seen[place] else place
        seen[place] += 1
        layers.append(_part(kind, {"name": number, **options}))
        groups[number] = {"vars": {}, **arrays}
    described = _part("Sequential", {"name": "tidegate", "layers": layers}, "keras")
    described["build_config"] = {"input_shape": first["batch_shape"]}
    return described, {"layers": groups, "vars": {}}


def _part(kind: str, config: dict[str, Any], module: str = "keras.layers") -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": config, "registered_name": None}


def _keras_layer(layer: Layer) -> tuple[str, dict[str, Any], Tree]:
    """Class, options and arrays."""
    match layer:
        case GRU():
            return _keras_gru(layer)
        case Linear():
            bias = [] if layer.bias is None else [layer.bias]
            options = {"units": len(layer.weight), "use_bias": bool(bias), "activation": "linear"}
            return "Dense", options, {"vars": _numbered(layer.weight.T, *bias)}
        case Embedding():
            rows, columns = layer.weight.shape
            options = {"input_dim": rows, "output_dim": columns}
            return "Embedding", options, {"vars": _numbered(layer.weight)}
        case LayerNorm():
            scale, centre = layer.weight is not None, layer.bias is not None
            arrays = [array for array in (layer.weight, layer.bias) if array is not None]
            options = {"axis": -1, "epsilon": layer.eps, "scale": scale, "center": centre}
            return "LayerNormalization", options, {"vars": _numbered(*arrays)}
        case Activation("elu"):
            return "ELU", {"alpha": layer.alpha}, {}
        case Activation("leaky_relu"):
            return "LeakyReLU", {"negative_slope": layer.alpha}, {}
        case Activation():
            return "Activation", {"activation": layer.name}, {}
        case Last() | AddInput():
            raise InputError(f"a Sequential of Keras has no layer for {type(layer).__name__}")


def _keras_gru(layer: GRU) -> tuple[str, dict[str, Any], Tree]:
    if layer.reverse and not layer.final:
        raise InputError(
            "Keras gives the steps of a reverse GRU in the order in which it read them"
        )
    cells = [{"cell": {"vars": _numbered(*to_keras(weights))}} for weights in layer.directions]
    options = {
        "units": layer.hidden_size,
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "use_bias": True,
        "reset_after": layer.directions[0].reset == "after",
        "return_sequences": not layer.final,
        "go_backwards": layer.reverse,
    }
    if len(cells) == 1:
        return "GRU", options, cells[0]
    inner = _part("GRU", {"name": "forward_gru", **options})
    arrays = {"forward_layer": cells[0], "backward_layer": cells[1]}
    return "Bidirectional", {"layer": inner, "merge_mode": "concat"}, arrays


def _numbered(*arrays: Array) -> dict[str, Array]:
    return {str(number): np.asarray(array) for number, array in enumerate(arrays)}
