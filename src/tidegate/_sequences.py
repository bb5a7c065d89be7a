"""Sequences of unequal lengths: as users give them, and as a network reads them.

What a classifier learns of its inputs before its network learns anything: scales, or characters.
NumPy alone, since a saved model is run without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any, NamedTuple

import numpy as np

from .errors import InputError

Array = np.ndarray

UNKNOWN = 0  # the number of every character that was not there in training
_LARGEST = 1e30  # of a scaled number: a network sums many in float32


def mean_and_spread(values: Array, known: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of known values over the first axis, whatever their size."""
    largest = np.abs(np.where(known, values, 0)).max(0, initial=0)
    unit = np.exp2(np.frexp(largest)[1] - 1.0)  # a power of two: it changes no digit
    count = np.maximum(known.sum(0), 1)
    scaled = np.where(known, values / unit, 0)
    mean = scaled.sum(0) / count
    variance = np.square(np.where(known, scaled - mean, 0)).sum(0) / count
    return mean * unit, np.sqrt(variance) * unit


def from_scaled(answers: Array, center: float, spread: float) -> Array:
    """Answers in the user's numbers, of which those past the largest are the largest."""
    limit = np.finfo(np.float64).max
    with np.errstate(over="ignore"):
        return np.clip(center + spread * answers, -limit, limit)


class Batch(NamedTuple):
    """Rows side by side; what lies past a row's length is zero."""

    x: Array  # float32 (rows, reads, inputs), or int64 (rows, reads) of characters
    lengths: Array  # int64 (rows,), in reads


@dataclass(frozen=True)
class NumberReader:
    """Reads (time, features) arrays: each feature by its own scale, missing values marked.

    A missing value is taken as the last one known, and before that as the mean; a feature that had
    some in training has a second number beside it that says so.

    Args:
        mean: of each feature over all steps in training.
        scale: its standard deviation; one where it is constant.
        marked: features with missing values in training.
        stride: steps between two reads. With more than one, a read sees twice as many, so that
            neighbours overlap by half.
    """

    mean: Array
    scale: Array
    marked: Array
    stride: int = 1

    @classmethod
    def learn(cls, sequences: Sequence[Any], stride: int = 1) -> NumberReader:
        """Scales of sequences (time, features)."""
        steps = np.concatenate(sequences).astype(np.float64)
        known = np.isfinite(steps)
        mean, spread = mean_and_spread(steps, known)
        scale = np.where(spread > 1e-12 * np.maximum(np.abs(mean), 1e-300), spread, 1.0)
        return cls(mean, scale, np.logical_not(known.all(0)), stride)

    @property
    def features(self) -> int:
        """Of a step, as the user has them."""
        return len(self.mean)

    @property
    def inputs(self) -> int:
        """Numbers that the network reads at once."""
        steps = 1 if self.stride == 1 else 2 * self.stride
        return steps * (self.features + int(self.marked.sum()))

    def reads(self, steps: int) -> int:
        """How often a sequence of so many steps is read."""
        return -(-steps // self.stride)

    def read(self, sequences: Sequence[Any]) -> Batch:
        """Sequences (time, features) as one batch."""
        lengths = np.array([self.reads(len(sequence)) for sequence in sequences], np.int64)
        x = np.zeros((len(sequences), int(lengths.max(initial=0)), self.inputs), np.float32)
        for row, sequence in enumerate(sequences):
            x[row, : lengths[row]] = self._windows(self._scaled(sequence))
        return Batch(x, lengths)

    def to_scale(self, steps: Array) -> Array:
        """Steps by the features' scales, as far as float32 takes them."""
        with np.errstate(over="ignore"):
            return np.clip((steps - self.mean) / self.scale, -_LARGEST, _LARGEST)

    def _scaled(self, sequence: Array) -> Array:
        known = np.isfinite(sequence)
        values = np.where(known, self.to_scale(sequence), 0.0)
        if not known.all():
            step = np.arange(len(values))[:, None]
            last = np.maximum.accumulate(np.where(known, step, -1))
            carried = np.take_along_axis(values, np.maximum(last, 0), 0)
            values = np.where(last >= 0, carried, 0.0)
        if self.marked.any():
            values = np.concatenate([values, ~known[:, self.marked]], 1)
        return values

    def _windows(self, values: Array) -> Array:
        """(reads, inputs): the steps of each read side by side, zeros past the end."""
        if self.stride == 1:
            return values
        reads, width = self.reads(len(values)), 2 * self.stride
        padded = np.zeros(((reads + 1) * self.stride, values.shape[1]))
        padded[: len(values)] = values
        starts = np.arange(reads)[:, None] * self.stride
        return padded[starts + np.arange(width)].reshape(reads, -1)


@dataclass(frozen=True)
class TextReader:
    """Reads text by its characters.

    Args:
        characters: those that were there in training, from number 1 on.
    """

    characters: str

    @classmethod
    def learn(cls, texts: Sequence[Any]) -> TextReader:
        """The characters of texts, in the order of Unicode."""
        return cls("".join(sorted(set().union(*texts))))

    @property
    def features(self) -> int:
        """Of a step: none that are numbers."""
        return 0

    @property
    def inputs(self) -> int:
        """Numbers that a character may have."""
        return len(self.characters) + 1

    def reads(self, steps: int) -> int:
        """How often a text of so many characters is read."""
        return steps

    def read(self, texts: Sequence[Any]) -> Batch:
        """Texts as one batch of numbers."""
        number = {character: i for i, character in enumerate(self.characters, 1)}
        lengths = np.array([len(text) for text in texts], np.int64)
        x = np.zeros((len(texts), int(lengths.max(initial=0))), np.int64)
        for row, text in enumerate(texts):
            x[row, : len(text)] = [number.get(character, UNKNOWN) for character in text]
        return Batch(x, lengths)


Reader = NumberReader | TextReader


def reader_of(tensors: dict[str, Array], facts: dict[str, Any]) -> Reader:
    """The reader of a model file.

    Raises:
        KeyError, TypeError: the file lacks a part of it.
    """
    if "characters" in facts:
        return TextReader(facts["characters"])
    return NumberReader(tensors["mean"], tensors["scale"], tensors["marked"], facts["stride"])


def softmax(logits: Array) -> Array:
    """Over the last axis."""
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def read_sequences(x: Any) -> list[Array] | list[str]:
    """Sequences (time, features) from arrays or a list of arrays, or texts from a list of texts.

    Raises:
        InputError: they are empty, infinite, no numbers, or differ in their features.
        TypeError: they are sparse, or hold objects.
    """
    if hasattr(x, "toarray"):
        raise TypeError(
            "X is a sparse matrix, but dense data is required: a sequence has a value at each "
            "step; use X.toarray()"
        )
    if isinstance(x, str):
        raise InputError("X is one text, where a list of texts was expected")
    if _are_texts(x):
        texts = [str(text) for text in x]
        _check_not_empty(texts)
        return texts
    whole = x if isinstance(x, np.ndarray) else None
    if whole is None and hasattr(x, "__array__"):
        whole = np.asarray(x)
    if whole is not None and whole.dtype != object:
        return _from_array(whole)
    if not isinstance(x, Sequence | np.ndarray):
        raise InputError(f"X must be a list of arrays or of texts, but it is {type(x).__name__}")
    if len(x) and all(isinstance(row, Number) or getattr(row, "ndim", 1) == 0 for row in x):
        _refuse_flat(np.shape(x))
    sequences = [_sequence(row, f"X[{i}]") for i, row in enumerate(x)]
    _check_not_empty(sequences)
    features = sequences[0].shape[1]
    for i, sequence in enumerate(sequences):
        if sequence.shape[1] != features:
            raise InputError(
                f"X[{i}] has {sequence.shape[1]} features, but X[0] has {features}: all sequences "
                "must have the same"
            )
    return sequences


def _are_texts(x: Any) -> bool:
    rows = isinstance(x, list | tuple) or (isinstance(x, np.ndarray) and x.ndim == 1)
    return rows and len(x) > 0 and all(isinstance(row, str) for row in x)


def _from_array(x: Array) -> list[Array]:
    """The rows of (count, time, features), or of (count, time) with one feature."""
    if x.ndim not in (2, 3):
        _refuse_flat(x.shape)
    if x.ndim == 2 and x.shape[1] == 0 and len(x):
        raise InputError(
            f"X has 0 feature(s) (shape={x.shape}) while a minimum of 1 is required: no steps"
        )
    numbers = _numbers(x, "X")
    sequences = list(numbers if x.ndim == 3 else numbers[:, :, None])
    _check_not_empty(sequences)
    return sequences


def _refuse_flat(shape: tuple[int, ...]) -> None:
    raise InputError(
        f"X must be (count, time, features) or (count, time), but its shape is {shape}. Reshape "
        "your data: X.reshape(1, -1) for one sequence of one feature"
    )


def _sequence(row: Any, name: str) -> Array:
    try:
        array = np.asarray(row)
    except ValueError:
        raise InputError(f"{name} must be (time, features), but its steps are unlike") from None
    array = _numbers(array, name)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise InputError(f"{name} must be (time, features) or (time,), not {array.shape}")
    return array


def _numbers(array: Array, name: str) -> Array:
    """As float64; a missing value may be None or NaN."""
    if np.iscomplexobj(array):
        raise InputError(f"Complex data not supported: {name} is {array.dtype}")
    try:
        numbers = array.astype(np.float64)
    except TypeError as error:
        raise TypeError(f"{name} holds what is not a number: {error}") from None
    except ValueError as error:
        raise InputError(f"{name} holds what is not a number: {error}") from None
    if np.isinf(numbers).any():
        raise InputError(f"{name} contains infinity; leave missing values as NaN")
    return numbers


def _check_not_empty(sequences: Sequence[Any]) -> None:
    if not len(sequences):
        raise InputError("X has 0 sample(s): no sequence at all, a minimum of 1 is required")
    for i, sequence in enumerate(sequences):
        if not len(sequence):
            raise InputError(f"X[{i}] has length 0: a sequence needs at least one step")
    first = sequences[0]
    if not isinstance(first, str) and not first.shape[1]:
        raise InputError("X[0] has 0 feature(s), a minimum of 1 is required")
