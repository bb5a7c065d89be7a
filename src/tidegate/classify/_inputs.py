"""What a user gives, brought into one form: a list of sequences, and how to answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import SequenceFrame

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
        first = self.sequences[0]
        return 0 if isinstance(first, str) else first.shape[1]

    @property
    def lengths(self) -> Array:
        """Steps of each sequence."""
        return np.array([len(sequence) for sequence in self.sequences])


def is_frame(x: Any) -> bool:
    """Whether it is a table with named columns, of any library that narwhals knows."""
    if isinstance(x, np.ndarray | list | tuple) or not hasattr(x, "columns"):
        return hasattr(x, "column_names")
    return True
