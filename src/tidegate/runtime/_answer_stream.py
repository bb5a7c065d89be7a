"""`AnswerStream`: steps of sequences as they come, and after each the answer so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from .._sequences import NumberReader, TextReader
from .._stream_state import pack_state, unpack_state
from ..errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._classifier import Classifier, Network, Regressor

Array = np.ndarray


class AnswerStream:
    """A classifier or regressor that reads a step at a time, and answers after each.

    The answer is the one that the model gives for the sequence so far; of one that answers each
    step, that of this step.

    Example:
        from tidegate.runtime import load

        model = load("model.safetensors")
        stream = model.stream()
        for sample in sequence:
            probabilities = stream.step(sample)  # (classes,)
        label = model.classes[probabilities.argmax()]

    Args:
        model: what answers; one that reads forward only.
        batch: rows, each a sequence of its own; they go on together.

    Attributes:
        steps: how many steps were taken.

    Raises:
        InputError: the model also reads backward.
        ValueError: `batch` is not positive.
    """

    def __init__(self, model: Classifier | Regressor, batch: int = 1):
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        if model.facts["shape"]["bidirectional"]:
            raise InputError(
                "the model also reads backward, from the end of each sequence, and so cannot "
                "answer step by step: train it with bidirectional=False"
            )
        self.model, self.batch = model, batch
        self.reset()

    def step(self, x: ArrayLike | str) -> Array:
        """Read a step of each row; answer for what was read so far.

        Args:
            x: (batch, features), NaN where one is missing; a character a row where the model reads
                texts. One row may come without the axis of rows.

        Returns:
            The probability of each class, (batch, classes); of a regressor, (batch,). One row
            without its axis if it came so.

        Raises:
            InputError: `x` has the wrong shape, is infinite, or is not of the kind that was learnt
                from; nothing has changed.
        """
        steps, alone = self._read(x)
        answers = self._take(steps)
        return answers[0] if alone else answers

    def run(self, x: ArrayLike | str) -> Array:
        """Read many steps, (steps, batch, features), or a text; the answers after each.

        Raises:
            InputError: as `step`; the steps before it were read.
        """
        x = x if isinstance(x, str) else np.asarray(x)
        found = [self.step(one) for one in x]
        if found:
            return np.stack(found)
        alone = isinstance(x, str) or (self.batch == 1 and x.ndim < 3)
        nothing = self.model.answer([reads.answer for reads in self._reads])
        return np.empty((0, *(nothing[0] if alone else nothing).shape))

    def reset(self) -> None:
        """Begin new sequences, in all rows."""
        reader, networks = self.model.reader, self.model.networks
        self.steps = 0
        self._last = np.zeros((self.batch, reader.features))
        self._waiting: list[Array] = []  # steps that are not yet part of a whole read
        self._reads = [_Reads.begin(network, self.batch) for network in networks]

    def to_bytes(self, notes: Mapping[str, str] | None = None) -> bytes:
        """All that was read, to go on from on any machine with `from_bytes`.

        Args:
            notes: words of one's own to keep beside it.
        """
        return pack_state(self.model.fingerprint, self._arrays(), self.steps, notes)

    def from_bytes(self, data: bytes) -> dict[str, str]:
        """Go on from what `to_bytes` gave; nothing changes if it does not fit.

        Returns:
            The notes that were kept beside it.

        Raises:
            InputError: the bytes are damaged, or of another model or number of rows.
        """
        arrays, steps, notes = unpack_state(data, self.model.fingerprint)
        mine = self._arrays()
        waiting = sorted((k for k in arrays if k.startswith("waiting.")), key=lambda k: k[8:])
        for name, array in mine.items():
            if name.startswith("waiting."):
                continue
            if name not in arrays or arrays[name].shape != array.shape:
                raise InputError(f"the state is not of a stream of {self.batch} rows")
        self._last = arrays["last"]
        self._waiting = [arrays[name] for name in waiting]
        self._reads = [
            _Reads(
                [arrays[f"{m}.state.{i}"] for i in range(len(reads.states))],
                *(arrays[f"{m}.{name}"] for name in _POOLED),
            )
            for m, reads in enumerate(self._reads)
        ]
        self.steps = steps
        return notes

    def _arrays(self) -> dict[str, Array]:
        arrays = {"last": self._last}
        arrays |= {f"waiting.{i:06}": step for i, step in enumerate(self._waiting)}
        for member, reads in enumerate(self._reads):
            arrays |= {f"{member}.state.{i}": state for i, state in enumerate(reads.states)}
            arrays |= {f"{member}.{name}": getattr(reads, name) for name in _POOLED}
        return arrays

    def _read(self, x: ArrayLike | str) -> tuple[Array, bool]:
        """One step as the network reads it, and whether it came without the axis of rows."""
        reader = self.model.reader
        if isinstance(reader, TextReader):
            characters = [x] if isinstance(x, str) else np.atleast_1d(x).tolist()
            if not all(isinstance(each, str) and len(each) == 1 for each in characters):
                raise InputError("x must be one character a row")
            _require_rows((len(characters),), (self.batch,))
            return reader.read(characters).x[:, 0], isinstance(x, str)
        numbers = np.asarray(x)
        if numbers.dtype.kind not in "fiu":
            raise InputError(f"x must be numbers, not {numbers.dtype}")
        alone = self.batch == 1 and numbers.ndim < 2
        numbers = numbers.reshape(1, -1) if alone else numbers
        _require_rows(numbers.shape, (self.batch, reader.features))
        if np.isinf(numbers).any():
            raise InputError("x contains infinity; leave missing values as NaN")
        known = np.isfinite(numbers)
        self._last = np.where(known, reader.to_scale(numbers), self._last)
        marks = ~known[:, reader.marked]
        return np.concatenate([self._last, marks], 1), alone

    def _take(self, step: Array) -> Array:
        reader = self.model.reader
        self.steps += 1
        if not isinstance(reader, NumberReader) or reader.stride == 1:
            self._reads = self._after(self._reads, step)
            return self.model.answer([reads.answer for reads in self._reads])
        self._waiting.append(step)
        if len(self._waiting) == 2 * reader.stride:
            self._reads = self._after(self._reads, np.concatenate(self._waiting, 1))
            del self._waiting[: reader.stride]
        reads = self._reads
        for begin in range(0, len(self._waiting), reader.stride):
            some = self._waiting[begin:]
            nothing = [np.zeros_like(step)] * (2 * reader.stride - len(some))
            reads = self._after(reads, np.concatenate([*some, *nothing], 1))
        return self.model.answer([each.answer for each in reads])

    def _after(self, reads: Sequence[_Reads], x: Array) -> list[_Reads]:
        x = x if x.dtype.kind == "i" else x.astype(np.float32)
        pairs = zip(reads, self.model.networks, strict=True)
        return [each.after(network, x) for each, network in pairs]


_POOLED = ("total", "weight", "top", "answer")


@dataclass(frozen=True, eq=False)
class _Reads:
    """Where a network stands: its states, and the weighted mean over all that it has read.

    The weight of a read is `exp(score)`, of which `top` is the largest score so far.
    """

    states: list[Array]
    total: Array
    weight: Array
    top: Array
    answer: Array

    @classmethod
    def begin(cls, network: Network, batch: int) -> Self:
        states, units = network.layers.states(batch), network.head.weight.shape[1]
        rows = np.zeros((batch, 1))
        nothing = np.zeros((batch, len(network.head.weight)), np.float32)
        return cls(states, np.zeros((batch, units)), rows, rows - np.inf, nothing)

    def after(self, network: Network, x: Array) -> _Reads:
        """Where it stands when it has read (batch, inputs) more."""
        output, states = network.layers.step(x, self.states)
        if network.pooling in ("none", "last"):
            pooled = output
            return _Reads(states, self.total, self.weight, self.top, network.head(pooled))
        score = np.zeros((len(output), 1))
        if network.score is not None:
            score = (output @ network.score)[:, None].astype(np.float64)
        top = np.maximum(self.top, score)
        before, now = np.exp(self.top - top), np.exp(score - top)
        total = before * self.total + now * output
        weight = before * self.weight + now
        answer = network.head((total / weight).astype(output.dtype))
        return _Reads(states, total, weight, top, answer)


def _require_rows(shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if shape != wanted:
        raise InputError(f"x must have shape {wanted}, not {shape}")
