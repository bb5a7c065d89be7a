"""Series are read on the calendar of a model if it is theirs, and refused if it is not."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from tidegate.data import Frequency, Panel
from tidegate.data._like import read_like
from tidegate.errors import InputError


def read(stamps, learnt, insist=False) -> Panel:
    df = pd.DataFrame({"ds": stamps, "y": np.arange(len(stamps)) + 1.0})
    return read_like(partial(Panel.from_frame, df, "unique_id", "ds", "y"), learnt, insist)


def dates(freq, count=40):
    return pd.date_range("2021-03-01", periods=count, freq=freq)


def with_holes(freq, share):
    stamps = dates(freq, 300)
    return stamps[np.random.default_rng(0).random(300) > share]


MOMENTS = np.cumsum(np.random.default_rng(0).exponential(9000, 40).astype(int))
IRREGULAR = pd.Timestamp("2021-03-01") + pd.to_timedelta(MOMENTS, unit="s")


@pytest.mark.parametrize(
    ("learnt", "stamps", "words"),
    [
        # Those of one season length that fit no calendar but their own.
        ("MS", dates("2h"), "series that are monthly.*but these are every 2 hours"),
        ("QS", dates("6h"), "quarterly.*but these are every 6 hours"),
        ("YS", IRREGULAR, "yearly.*but these are irregular"),
        ("B", dates("D"), "working days, Monday to Friday, but these are daily"),
        # Those that fit the model's, with gaps.
        ("D", dates("W-MON"), "daily, but these are weekly, on Monday"),
        ("D", dates("B"), "daily, but these are working days"),
        ("h", dates("6h"), "hourly, but these are every 6 hours"),
        ("MS", dates("QS"), "monthly.*but these are quarterly"),
        ("QS", dates("YS"), "quarterly.*but these are yearly"),
        ("W-SUN", dates("2W-SUN"), "weekly.*but these are every 2 weeks"),
    ],
)
def test_another_calendar_is_refused(learnt, stamps, words):
    with pytest.raises(InputError, match=f"^the model forecasts .*{words}"):
        read(stamps, Frequency.parse(learnt))


@pytest.mark.parametrize(
    ("learnt", "stamps", "name"),
    [
        ("MS", dates("ME"), "ME"),
        ("ME", dates("MS"), "MS"),
        ("MS", dates("MS") + pd.Timedelta("14D"), "M-15"),
        ("QE-DEC", dates("QS-JAN"), "QS-JAN"),
        ("W-SUN", dates("W-MON"), "W-MON"),
        ("C-MON-TUE-WED-SAT-SUN", dates("B"), "B"),
        ("D", with_holes("D", 0.5), "D"),
        ("h", with_holes("h", 0.6), "h"),
        ("D", dates("D", 1), "D"),
        ("D", dates("W-MON", 2), "D"),
        ("1", dates("YS"), "YS-JAN"),
        ("1", np.arange(0, 90, 3), "3"),
        ("irregular-37min", IRREGULAR, "irregular-37min"),
    ],
)
def test_the_same_calendar_is_taken_on_whatever_day(learnt, stamps, name):
    assert read(stamps, Frequency.parse(learnt)).frequency.name == name


def test_a_calendar_that_was_insisted_on_keeps_its_gaps():
    panel = read(dates("W-MON", 10), Frequency.parse("D"), insist=True)
    assert (panel.frequency.name, len(panel.values[0])) == ("D", 64)
