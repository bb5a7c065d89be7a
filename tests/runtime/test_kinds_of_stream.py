"""A stream of each kind of model gives, at each step, what the model gives for all so far."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

from forecast_cases import seasonal_series, small_forecaster, small_panel
from language_cases import TEXT, small_model
from tidegate.classify import GRUClassifier, GRURegressor
from tidegate.errors import InputError
from tidegate.runtime import load
from tidegate.runtime._forecast_stream import _Tail


@pytest.fixture(scope="module")
def forecaster(tmp_path_factory):
    path = tmp_path_factory.mktemp("kinds") / "f.safetensors"
    small_forecaster().fit(small_panel()).save(path)
    return load(path)


def learnt(folder, options):
    """A classifier that read forward only, and its sequences."""
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(n, 2)) for n in rng.integers(1, 30, 24)]
    x[3][0, 0] = x[5][-1, 1] = np.nan
    y = ["a", "b", "c"] * 8
    if options.get("per_step"):
        y = [np.where(one[:, 1] > 0, 1, 0) for one in x]
    kind = GRURegressor if options.pop("number", False) else GRUClassifier
    y = np.arange(24.0) if kind is GRURegressor else y
    kind(hidden_size=5, steps=8, bidirectional=False, **options).fit(x, y).save(folder / "c")
    return load(folder / "c"), x


def assert_same_row(row, alone):
    """Equal but for the BLAS, which rounds a row beside another one otherwise; 3e-8 was seen."""
    np.testing.assert_allclose(row, alone, rtol=1e-6)


def test_a_forecaster_forecasts_from_each_value(forecaster):
    y = seasonal_series(0, 150)  # longer than the window of 120
    y[[4, 5, 30]] = np.nan
    stream = forecaster.stream(2)
    for end in range(1, len(y) + 1):
        q = stream.step([y[end - 1], 2 * y[end - 1]])
        if end % 7 == 0:
            np.testing.assert_array_equal(q, forecaster([y[:end], 2 * y[:end]]))
    stream.reset([1])
    q = stream.step([3.0, 3.0])
    assert_same_row(q[1:], forecaster([[3.0]]))
    assert stream.steps == 151


def test_a_row_whose_values_ended_long_ago_goes_on_from_the_last(forecaster):
    y = np.append(seasonal_series(0, 10), np.full(130, np.nan))
    stream = forecaster.stream()
    for value in y:
        q = stream.step([value])
    np.testing.assert_array_equal(q, forecaster([y]))
    assert np.isfinite(q).all()


def test_a_row_without_a_value_yet_has_no_forecast(forecaster):
    q = forecaster.stream(2).step([np.nan, 1.0])
    assert np.isnan(q[0]).all()
    assert_same_row(q[1:], forecaster([[1.0]]))


@pytest.mark.parametrize("freq", ["B", "irregular"])
def test_time_stamps_and_covariates_go_along(tmp_path, freq):
    days = pd.bdate_range("2023-01-02", periods=103).delete([7, 50, 51])
    rng = np.random.default_rng(0)
    y = seasonal_series(0, 100, 5)
    promo, sun = rng.integers(0, 2, 106).astype(float), rng.choice(["much", "little"], 100)
    df = pd.DataFrame({"ds": days, "y": y, "promo": promo[:100], "sun": sun, "place": "here"})
    columns = {"future_cols": ("promo",), "static_cols": ("place",), "past_cols": ("sun",)}
    small_forecaster(freq=freq, steps=2, **columns).fit(df).save(tmp_path / "m")
    model = load(tmp_path / "m")
    stream = model.stream()
    for k in range(100):
        if k == 40:
            before, stream = stream, model.stream()
            stream.from_bytes(before.to_bytes())
        given = {
            "promo": ("future", [promo[k : k + 7]]),
            "place": ("static", ["here"]),
            "sun": ("past", [sun[k]]),
        }
        q = stream.step([y[k]], [days[k]], given)
    whole = load(tmp_path / "m")
    from tidegate.data import Covariate, Panel

    panel = Panel.from_frame(df, freq=freq, **columns)
    ahead = {
        name: Covariate(
            c.role, [np.concatenate([c.values[0], promo[100:]])] if name == "promo" else c.values
        )
        for name, c in panel.covariates.items()
    }
    panel.covariates.update(ahead)
    np.testing.assert_allclose(q, whole(panel), rtol=1e-6)


@pytest.mark.parametrize(
    ("stamps", "sentence"),
    [
        (["2024-01-01", "2024-01-01"], "2024-01-01 is not after 2024-01-01"),
        (["2024-02-01", "2024-01-01"], "2024-01-01 is not after 2024-02-01"),
        (["2024-01-01", "2024-01-05"], r"2024-01-05 is not on the calendar MS \(monthly"),
        (["2024-01-01", 2], "times must be dates, as in training, not whole numbers"),
        (["2024-01-01", None], "the steps before had time stamps"),
        ([None, "2024-01-01"], "the steps before had no time stamps"),
        (["2024-01-01", "NaT"], "times has one that is missing"),
    ],
)
def test_a_time_stamp_out_of_place_changes_nothing(forecaster, stamps, sentence):
    stream = forecaster.stream()
    first, second = [None if stamp is None else [stamp] for stamp in stamps]
    stream.step([1.0], first)
    there = forecaster.stream()
    there.from_bytes(stream.to_bytes())
    with pytest.raises(InputError, match=sentence):
        stream.step([9.0], second)
    third = None if stamps[0] is None else ["2024-03-01"]
    np.testing.assert_array_equal(stream.step([3.0], third), there.step([3.0], third))
    assert stream.steps == there.steps == 2


def test_many_steps_in_a_call_are_forecast_as_one_by_one(forecaster):
    y = np.stack([seasonal_series(k, 5) for k in range(2)], 1)
    one, many = forecaster.stream(2), forecaster.stream(2)
    np.testing.assert_array_equal(many.run(y), [one.step(row) for row in y])
    assert many.to_bytes() == one.to_bytes()
    assert many.run(y[:0]).shape == (0, 2, 6, 7)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda s: s.step([1.0]), r"values must have shape \(2,\), not \(1,\)"),
        (lambda s: s.step([1.0, np.inf]), "values has inf among them"),
        (lambda s: s.step([1.0, 2.0], ["2024-01-01"]), r"times must have shape \(2,\)"),
        (lambda s: s.from_bytes(s.model.stream(3).to_bytes()), "of 3 rows, and the stream has 2"),
        (lambda s: s.model.stream(0), "batch must be at least 1, got 0"),
    ],
)
def test_what_does_not_fit_a_stream_of_forecasts_is_named(call, sentence, forecaster):
    with pytest.raises(ValueError, match=sentence):
        call(forecaster.stream(2))


@given(most=st.integers(1, 9), sizes=st.lists(st.integers(0, 20), max_size=12), names=st.booleans())
def test_the_last_of_many_entries_are_kept(most, sizes, names):
    every = np.arange(sum(sizes))
    every = every.astype(str) if names else every.astype(float)  # longer names come later
    tail = _Tail(most, every[:0])
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        tail.add(every[end - size : end])
        np.testing.assert_array_equal(tail.entries, every[max(0, end - most) : end])


def test_a_classifier_of_texts_reads_a_character_at_a_time(tmp_path):
    texts, labels = ["abc" * n for n in range(1, 13)], ["a", "b"] * 6
    model = GRUClassifier(hidden_size=4, steps=4, bidirectional=False).fit(texts, labels)
    model.save(tmp_path / "c")
    model = load(tmp_path / "c")
    stream, rows = model.stream(), model.stream(2)
    for end, character in enumerate("abz", 1):  # the last was not there in training
        answer = stream.step(character)
        np.testing.assert_allclose(answer, model.probabilities(["abz"[:end]])[0], atol=1e-6)
        np.testing.assert_allclose(rows.step([character, "c"])[0], answer, atol=1e-6)
    np.testing.assert_array_equal(model.stream().run("abz")[-1], answer)
    assert model.stream().run("").shape == (0, 2)
    for wrong in ("ab", ["a", "b"], 3):
        with pytest.raises(InputError, match=r"one character a row|x must have shape \(1,\)"):
            stream.step(wrong)


def test_what_the_model_has_not_learnt_from_changes_nothing(tmp_path):
    df = small_panel().assign(p=np.arange(len(small_panel())) % 7.0, c="x")
    small_forecaster(past_cols=("p", "c"), steps=2).fit(df).save(tmp_path / "m")
    stream = load(tmp_path / "m").stream()
    right = {"p": ("past", [1.0]), "c": ("past", ["x"])}
    stream.step([1.0], covariates=right)
    there = load(tmp_path / "m").stream()
    there.from_bytes(stream.to_bytes())
    for values, covariates, sentence in (
        (["a"], right, "values must be numbers, one a row"),
        ([2.0], right | {"p": ("static", [1.0])}, "'p' must be 'past', as in training, not 'stat"),
        ([2.0], right | {"p": ("past", ["x"])}, "covariate 'p' must be numbers, as in training"),
    ):
        with pytest.raises(InputError, match=sentence):
            stream.step(values, covariates=covariates)
    np.testing.assert_array_equal(
        stream.step([3.0], covariates=right), there.step([3.0], covariates=right)
    )
    with pytest.raises(InputError, match="times must be of 3 steps, as values are, not 2"):
        stream.run(np.ones((3, 1)), np.ones((2, 1)))


def test_names_that_are_numbers_are_read_as_in_training(tmp_path):
    df = small_panel().assign(c=(np.arange(len(small_panel())) % 2).astype(str))
    small_forecaster(past_cols=("c",), steps=2).fit(df).save(tmp_path / "m")
    model, y = load(tmp_path / "m"), np.arange(20.0)
    as_text = model([y], None, {"c": ("past", [["0", "1"] * 10])})
    np.testing.assert_array_equal(model([y], None, {"c": ("past", [[0, 1] * 10])}), as_text)


def test_steps_left_out_are_missing_values(forecaster):
    stream = forecaster.stream()
    stream.step([5.0], ["2024-01-01"])
    q = stream.step([6.0], ["2024-04-01"])
    np.testing.assert_array_equal(q, forecaster([[5.0, np.nan, np.nan, 6.0]]))
    q = stream.step([7.0], ["2224-04-01"])  # farther than the window
    np.testing.assert_array_equal(q, forecaster([[np.nan] * 120 + [7.0]]))


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "last", "members": 2},
        {"pooling": "mean", "num_layers": 2},
        {"pooling": "attention", "stride": 3},
        {"pooling": "last", "stride": 4},
        {"per_step": True},
        {"cell": "mingru", "num_layers": 2},
        {"pooling": "last", "number": True},
    ],
)
def test_a_classifier_answers_for_all_so_far(options, tmp_path):
    model, x = learnt(tmp_path, dict(options))
    answer = getattr(model, "probabilities", model)
    for sequence in x[:6]:
        stream, there = model.stream(), model.stream()
        for end in range(1, len(sequence) + 1):
            found = stream.step(sequence[end - 1])
            whole = answer([sequence[:end]])[0]
            np.testing.assert_allclose(
                found, whole[-1] if model.per_step else whole, atol=2e-6, rtol=2e-6
            )
            there.from_bytes(stream.to_bytes())
            stream, there = there, stream  # each goes on from what the other gave


def test_rows_of_a_classifier_are_sequences_of_their_own(tmp_path):
    model, x = learnt(tmp_path, {"pooling": "mean"})
    first, second = [one for one in x if len(one) > 5][:2]
    stream = model.stream(2)
    for k in range(5):
        found = stream.step(np.stack([first[k], second[k]]))
    np.testing.assert_allclose(found, model.probabilities([first[:5], second[:5]]), atol=2e-6)
    with pytest.raises(InputError, match=r"x must have shape \(2, 2\), not \(3, 2\)"):
        stream.step(np.zeros((3, 2)))
    with pytest.raises(InputError, match="infinity"):
        stream.step(np.full((2, 2), np.inf))
    with pytest.raises(InputError, match="2 rows"):
        stream.from_bytes(model.stream().to_bytes())


def test_no_steps_have_no_answers(tmp_path):
    model, _ = learnt(tmp_path, {})
    assert model.stream(2).run(np.empty((0, 2, 2))).shape == (0, 2, 3)
    assert model.stream().run(np.empty((0, 2))).shape == (0, 3)


def test_what_reads_backward_cannot_answer_step_by_step(tmp_path):
    x = np.zeros((8, 4, 1)) + np.arange(8)[:, None, None]
    GRUClassifier(hidden_size=3, steps=2).fit(x, [0, 1] * 4).save(tmp_path / "c")
    with pytest.raises(InputError, match=r"also reads backward.*bidirectional=False"):
        load(tmp_path / "c").stream()


@pytest.mark.parametrize(
    ("cell", "lines"), [("gru", False), ("gru", True), ("mingru", True), ("lstm", False)]
)
def test_a_text_scored_piece_by_piece_has_its_score(cell, lines, tmp_path):
    small_model(cell=cell, lines=lines, steps=3).fit(TEXT).save(tmp_path / "m")
    reader = load(tmp_path / "m")
    text = TEXT[:300]
    pieces, stream = text.splitlines(keepends=True), reader.stream()
    found = []
    for piece in pieces:
        there = reader.stream()
        assert there.from_bytes(stream.to_bytes({"a": "b"})) == {"a": "b"}
        found.append(stream.score(piece).log_probs)
        np.testing.assert_array_equal(there.score(piece).log_probs, found[-1])
    np.testing.assert_allclose(np.concatenate(found), reader.score(text).log_probs, rtol=1e-4)
    stream.reset()
    np.testing.assert_allclose(stream.score(pieces[0]).log_probs, found[0], rtol=1e-6)


@pytest.mark.parametrize("change", [lambda d: d[:40], lambda d: d[:-1] + bytes([d[-1] ^ 1])])
def test_a_damaged_state_is_refused(forecaster, change, tmp_path):
    model, _ = learnt(tmp_path, {"pooling": "mean"})
    small_model(steps=1).fit(TEXT).save(tmp_path / "m")
    for one, x in ((forecaster, [1.0]), (model, [1.0, 2.0]), (load(tmp_path / "m"), None)):
        stream = one.stream()
        stream.score("a") if x is None else stream.step(x)
        with pytest.raises(InputError, match="state of a stream cannot be read: it is damaged"):
            one.stream().from_bytes(change(stream.to_bytes()))


def test_torch_is_not_needed(forecaster, tmp_path):
    learnt(tmp_path, {"pooling": "mean"})
    small_forecaster(steps=1).fit(small_panel()).save(tmp_path / "f")
    script = f"""
import sys
sys.path[:0] = {sys.path}
sys.modules["torch"] = None
from tidegate.runtime import load
print(load({str(tmp_path / "f")!r}).stream().step([1.0]).shape)
print(load({str(tmp_path / "c")!r}).stream().step([1.0, 2.0]).shape)
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.stdout.split("\n") == ["(1, 6, 7)", "(3,)", ""], process.stderr
