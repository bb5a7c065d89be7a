"""Frames taken apart into sequences."""

import numpy as np
import pandas as pd
import pytest

from tidegate.data import SequenceFrame
from tidegate.errors import InputError

NAMES = ("unique_id", "ds", "y")


def test_columns_that_pandas_numbered_are_the_steps_of_rows():
    table = pd.DataFrame(np.arange(6.0).reshape(2, 3))
    frame = SequenceFrame.read(table, *NAMES)
    assert [sequence[:, 0].tolist() for sequence in frame.sequences] == [[0, 1, 2], [3, 4, 5]]
    assert frame.features == ["0", "1", "2"]
    assert frame.labels is None


def test_time_stamps_without_ids_are_one_sequence():
    table = pd.DataFrame({"ds": [3, 1, 2], "v": [30.0, 10.0, 20.0], "y": ["c", "a", "b"]})
    frame = SequenceFrame.read(table, *NAMES, per_step=True)
    assert frame.sequences[0][:, 0].tolist() == [10, 20, 30]
    assert frame.labels == [["a", "b", "c"]]
    answers = frame.answer({"y": np.array(["A", "B", "C"])}, "unique_id", per_step=True)
    assert answers.y.to_list() == ["C", "A", "B"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"v": []}), "no rows of data"),
        (pd.DataFrame({"unique_id": [1], "y": [1]}), "no column to learn from"),
        (pd.DataFrame({"unique_id": ["a"], "v": ["x"], "y": [1]}), "'x' is not a number"),
        (pd.DataFrame({"v": ["a", None], "y": [0, 1]}), "data row 2 is empty"),
    ],
)
def test_what_holds_no_sequences_is_refused(table, message):
    with pytest.raises(InputError, match=message):
        SequenceFrame.read(table, *NAMES)
