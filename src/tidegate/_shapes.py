"""The one check of an array's shape."""

import numpy as np

from tidegate.errors import InputError


def check_shape(name: str, array: np.ndarray, *shape: int | None) -> np.ndarray:
    """Return the array if it has the shape, in which None stands for any size.

    Raises:
        InputError: it has another.
    """
    if np.ndim(array) != len(shape) or any(
        expected not in (None, size) for expected, size in zip(shape, array.shape, strict=True)
    ):
        wanted = ", ".join("*" if size is None else str(size) for size in shape)
        comma = "," if len(shape) == 1 else ""
        raise InputError(f"{name} must have shape ({wanted}{comma}), not {np.shape(array)}")
    return array
