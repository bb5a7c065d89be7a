"""What `tidegate.classify` saved: labels or numbers from sequences, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from .._model_file import ModelFile
from .._sequences import Batch, Reader, read_sequences, reader_of, softmax
from ..errors import InputError
from ..weights import GRUWeights
from ._layers import GRU, Embedding, Layer, Linear
from ._stack import Stack

Array = np.ndarray

_ROWS = 256  # that are answered at once


@dataclass(frozen=True, eq=False)
class Network:
    """One network: layers, a way from their states to one (or to each step), and an answer."""

    stack: Stack
    head: Linear
    pooling: str
    score: Array | None

    @classmethod
    def of(cls, tensors: Mapping[str, Array], shape: Mapping[str, Any]) -> Self:
        """The network of a file's arrays.

        Raises:
            InputError, KeyError, TypeError, ValueError: they do not fit.
        """
        if shape["cell"] != "gru":
            raise InputError(f"the runtime runs the cell gru, not {shape['cell']}")
        suffixes = ("", "_reverse") if shape["bidirectional"] else ("",)
        layers: list[Layer] = []
        if shape["embedding"]:
            layers.append(Embedding(tensors["embedding.weight"]))
        for number in range(shape["num_layers"]):
            names = [f"_l{number}{suffix}" for suffix in suffixes]
            layers.append(GRU(tuple(_weights(tensors, name) for name in names)))
        head = Linear(tensors["head.weight"], tensors["head.bias"])
        pooling = shape["pooling"]
        score = tensors["score.weight"][0] if pooling == "attention" else None
        return cls(Stack(layers), head, pooling, score)

    def __call__(self, batch: Batch) -> Array:
        """Answers (rows, outputs), or (rows, reads, outputs) for one at each step."""
        x, lengths = np.swapaxes(batch.x, 0, 1), batch.lengths
        states, ends = self.stack.run(x, lengths=lengths)
        states = np.swapaxes(states, 0, 1)
        if self.pooling == "none":
            return self.head(states)
        if self.pooling == "last":
            directions = len(self.stack.recurrent[-1].directions)
            return self.head(np.concatenate(ends[-directions:], 1))
        if self.pooling == "mean":
            return self.head(states.sum(1) / lengths[:, None].astype(states.dtype))
        inside = np.arange(states.shape[1]) < lengths[:, None]
        scores = np.where(inside, states @ self.score, -np.inf)
        return self.head(np.einsum("bt,bth->bh", softmax(scores), states))


class _FromSequences:
    """What classifier and regressor share."""

    def __init__(self, reader: Reader, networks: Sequence[Network], facts: Mapping[str, Any]):
        self.reader, self.networks = reader, networks
        self.per_step = networks[0].pooling == "none"

    @classmethod
    def from_file(cls, file: ModelFile) -> Self:
        """The model that a file holds.

        Raises:
            InputError, KeyError, TypeError, ValueError: its facts and arrays do not fit.
        """
        networks = []
        for member in range(file.facts["arguments"]["members"]):
            prefix = f"{member}."
            mine = {
                n.removeprefix(prefix): t for n, t in file.tensors.items() if n.startswith(prefix)
            }
            networks.append(Network.of(mine, file.facts["shape"]))
        return cls(reader_of(file.tensors, file.facts), networks, file.facts)

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

    def __init__(self, reader: Reader, networks: Sequence[Network], facts: Mapping[str, Any]):
        super().__init__(reader, networks, facts)
        self.classes = np.array(facts["classes"], facts["dtype"])
        self.temperature = float(facts["temperature"])

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

    def _probabilities(self, x: Any) -> list[Array]:
        return [
            np.mean([softmax(logits / self.temperature) for logits in answers], 0)
            for answers in self._answers(x)
        ]


class Regressor(_FromSequences):
    """Numbers of sequences, as the `GRURegressor` that was saved gives them.

    Attributes:
        per_step: whether there is one for each step.
    """

    def __init__(self, reader: Reader, networks: Sequence[Network], facts: Mapping[str, Any]):
        super().__init__(reader, networks, facts)
        self.center, self.spread = float(facts["center"]), float(facts["spread"])

    def __call__(self, x: Any) -> Any:
        """The number of each sequence; a list of arrays where each step has one.

        Raises:
            InputError: the sequences cannot be used, or are not of the kind that was learnt from.
        """
        found = [
            self.center + self.spread * np.mean(answers, 0)[..., 0] for answers in self._answers(x)
        ]
        return found if self.per_step else np.array(found)


def _weights(tensors: Mapping[str, Array], suffix: str) -> GRUWeights:
    def array(kind: str) -> Array:
        return tensors[f"recurrent.{kind}{suffix}"]

    biases = array("bias_ih"), array("bias_hh")
    return GRUWeights(array("weight_ih"), array("weight_hh"), *biases)
