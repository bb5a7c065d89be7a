"""`Model`: a stack of layers in a file, called as the torch module that it was."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import __version__
from .._model_file import ModelFile, narrow_as, write_model
from ..errors import InputError
from ..weights import GRUWeights
from ._layers import GRU, Activation, AddInput, Embedding, Last, Layer, LayerNorm, Linear
from ._stack import Stack, scalars_of
from ._stream import Stream

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy.typing import ArrayLike

Array = np.ndarray

_LAYERS = {
    "gru": GRU,
    "linear": Linear,
    "embedding": Embedding,
    "layer_norm": LayerNorm,
    "activation": Activation,
    "last": Last,
    "add_input": AddInput,
}
# What the facts of a layer may be, by the annotation of its field.
_PLAIN = {"str": str, "int": int, "float": int | float, "bool": bool}


class Model:
    """A stack of layers that runs without torch.

    >>> from tidegate.runtime import GRU, Linear, Stack
    >>> from tidegate.weights import GRUWeights
    >>> weights = GRUWeights(np.ones((3, 2)), np.ones((3, 1)))
    >>> model = Model(Stack([GRU((weights,)), Linear(np.ones((4, 1)))]), batch_first=True)
    >>> model(np.ones((3, 5, 2))).shape
    (3, 5, 4)

    Attributes:
        stack: its layers.
        batch_first: whether rows come before steps in what it takes and gives.
    """

    kind = "stack"

    def __init__(self, stack: Stack, batch_first: bool = False):
        self.stack = stack
        self.batch_first = batch_first

    def __call__(
        self,
        x: ArrayLike,
        hx: Sequence[Float[Array, "batch hidden"]] | None = None,
        lengths: Int[Array, " batch"] | None = None,
    ) -> Array:
        """Run it over `x`; see `run`."""
        return self.run(x, hx, lengths)[0]

    def run(
        self,
        x: ArrayLike,
        hx: Sequence[Float[Array, "batch hidden"]] | None = None,
        lengths: Int[Array, " batch"] | None = None,
    ) -> tuple[Array, list[Array]]:
        """Run it over `x`; return its output, and the state of each direction of each layer.

        Args:
            x: (time, batch, features), or (batch, time, features) if it is `batch_first`; without
                the batch for one row; without the features where it takes whole numbers.
            hx: where each state begins, (batch, hidden) each, forward before backward, layer by
                layer, as in torch's `h_n`; zeros if None.
            lengths: steps of each row. What is given for steps past it is zero.

        Raises:
            InputError: a shape is wrong, a length is outside the sequence, or a whole number is
                none of those that the model knows.
        """
        x = np.asarray(x)
        alone = x.ndim == 1 + (self.stack.input_size > 0)
        if alone:
            x = x[:, None]
            hx = None if hx is None else [np.asarray(h)[None] for h in hx]
        elif self.batch_first and x.ndim > 1:
            x = x.swapaxes(0, 1)
        y, states = self.stack.run(x, hx, lengths)
        if alone:
            y, states = y[:, 0] if self.stack.gives_sequence else y[0], [h[0] for h in states]
        elif self.batch_first and self.stack.gives_sequence:
            y = y.swapaxes(0, 1)
        return y, states

    def stream(
        self,
        batch: int = 1,
        *,
        hx: Sequence[Float[Array, "batch hidden"]] | None = None,
        missing: str = "refuse",
        threads: int = 1,
        storage: str = "native",
    ) -> Stream:
        """Run it step by step, for `batch` rows at once; see `Stream`.

        Raises:
            InputError: it reads backward, or `hx` does not fit.
            ValueError: an argument is out of range.
        """
        return Stream(self.stack, batch, hx=hx, missing=missing, threads=threads, storage=storage)

    def save(self, path: str | os.PathLike[str], dtype: str | None = None) -> None:
        """Write it to one safetensors file.

        Args:
            path: where.
            dtype: store the matrices as "bfloat16" or "int8"; as they are if None or "float32".

        Raises:
            InputError: the file cannot be written, or its numbers are not float32.
        """
        facts = {
            "version": __version__,
            "batch_first": self.batch_first,
            "layers": [_facts(layer) for layer in self.stack.layers],
        }
        arrays = dict(self.stack.arrays())
        narrow = narrow_as(arrays, None if dtype == "float32" else dtype)
        write_model(Path(path), self.kind, arrays, facts, narrow=narrow)

    @classmethod
    def from_file(cls, file: ModelFile) -> Self:
        """The model that a file of kind "stack" holds.

        Raises:
            InputError, KeyError, TypeError, ValueError: its facts and arrays do not fit.
        """
        arrays: list[dict[str, Array]] = [{} for _ in file.facts["layers"]]
        for name, array in file.tensors.items():
            number, _, rest = name.partition(".")
            if not number.isdecimal() or int(number) >= len(arrays):
                raise InputError(f"{name} is of no layer")
            arrays[int(number)][rest] = array
        layers = map(_layer, file.facts["layers"], arrays)
        return cls(Stack(list(layers)), bool(file.facts["batch_first"]))


def _facts(layer: Layer) -> dict[str, Any]:
    """All of a layer but its arrays."""
    name = next(name for name, kind in _LAYERS.items() if isinstance(layer, kind))
    return {"type": name, **scalars_of(layer)}


def _layer(facts: Mapping[str, Any], arrays: dict[str, Array]) -> Layer:
    """The layer of a file's facts and arrays."""
    rest: dict[str, Any] = dict(facts)
    name = rest.pop("type")
    if name not in _LAYERS:
        raise InputError(f"a layer of type {name!r} is not known to this version ({__version__})")
    kind = _LAYERS[name]
    for f in fields(kind):
        plain = _PLAIN.get(str(f.type), object)
        if not isinstance(rest.get(f.name, f.default), plain):
            raise InputError(f"{f.name} of a layer of type {name!r} cannot be {rest[f.name]!r}")
    if kind is not GRU:
        rest |= arrays
        return kind(**rest)
    reset, back = rest.pop("reset"), "reverse."
    forward = {name: array for name, array in arrays.items() if not name.startswith(back)}
    backward = {n.removeprefix(back): array for n, array in arrays.items() if n.startswith(back)}
    weights = [GRUWeights(**arrays, reset=reset) for arrays in (forward, backward) if arrays]
    return GRU(tuple(weights), **rest)
