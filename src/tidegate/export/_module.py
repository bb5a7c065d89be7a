"""`save_model`: a torch module as a model file that needs no torch.

The module's `forward` is followed symbolically (torch.fx), from its input through one layer after
the other; then both are run on random numbers, and a file is only written if they agree.
"""

from __future__ import annotations

import copy
import inspect
import operator
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from .. import runtime as rt
from ..errors import InputError
from ..weights import GRUWeights

_STEPS, _ROWS, _ALLOWED = 7, 3, 1e-4


def save_model(module: nn.Module, path: str | os.PathLike[str]) -> rt.Model:
    """Write a torch module to a model file, for `tidegate.runtime.load`.

    It may be a GRU or GRUCell of torch or ours, a Sequential, or any module whose `forward` leads
    from its first argument through GRUs, Linear, Embedding and LayerNorm layers and activations,
    one after the other: `output, h_n = self.gru(x)`, then `output[:, -1]` or `h_n[-1]`, a head,
    and perhaps `+ x`. Dropout is left out. A Sequential's layer after a GRU reads its output.

    >>> import tempfile
    >>> from tidegate.runtime import load
    >>> module = nn.Sequential(nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = save_model(module, f"{folder}/model.safetensors")
    ...     model = load(f"{folder}/model.safetensors")
    >>> model(np.ones((4, 5, 3))).shape
    (4, 5, 2)

    Returns:
        What was written.

    Raises:
        InputError: the module does what the file cannot say, or the file cannot be written.
        TypeError: it is no module.
    """
    model = from_module(module)
    model.save(path)
    return model


def from_module(module: nn.Module) -> rt.Model:
    """The layers that a torch module computes, checked by running both.

    Raises:
        InputError: the module does what a stack of layers cannot say.
        TypeError: it is no module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, but it is a {type(module).__name__}")
    try:
        still = copy.deepcopy(module).to("cpu").eval()
    except Exception as error:  # whatever a part of it says
        why = " ".join(str(error).split())
        raise InputError(f"{_name(module)} cannot be copied, to be followed: {why}") from None
    if any(p.dtype in (torch.bfloat16, torch.float16) for p in still.parameters()):
        still = still.float()
    path = _follow(still)
    try:
        model = rt.Model(rt.Stack(path.layers), batch_first=bool(path.batch_first))
    except TypeError as error:
        raise InputError(f"{_name(module)} cannot be carried: {error}") from None
    _check(still, model)
    return model


@dataclass(frozen=True)
class _Path:
    """What a value in `forward` is: the layers from the input to it, and what of the last one.

    `what` is "steps" (a value at each step), "end" (one for a row), "gru" (what a GRU returns),
    "states" (its h_n), "state" (one of them) or "begin" (a state that came in).
    """

    layers: tuple[rt.Layer, ...] = ()
    what: str = "steps"
    batch_first: bool | None = None
    depth: int = 0  # layers of the last GRU
    state: int = 0

    def then(self, *layers: rt.Layer) -> _Path:
        return replace(self, layers=(*self.layers, *layers))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.GRU | nn.GRUCell) or super().is_leaf_module(
            m, module_qualified_name
        )


def _follow(module: nn.Module) -> _Path:
    if isinstance(module, nn.GRU | nn.GRUCell) or type(module) in _MODULES:
        return _steps_of(_of_module(module, _Path()))
    if type(module) is nn.Sequential:
        path = _Path()
        for layer in module:
            path = _of_any(layer, path)
        return _steps_of(path)
    parameters = inspect.signature(module.forward).parameters.values()
    given = {p.name: p.default for p in parameters if p.default is not p.empty}
    try:
        graph = _Tracer().trace(module, concrete_args=given)
    except Exception as error:
        raise InputError(
            f"the forward of {_name(module)} cannot be followed from layer to layer: "
            f"{' '.join(str(error).split()) or type(error).__name__}"
        ) from None
    return _walk(module, graph)


def _of_any(layer: nn.Module, path: _Path) -> _Path:
    if type(layer) is nn.Sequential:
        for inner in layer:
            path = _of_any(inner, path)
        return path
    return _of_module(layer, path)


def _walk(module: nn.Module, graph: fx.Graph) -> _Path:
    """Give each value of the graph its path, and return that of the result."""
    known: dict[fx.Node, Any] = {}
    inputs = 0
    for node in graph.nodes:
        arguments = fx.node.map_arg(node.args, lambda n: known[n])
        options = fx.node.map_arg(node.kwargs, lambda n: known[n])
        if node.op == "placeholder":
            known[node] = _Path() if inputs == 0 else _Path(what="begin")
            inputs += 1
        elif node.op == "output":
            result = arguments[0]
            return _steps_of(result[0] if isinstance(result, tuple | list) else result)
        elif node.op == "call_module":
            inner = module.get_submodule(str(node.target))
            known[node] = _of_module(inner, *arguments, **options)
        elif (carried := _CALLS.get(node.op, {}).get(node.target)) is not None:
            try:
                known[node] = carried(*arguments, **options)
            except TypeError:  # an argument that its table entry does not have
                raise InputError(
                    f"{_called(node)} with these arguments, in the forward of {_name(module)}, "
                    "cannot be carried"
                ) from None
        elif not _called(node).startswith("_assert"):  # that a default was not given
            raise InputError(f"{_called(node)} in the forward of {_name(module)} cannot be carried")
    raise InputError(f"the forward of {_name(module)} returns nothing")


def _called(node: fx.Node) -> str:
    target = node.target
    return str(target) if isinstance(target, str) else getattr(target, "__name__", str(target))


def _of_module(module: nn.Module, path: Any, *rest: Any, **options: Any) -> _Path:
    """One layer more."""
    if not isinstance(path, _Path):
        raise InputError(f"{_name(module)} reads something that does not come from the input")
    if isinstance(module, nn.GRU | nn.GRUCell):
        begins = [*rest, *options.values()]
        if any(b is not None and getattr(b, "what", "") not in ("begin", "state") for b in begins):
            raise InputError(f"{_name(module)} is given more than its input")
        return _of_gru(module, _steps_of(path))
    for kind, layers in _MODULES.items():
        if isinstance(module, kind) and type(module).forward is kind.forward:
            return _steps_of(path).then(*layers(module))
    raise InputError(f"a {_name(module)} cannot be carried")


def _of_gru(module: nn.GRU | nn.GRUCell, path: _Path) -> _Path:
    for option, none in _REFUSED.items():
        if getattr(module, option, none) != none:
            raise InputError(f"a GRU with {option} = {getattr(module, option)!r} cannot be carried")
    reset = getattr(module, "reset", "after")
    if isinstance(module, nn.GRUCell):
        weights = _weights(module, "", reset)
        return replace(path.then(rt.GRU((weights,))), what="steps")
    if path.batch_first not in (None, module.batch_first):
        raise InputError("GRUs of which some are batch_first and some not cannot be carried")
    suffixes = ("", "_reverse")[: 1 + module.bidirectional]
    layers = [
        rt.GRU(tuple(_weights(module, f"_l{layer}{suffix}", reset) for suffix in suffixes))
        for layer in range(module.num_layers)
    ]
    return replace(
        path.then(*layers), what="gru", batch_first=module.batch_first, depth=len(layers)
    )


_REFUSED = {
    "zoneout": 0.0,
    "layer_norm": False,
    "learn_hx": False,
    "stack": "plain",
    "proj_size": 0,
}


def _weights(module: nn.Module, suffix: str, reset: str) -> GRUWeights:
    names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else [])]
    return GRUWeights(*(_array(getattr(module, name + suffix)) for name in names), reset=reset)


def _array(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.detach().numpy().copy()


def _embedding(module: nn.Embedding) -> list[rt.Layer]:
    if module.max_norm is not None:
        raise InputError("an Embedding with max_norm cannot be carried")
    return [rt.Embedding(_array(module.weight))]


def _layer_norm(module: nn.LayerNorm) -> list[rt.Layer]:
    if len(module.normalized_shape) != 1:
        raise InputError("a LayerNorm over more than the last axis cannot be carried")
    weight, bias = _array(module.weight), _array(module.bias)
    return [rt.LayerNorm(module.normalized_shape[0], weight, bias, module.eps)]


def _over_last(name: str) -> Callable[[Any], list[rt.Layer]]:
    def layers(module: Any) -> list[rt.Layer]:
        return [_last_axis(name, module.dim)]

    return layers


def _last_axis(name: str, dim: Any) -> rt.Activation:
    # Any other number of the last axis depends on how many there are.
    if dim != -1:
        raise InputError(f"{name} must be over the last axis, dim=-1, not {dim}")
    return rt.Activation(name)


def _softplus(module: Any) -> list[rt.Layer]:
    if module.beta != 1:
        raise InputError("a Softplus with beta other than 1 cannot be carried")
    return [rt.Activation("softplus")]


_MODULES: dict[type[nn.Module], Callable[[Any], list[rt.Layer]]] = {
    nn.Linear: lambda m: [rt.Linear(_array(m.weight), _array(m.bias))],
    nn.Embedding: _embedding,
    nn.LayerNorm: _layer_norm,
    nn.ReLU: lambda m: [rt.Activation("relu")],
    nn.LeakyReLU: lambda m: [rt.Activation("leaky_relu", m.negative_slope)],
    nn.ELU: lambda m: [rt.Activation("elu", m.alpha)],
    nn.Tanh: lambda m: [rt.Activation("tanh")],
    nn.Sigmoid: lambda m: [rt.Activation("sigmoid")],
    nn.SiLU: lambda m: [rt.Activation("silu")],
    nn.Softplus: _softplus,
    nn.Softmax: _over_last("softmax"),
    nn.LogSoftmax: _over_last("log_softmax"),
    nn.Dropout: lambda m: [],
    nn.Identity: lambda m: [],
}


def _steps_of(path: Any) -> _Path:
    """What a layer reads where it is given this: of a GRU's result the output, of h_n its end."""
    if not isinstance(path, _Path) or path.what == "begin":
        raise InputError("the result of forward does not come from its first argument")
    if path.what == "gru":
        return replace(path, what="steps")
    if path.what in ("states", "state"):
        return _end_of(path, path.state if path.what == "state" else None)
    return path


def _end_of(path: _Path, state: int | None) -> _Path:
    """The state of the last layer of a GRU with one direction; no other can go on alone."""
    gru = path.layers[-1]
    assert isinstance(gru, rt.GRU)
    count = path.depth * len(gru.directions)
    if len(gru.directions) == 2 or (state is None and count > 1) or state not in (None, count - 1):
        raise InputError(
            "of h_n only the last state can be carried, h_n[-1], and of two directions both, "
            "torch.cat([h_n[-2], h_n[-1]], dim=-1)"
        )
    return replace(path, layers=(*path.layers[:-1], replace(gru, final=True)), what="end")


def _item(path: Any, key: Any) -> Any:
    if not isinstance(path, _Path):
        return path[key]
    if path.what == "gru" and key in (0, 1):
        return replace(path, what="steps" if key == 0 else "states")
    if path.what == "states" and isinstance(key, int):
        count = path.depth * len(getattr(path.layers[-1], "directions", ()))
        return replace(path, what="state", state=key % count)
    everything = slice(None)
    keys = list(key) if isinstance(key, tuple) else [key]
    while len(keys) > 1 and keys[-1] in (everything, ...):
        keys.pop()
    if path.what == "steps" and not path.layers and isinstance(keys[-1], slice):
        columns = keys[-1]
        if keys[:-1] in ([...], [everything, everything]) and columns.start in (None, 0):
            return _Path(what="input", state=columns.stop)
    if path.what == "steps" and keys == ([everything, -1] if path.batch_first else [-1]):
        return replace(path.then(rt.Last()), what="end")
    raise InputError(f"[{key}] of a {path.what} cannot be carried")


def _add(a: Any, b: Any, *, alpha: float = 1) -> _Path:
    def is_input(path: Any) -> bool:
        return isinstance(path, _Path) and not path.layers and path.what in ("steps", "input")

    if is_input(a):
        a, b = b, a
    if alpha != 1 or not is_input(b) or not isinstance(a, _Path):
        raise InputError("only the input, or its first columns, can be added to a layer's output")
    path = _steps_of(a)
    size = rt.Stack(path.layers).output_size
    if b.what == "input" and b.state != size:
        raise InputError(f"{b.state} columns of the input are added to {size} features")
    return path.then(rt.AddInput(size))


def _cat(paths: Any, dim: int = 0) -> _Path:
    a, b = (*paths, None, None)[:2]
    if isinstance(a, _Path) and isinstance(b, _Path) and a.layers and len(paths) == 2:
        gru, last = a.layers[-1], 2 * a.depth - 1
        two = isinstance(gru, rt.GRU) and len(gru.directions) == 2 and a.layers == b.layers
        states = a.what == b.what == "state" and (a.state, b.state) == (last - 1, last)
        if two and states and dim in (1, -1):
            layers = (*a.layers[:-1], replace(gru, final=True))
            return replace(a, layers=layers, what="end")
    raise InputError("only the two last states of a GRU in two directions can be put side by side")


def _squeeze(path: _Path, dim: int | None = None) -> _Path:
    if path.what != "states" or dim != 0:
        raise InputError("squeeze of anything but h_n's first axis cannot be carried")
    return _end_of(path, None)


def _activation(name: str) -> Callable[..., _Path]:
    def apply(path: Any, *, inplace: bool = False) -> _Path:
        return _steps_of(path).then(rt.Activation(name))

    return apply


def _softmax(name: str) -> Callable[..., _Path]:
    def apply(path: Any, dim: Any = None, **options: Any) -> _Path:
        return _steps_of(path).then(_last_axis(name, dim))

    return apply


def _unchanged(path: Any, *rest: Any, **options: Any) -> Any:
    return path


_METHODS: dict[str, Callable[..., Any]] = {
    "relu": _activation("relu"),
    "tanh": _activation("tanh"),
    "sigmoid": _activation("sigmoid"),
    "softmax": _softmax("softmax"),
    "log_softmax": _softmax("log_softmax"),
    "squeeze": _squeeze,
    "contiguous": _unchanged,
}
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    operator.getitem: _item,
    operator.add: _add,
    torch.add: _add,
    torch.cat: _cat,
    torch.relu: _activation("relu"),
    torch.tanh: _activation("tanh"),
    torch.sigmoid: _activation("sigmoid"),
    torch.softmax: _softmax("softmax"),
    torch.log_softmax: _softmax("log_softmax"),
    F.relu: _activation("relu"),
    F.silu: _activation("silu"),
    F.softplus: _activation("softplus"),
    F.softmax: _softmax("softmax"),
    F.log_softmax: _softmax("log_softmax"),
    F.dropout: _unchanged,
}
_CALLS: dict[str, dict[Any, Callable[..., Any]]] = {
    "call_function": _FUNCTIONS,
    "call_method": {**_METHODS},
}


@torch.no_grad()
def _check(module: nn.Module, model: rt.Model) -> None:
    """Run both on random numbers; the runtime's states begin at zero, and so do torch's."""
    stack = model.stack
    generator = torch.Generator().manual_seed(0)
    shape = (_ROWS, _STEPS) if model.batch_first else (_STEPS, _ROWS)
    by_steps = any(isinstance(m, nn.GRUCell) for m in module.modules())
    if by_steps:
        shape = (1, _ROWS)
    if isinstance(stack.layers[0], rt.Embedding):
        count = len(stack.layers[0].weight)
        x = torch.randint(count, shape, generator=generator)
    else:
        dtype = torch.float64 if stack.dtype == np.float64 else torch.float32
        x = torch.randn(*shape, stack.input_size, generator=generator, dtype=dtype)
    expected = _run(module, x[0])[None] if by_steps else _run(module, x)
    found = torch.from_numpy(np.ascontiguousarray(model(x.numpy())))
    if found.shape != expected.shape:
        raise InputError(
            f"{_name(module)} gives shape {tuple(expected.shape)} where its layers give "
            f"{tuple(found.shape)}: it does something that cannot be carried"
        )
    error = (found - expected).abs().max() / max(1.0, expected.abs().max().item())
    if not error <= _ALLOWED:
        raise InputError(
            f"{_name(module)} does something that cannot be carried: its layers alone are "
            f"{error:.2g} from what it gives"
        )


def _run(module: nn.Module, x: Tensor) -> Tensor:
    """What the module gives; of several results the first."""
    if type(module) is nn.Sequential:
        for layer in module:
            x = _run(layer, x)
        return x
    result = module(x)
    return result[0] if isinstance(result, tuple) else result


def _name(module: nn.Module) -> str:
    return type(module).__name__
