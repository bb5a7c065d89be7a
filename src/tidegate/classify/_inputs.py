"""What a user gives, brought into one form: a list of sequences, and how to answer.

Arrays, lists of arrays, texts, and long frames all become `Inputs`; what cannot be used is said in
one sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import SequenceFrame
from ..errors import InputError

Array = np.ndarray


@dataclass(frozen=True)
class Inputs:
    """Sequences: arrays (time, features), or texts.

    Args:
        sequences: all of one kind, none empty.
        frame: the long frame that they came from.
    """

    sequences: list[Array] | list[str]
    frame: SequenceFrame | None = None

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def is_text(self) -> bool:
        """Whether they are texts."""
        return isinstance(self.sequences[0], str)

    @property
    def features(self) -> int:
        """Of each step; 0 of texts."""
        return 0 if self.is_text else self.sequences[0].shape[1]

    @property
    def lengths(self) -> Array:
        """Steps of each sequence."""
        return np.array([len(sequence) for sequence in self.sequences])


def read_arrays(x: Any) -> Inputs:
    """Sequences from arrays, or from a list of arrays or of texts.

    Raises:
        InputError: they are empty, infinite, no numbers, or differ in their features.
        TypeError: they are sparse.
    """
    if hasattr(x, "toarray"):
        raise TypeError(
            "X is a sparse matrix, but dense data is required: a sequence has a value at each step; "
            "use X.toarray()"
        )
    if isinstance(x, str):
        raise InputError("X is one text, where a list of texts was expected")
    if _are_texts(x):
        texts = [str(text) for text in x]
        _check_not_empty(texts)
        return Inputs(texts)
    whole = x if isinstance(x, np.ndarray) else None
    if whole is None and hasattr(x, "__array__"):
        whole = np.asarray(x)
    if whole is not None and whole.dtype != object:
        return Inputs(_from_array(whole))
    if not isinstance(x, Sequence | np.ndarray):
        raise InputError(f"X must be arrays, texts or a long frame, but it is {type(x).__name__}")
    if len(x) and all(np.ndim(row) == 0 for row in x):
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
    return Inputs(sequences)


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
        f"X must be (count, time, features) or (count, time), but its shape is {shape}. Reshape your "
        "data: X.reshape(1, -1) for one sequence of one feature"
    )


def _sequence(row: Any, name: str) -> Array:
    array = _numbers(np.asarray(row), name)
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
    except (TypeError, ValueError) as error:
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


def is_frame(x: Any) -> bool:
    """Whether it is a table with named columns, of any library that narwhals knows."""
    if isinstance(x, np.ndarray | list | tuple) or not hasattr(x, "columns"):
        return hasattr(x, "column_names")
    return True
