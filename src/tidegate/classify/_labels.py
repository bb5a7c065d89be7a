"""Answers as users give them, and as networks learn them: classes by number, or numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from ..errors import InputError

Array = np.ndarray


def read_labels(y: Any, lengths: Array, per_step: bool) -> list[Any]:
    """Answers as a list, one for each sequence, or a list for each with one for each step.

    Raises:
        InputError: they are not as many as there are sequences, or steps.
    """
    array = np.asarray(y) if hasattr(y, "__array__") else None
    if array is not None and array.ndim == 2 and array.shape[1] == 1 and not per_step:
        array = array[:, 0]
    if array is not None and array.ndim == 0:
        raise InputError(f"y should be a 1d array of answers, but it is {y!r}")
    if array is not None and array.ndim > 1 and not per_step:
        raise InputError(
            f"y should be a 1d array with an answer for each sequence, but its shape is "
            f"{array.shape}; per_step=True takes one for each step"
        )
    labels = list(y) if array is None else list(array)
    if len(labels) != len(lengths):
        raise InputError(
            f"y has {len(labels)} answers, but X has {len(lengths)} sequences: inconsistent "
            "numbers of samples"
        )
    if not per_step:
        return labels
    steps = [list(label) if _is_many(label) else [label] for label in labels]
    for i, (mine, length) in enumerate(zip(steps, lengths, strict=True)):
        if len(mine) != length:
            raise InputError(
                f"y[{i}] has {len(mine)} labels, but X[{i}] has {length} steps: one for each "
                "step is needed"
            )
    return steps


def _is_many(label: Any) -> bool:
    return np.ndim(label) == 1 or isinstance(label, str)


def classes_of(labels: list[Any], per_step: bool) -> Array:
    """The different labels, sorted.

    Raises:
        InputError: one is missing, there is but one, or they are numbers that are not whole.
    """
    array = _flat(labels, per_step)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise InputError("y contains NaN or infinity: a label is missing")
        if (array != np.round(array)).any():
            raise InputError(
                "Unknown label type: continuous. y holds numbers that are not whole, such as "
                f"{array[array != np.round(array)][0]}; GRURegressor predicts numbers"
            )
    classes = np.unique(array)
    if len(classes) < 2:
        raise InputError(
            f"all labels are {classes[0]}, one class, but the number of classes has to be greater "
            "than one"
        )
    return classes


def encode(labels: list[Any], classes: Array, per_step: bool) -> Any:
    """Labels as numbers of classes: an array, or a list of arrays with `per_step`.

    Raises:
        InputError: a label is none of the classes.
    """
    flat = _flat(labels, per_step)
    if flat.dtype.kind != classes.dtype.kind and "U" in (flat.dtype.kind, classes.dtype.kind):
        _refuse(flat[0], classes)
    place = np.searchsorted(classes, flat).clip(0, len(classes) - 1)
    wrong = np.flatnonzero(classes[place] != flat)
    if len(wrong):
        _refuse(flat[wrong[0]], classes)
    if not per_step:
        return place
    return np.split(place, np.cumsum([len(label) for label in labels])[:-1])


def _refuse(label: Any, classes: Array) -> None:
    known = ", ".join(map(str, classes[:8])) + (", ..." if len(classes) > 8 else "")
    raise InputError(f"the label {label} was not there in training, only {known}")


def numbers_of(labels: list[Any], per_step: bool) -> Any:
    """Answers as float64: an array, or a list of arrays with `per_step`.

    Raises:
        InputError: one is missing or no number.
    """
    try:
        flat = _flat(labels, per_step).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"y holds what is not a number: {error}") from None
    if not np.isfinite(flat).all():
        raise InputError("y contains NaN or infinity: an answer is missing")
    if not per_step:
        return flat
    return np.split(flat, np.cumsum([len(label) for label in labels])[:-1])


def class_weights(
    given: str | Mapping[Any, float] | None, classes: Array, truth: Sequence
) -> Array:
    """The weight of each class, one on average over what is learnt from.

    Raises:
        ValueError: `given` is neither of them, or has a label that is not there or a weight that
            is none.
    """
    counts = np.bincount(np.concatenate([np.atleast_1d(t) for t in truth]), minlength=len(classes))
    if given is None:
        return np.ones(len(classes))
    if given == "balanced":
        return counts.sum() / (len(classes) * counts)
    if not isinstance(given, Mapping):
        raise ValueError(f"class_weight must be 'balanced' or a weight a label, got {given!r}")
    known = classes.tolist()
    strange = [label for label in given if label not in known]
    if strange:
        raise ValueError(f"class_weight has a label that y has not: {strange[0]!r}")
    weights = [given.get(label, 1.0) for label in known]
    for label, weight in zip(known, weights, strict=True):
        if not isinstance(weight, Real) or not 0 < weight < math.inf:
            raise ValueError(f"class_weight of {label!r} must be a number above 0, got {weight!r}")
    return np.array(weights, np.float64)


def _flat(labels: list[Any], per_step: bool) -> Array:
    flat = [label for mine in labels for label in mine] if per_step else labels
    missing = next((i for i, label in enumerate(flat) if label is None), None)
    if missing is not None:
        raise InputError(f"a label is missing: entry {missing} of y is empty")
    kinds = {isinstance(label, str) for label in flat}
    if len(kinds) > 1:
        number, other = next((i, x) for i, x in enumerate(flat) if not isinstance(x, str))
        if str(other) in ("nan", "<NA>", "NaT"):  # NaN, and what pandas has for it
            raise InputError(f"a label is missing: entry {number} of y is {other}")
        raise InputError("y mixes text and numbers as labels: one kind was expected")
    array = np.array(flat)
    if array.ndim != 1 or array.dtype.kind not in "biufU":
        raise InputError("y must hold texts or numbers, one for each answer")
    return array
