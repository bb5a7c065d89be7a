"""Arrays as a long frame, for those who want one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def frame(columns: dict[str, Any]) -> pd.DataFrame:
    """A pandas frame of these columns.

    Raises:
        ModuleNotFoundError: pandas is not installed.
    """
    import pandas as pd

    return pd.DataFrame(columns)


def shape_of(array: np.ndarray) -> str:
    """A shape in words: "24 x 64"."""
    return " x ".join(map(str, array.shape))
