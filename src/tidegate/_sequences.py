"""Sequences of unequal lengths as a network reads them: scaled, filled, padded, several steps at once.

What a classifier learns of its inputs before its network learns anything. NumPy alone, since a saved
model is run without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Array = np.ndarray

UNKNOWN = 0  # the number of every character that was not there in training


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
    def learn(cls, sequences: Sequence[Array], stride: int = 1) -> NumberReader:
        """Scales of sequences (time, features)."""
        steps = np.concatenate(sequences).astype(np.float64)
        known = np.isfinite(steps)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, steps, 0).sum(0) / count
        variance = np.square(np.where(known, steps - mean, 0)).sum(0) / count
        spread = np.sqrt(variance)
        scale = np.where(spread > 1e-12 * np.maximum(np.abs(mean), 1e-300), spread, 1.0)
        return cls(mean, scale, ~known.all(0), stride)

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

    def read(self, sequences: Sequence[Array]) -> Batch:
        """Sequences (time, features) as one batch."""
        lengths = np.array([self.reads(len(sequence)) for sequence in sequences], np.int64)
        x = np.zeros((len(sequences), int(lengths.max(initial=0)), self.inputs), np.float32)
        for row, sequence in enumerate(sequences):
            x[row, : lengths[row]] = self._windows(self._scaled(sequence))
        return Batch(x, lengths)

    def _scaled(self, sequence: Array) -> Array:
        known = np.isfinite(sequence)
        values = np.where(known, (sequence - self.mean) / self.scale, 0.0)
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
    def learn(cls, texts: Sequence[str]) -> TextReader:
        """The characters of texts, in the order of Unicode."""
        return cls("".join(sorted(set().union(*texts))))

    @property
    def inputs(self) -> int:
        """Numbers that a character may have."""
        return len(self.characters) + 1

    def reads(self, steps: int) -> int:
        """How often a text of so many characters is read."""
        return steps

    def read(self, texts: Sequence[str]) -> Batch:
        """Texts as one batch of numbers."""
        number = {character: i for i, character in enumerate(self.characters, 1)}
        lengths = np.array([len(text) for text in texts], np.int64)
        x = np.zeros((len(texts), int(lengths.max(initial=0))), np.int64)
        for row, text in enumerate(texts):
            x[row, : len(text)] = [number.get(character, UNKNOWN) for character in text]
        return Batch(x, lengths)


Reader = NumberReader | TextReader
