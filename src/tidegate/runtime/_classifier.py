"""What `tidegate.classify` saved: labels or numbers from sequences, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from .._model_file import ModelFile
from .._sequences import Batch, Reader, from_scaled, read_sequences, reader_of, softmax
from .._stream_state import fingerprint
from .._tensors import under
from ..errors import InputError
from ..ops import min_gru
from ..weights import GRUWeights
from ._answer_stream import AnswerStream
from ._layers import GRU, Embedding, Layer, Linear
from ._stack import Stack

Array = np.ndarray

_ROWS = 256  # that are answered at once


class Layers(Protocol):
    """Recurrent layers: from a batch to the states of its steps, and to its last ones."""

    def __call__(self, batch: Batch) -> tuple[Array, Array]:
        """(rows, reads, units), and (rows, units)."""
        ...

    def states(self, batch: int) -> list[Array]:
        """Where a sequence begins."""
        ...

    def step(self, x: Array, states: list[Array]) -> tuple[Array, list[Array]]:
        """From one read of each row to the last layer's states, and to those of all layers."""
        ...


@dataclass(frozen=True, eq=False)
class GRULayers:
    """A stack of GRU layers."""

    stack: Stack

    @classmethod
    def of(cls, tensors: Mapping[str, Array], shape: Mapping[str, Any]) -> Self:
        """The layers of a file's arrays."""
        layers: list[Layer] = []
        if shape["embedding"]:
            layers.append(Embedding(tensors["embedding.weight"]))
        for names in _names(shape):
            layers.append(GRU(tuple(_weights(tensors, name) for name in names)))
        return cls(Stack(layers))

    def __call__(self, batch: Batch) -> tuple[Array, Array]:
        """See `Layers`."""
        states, ends = self.stack.run(np.swapaxes(batch.x, 0, 1), lengths=batch.lengths)
        directions = len(self.stack.recurrent[-1].directions)
        return np.swapaxes(states, 0, 1), np.concatenate(ends[-directions:], 1)

    def states(self, batch: int) -> list[Array]:
        """See `Layers`."""
        return [np.zeros((batch, size), np.float32) for size in self.stack.state_sizes]

    def step(self, x: Array, states: list[Array]) -> tuple[Array, list[Array]]:
        """See `Layers`."""
        y, after = self.stack.run(x[None], states)
        return y[0], after


@dataclass(frozen=True, eq=False)
class MinGRULayers:
    """Layers of minGRUs: weight and bias of each direction of each."""

    embedding: Array | None
    layers: Sequence[Sequence[tuple[Array, Array]]]

    @classmethod
    def of(cls, tensors: Mapping[str, Array], shape: Mapping[str, Any]) -> Self:
        """The layers of a file's arrays."""
        kinds = ("recurrent.weight_ih", "recurrent.bias_ih")
        layers = [
            [(tensors[kinds[0] + name], tensors[kinds[1] + name]) for name in names]
            for names in _names(shape)
        ]
        return cls(tensors["embedding.weight"] if shape["embedding"] else None, layers)

    def __call__(self, batch: Batch) -> tuple[Array, Array]:
        """See `Layers`."""
        x = batch.x if self.embedding is None else self.embedding[batch.x]
        x = ends = np.swapaxes(x, 0, 1)
        for directions in self.layers:
            found = [
                min_gru(x, None, *weights, lengths=batch.lengths, reverse=bool(number))
                for number, weights in enumerate(directions)
            ]
            x, ends = (np.concatenate(parts, -1) for parts in zip(*found, strict=True))
        return np.swapaxes(x, 0, 1), ends

    def states(self, batch: int) -> list[Array]:
        """See `Layers`."""
        return [
            np.zeros((batch, len(bias) // 2), np.float32)
            for directions in self.layers
            for _, bias in directions
        ]

    def step(self, x: Array, states: list[Array]) -> tuple[Array, list[Array]]:
        """See `Layers`."""
        y, after = (x if self.embedding is None else self.embedding[x])[None], []
        for ((weight, bias),), state in zip(self.layers, states, strict=True):
            y, end = min_gru(y, state, weight, bias)
            after.append(end)
        return y[0], after


_CELLS = {"gru": GRULayers, "mingru": MinGRULayers}


@dataclass(frozen=True, eq=False)
class Network:
    """One network: layers, a way from their states to one (or to each step), and an answer."""

    layers: Layers
    head: Linear
    pooling: str
    score: Array | None

    @classmethod
    def of(cls, tensors: Mapping[str, Array], shape: Mapping[str, Any]) -> Self:
        """The network of a file's arrays.

        Raises:
            InputError, KeyError, TypeError, ValueError: they do not fit.
        """
        if shape["cell"] not in _CELLS:
            raise InputError(f"the runtime runs {' and '.join(_CELLS)}, not {shape['cell']}")
        head = Linear(tensors["head.weight"], tensors["head.bias"])
        pooling = shape["pooling"]
        score = tensors["score.weight"][0] if pooling == "attention" else None
        return cls(_CELLS[shape["cell"]].of(tensors, shape), head, pooling, score)

    def __call__(self, batch: Batch) -> Array:
        """Answers (rows, outputs), or (rows, reads, outputs) for one at each step."""
        states, last = self.layers(batch)
        lengths = batch.lengths
        if self.pooling == "none":
            return self.head(states)
        if self.pooling == "last":
            return self.head(last)
        if self.pooling == "mean":
            return self.head(states.sum(1) / lengths[:, None].astype(states.dtype))
        inside = np.arange(states.shape[1]) < lengths[:, None]
        scores = np.where(inside, states @ self.score, -np.inf)
        return self.head(np.einsum("bt,bth->bh", softmax(scores), states))


class _FromSequences:
    """What classifier and regressor share.

    Attributes:
        facts: all that the file says of the model, but arrays.
        tensors: the arrays of the file.
        per_step: whether it answers for each step.
    """

    def __init__(self, reader: Reader, networks: Sequence[Network], file: ModelFile):
        self.reader, self.networks = reader, networks
        self.facts, self.tensors = file.facts, file.tensors
        self.per_step = networks[0].pooling == "none"

    @classmethod
    def from_file(cls, file: ModelFile) -> Self:
        """The model that a file holds.

        Raises:
            InputError, KeyError, TypeError, ValueError: its facts and arrays do not fit.
        """
        networks = []
        for member in range(file.facts["arguments"]["members"]):
            mine = under(f"{member}.", file.tensors)
            networks.append(Network.of(mine, file.facts["shape"]))
        return cls(reader_of(file.tensors, file.facts), networks, file)

    @property
    def fingerprint(self) -> str:
        """A digest of all that it is."""
        return fingerprint(self.facts, sorted(self.tensors.items()))

    def answer(self, answers: Sequence[Array]) -> Array:
        """What is said, from what each network answers, (..., outputs)."""
        raise NotImplementedError

    def _answers(self, x: Any) -> Iterator[list[Array]]:
        """For each sequence what each network says of it."""
        sequences = read_sequences(x)
        features = 0 if isinstance(sequences[0], str) else sequences[0].shape[1]
        learnt = self.reader.features
        if features != learnt:
            raise InputError(
                f"x has {features or 'no'} features at each step, but the model has learnt from "
                f"{learnt or 'texts'}"
            )
        for start in range(0, len(sequences), _ROWS):
            batch = self.reader.read(sequences[start : start + _ROWS])
            answers = [network(batch).astype(np.float64) for network in self.networks]
            for row, length in enumerate(batch.lengths):
                yield [a[row, :length] if self.per_step else a[row] for a in answers]


class Classifier(_FromSequences):
    """Labels of sequences, as the `GRUClassifier` that was saved gives them.

    Attributes:
        classes: the labels.
        per_step: whether there is one for each step.
    """

    kind = "classifier"

    def __init__(self, reader: Reader, networks: Sequence[Network], file: ModelFile):
        super().__init__(reader, networks, file)
        self.classes = np.array(file.facts["classes"], file.facts["dtype"])
        self.temperature = float(file.facts["temperature"])

    def __call__(self, x: Any) -> Any:
        """The label of each sequence; a list of arrays where each step has one.

        Args:
            x: as `GRUClassifier.predict` takes it, but for frames.

        Raises:
            InputError: the sequences cannot be used, or are not of the kind that was learnt from.
        """
        labels = [self.classes[p.argmax(-1)] for p in self._probabilities(x)]
        return labels if self.per_step else np.array(labels, self.classes.dtype)

    def probabilities(self, x: Any) -> Any:
        """The probability of each class, as `GRUClassifier.predict_proba` gives it.

        Raises:
            InputError: as `__call__`.
        """
        found = self._probabilities(x)
        return found if self.per_step else np.stack(found)

    def stream(self, batch: int = 1) -> AnswerStream:
        """Let it read a step at a time, of `batch` sequences at once; see `AnswerStream`.

        Raises:
            InputError: it also reads backward.
            ValueError: `batch` is not positive.
        """
        return AnswerStream(self, batch)

    def _probabilities(self, x: Any) -> list[Array]:
        return [self.answer(answers) for answers in self._answers(x)]

    def answer(self, answers: Sequence[Array]) -> Array:
        """The probabilities, from what each network answers."""
        logits = (each.astype(np.float64) / self.temperature for each in answers)
        return np.mean([softmax(each) for each in logits], 0)


class Regressor(_FromSequences):
    """Numbers of sequences, as the `GRURegressor` that was saved gives them.

    Attributes:
        per_step: whether there is one for each step.
    """

    kind = "regressor"

    def __init__(self, reader: Reader, networks: Sequence[Network], file: ModelFile):
        super().__init__(reader, networks, file)
        self.center, self.spread = float(file.facts["center"]), float(file.facts["spread"])

    def __call__(self, x: Any) -> Any:
        """The number of each sequence; a list of arrays where each step has one.

        Raises:
            InputError: the sequences cannot be used, or are not of the kind that was learnt from.
        """
        found = [self.answer(answers) for answers in self._answers(x)]
        return found if self.per_step else np.array(found)

    def stream(self, batch: int = 1) -> AnswerStream:
        """Let it read a step at a time, of `batch` sequences at once; see `AnswerStream`.

        Raises:
            InputError: it also reads backward.
            ValueError: `batch` is not positive.
        """
        return AnswerStream(self, batch)

    def answer(self, answers: Sequence[Array]) -> Array:
        """The numbers, from what each network answers."""
        mean = np.mean([each.astype(np.float64) for each in answers], 0)
        return from_scaled(mean[..., 0], self.center, self.spread)


def _weights(tensors: Mapping[str, Array], suffix: str) -> GRUWeights:
    def array(kind: str) -> Array:
        return tensors[f"recurrent.{kind}{suffix}"]

    biases = array("bias_ih"), array("bias_hh")
    return GRUWeights(array("weight_ih"), array("weight_hh"), *biases)


def _names(shape: Mapping[str, Any]) -> list[list[str]]:
    """The ends of the names of each layer's arrays, direction by direction."""
    suffixes = ("", "_reverse") if shape["bidirectional"] else ("",)
    return [[f"_l{n}{suffix}" for suffix in suffixes] for n in range(shape["num_layers"])]
