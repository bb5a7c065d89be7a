"""scikit-learn's contract for estimators, without scikit-learn."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple, Self

import numpy as np

from .errors import InputError

_SEEDS = 2**32  # what every library that draws numbers for us takes


def check_seed(seed: object) -> None:
    """Refuse what no random numbers can start from.

    Raises:
        InputError: it is no whole number, negative or too large.
    """
    if not isinstance(seed, Integral) or not 0 <= int(seed) < _SEEDS:
        raise InputError(f"seed must be a whole number from 0 to {_SEEDS - 1}, got {seed!r}")


def is_count(number: object) -> bool:
    """Whether it is a whole number, at least 1."""
    return isinstance(number, Integral) and not isinstance(number, bool) and int(number) >= 1


def require_count(name: str, number: object) -> None:
    """Refuse an argument that counts something and does not.

    Raises:
        InputError: it is no whole number, or less than 1.
    """
    if not is_count(number):
        raise InputError(f"{name} must be a whole number, at least 1, got {number!r}")


class Range(NamedTuple):
    """Numbers that an argument may be, in words and as a function."""

    words: str
    holds: Callable[[float], bool]

    def require(self, name: str, number: object) -> None:
        """Refuse an argument that is no such number.

        Raises:
            InputError: it is none.
        """
        if not isinstance(number, Real) or not self.holds(float(number)):
            raise InputError(f"{name} must be {self.words}, got {number!r}")


POSITIVE = Range("finite and more than 0", lambda number: 0 < number < math.inf)
NOT_NEGATIVE = Range("finite and at least 0", lambda number: 0 <= number < math.inf)
BELOW_ONE = Range("from 0 to below 1", lambda number: 0 <= number < 1)


class Estimator:
    """A constructor that only stores its arguments, and what follows from their names."""

    @classmethod
    def _parameters(cls) -> dict[str, inspect.Parameter]:
        parameters = dict(inspect.signature(cls.__init__).parameters)
        del parameters["self"]
        return parameters

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name; `deep` is scikit-learn's and changes nothing."""
        return {name: getattr(self, name) for name in self._parameters()}

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor; what was learnt stays until the next `fit`.

        Raises:
            ValueError: there is no such argument.
        """
        for name, value in params.items():
            if name not in self._parameters():
                known = ", ".join(self._parameters())
                raise ValueError(f"{type(self).__name__} has no argument {name!r}, only {known}")
            setattr(self, name, value)
        return self

    def _check_training(self) -> None:
        """Refuse what no network can be trained by."""
        check_seed(self.seed)  # type: ignore[attr-defined]
        self._check_numbers(POSITIVE, "learning_rate")
        for name, parameter in self._parameters().items():
            if isinstance(parameter.default, bool):
                self._check_flag(name)

    def _check_counts(self, counts: Sequence[str], chosen: Sequence[str]) -> None:
        """Refuse arguments that count something and do not; those `chosen` in `fit` may be None."""
        for name in (*counts, *chosen):
            count = getattr(self, name)
            if count is not None or name not in chosen:
                require_count(name, count)

    def _check_numbers(self, wanted: Range, *names: str) -> None:
        """Refuse arguments that are no number in a range."""
        for name in names:
            wanted.require(name, getattr(self, name))

    def _check_flag(self, name: str) -> None:
        """Refuse an argument that is neither true nor false."""
        value = getattr(self, name)
        if not isinstance(value, bool | np.bool_):
            raise InputError(f"{name} must be True or False, got {value!r}")

    def _check_choice(self, name: str, choices: Iterable[object]) -> None:
        """Refuse an argument that is none of a few."""
        given, choices = getattr(self, name), list(choices)
        if not any(given is choice or given == choice for choice in choices):
            known = ", ".join(map(str, choices))
            raise InputError(f"{name} must be one of {known}, got {given!r}")

    def __repr__(self) -> str:
        """The call that makes this estimator, without the arguments left at their defaults."""
        given = [
            f"{name}={getattr(self, name)!r}"
            for name, parameter in self._parameters().items()
            if getattr(self, name) is not parameter.default
            and getattr(self, name) != parameter.default
        ]
        return f"{type(self).__name__}({', '.join(given)})"
