"""Labels and numbers of sequences: what is learnt, its laws, its files, what bad input gets."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

pytest.importorskip("torch")

from tidegate.classify import GRUClassifier, GRURegressor
from tidegate.errors import InputError

LABELS = ["slow", "fast"]


def waves(count: int = 40, seed: int = 0) -> tuple[list[np.ndarray], list[str]]:
    """Noisy sines of two rates and unequal lengths, in turns."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(20, 40, count)
    made = [np.sin(np.arange(n) * (1 + i % 2) / 2) for i, n in enumerate(lengths)]
    return [w + rng.normal(size=len(w)) / 9 for w in made], LABELS * (count // 2)


def small(**options) -> GRUClassifier:
    return GRUClassifier(**{"hidden_size": 8, "steps": 60, "learning_rate": 1e-2} | options)


@pytest.fixture(scope="module")
def fitted() -> GRUClassifier:
    return small().fit(*waves())


def long_frame(per_step: bool = False) -> pd.DataFrame:
    x, y = waves(12)
    parts = [
        pd.DataFrame({"unique_id": f"s{i:02}", "ds": np.arange(len(w)), "v": w, "y": label})
        for i, (w, label) in enumerate(zip(x, y, strict=True))
    ]
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(y=np.where(frame.v > 0, "up", "down")) if per_step else frame


def test_labels_of_sequences_that_were_not_there_in_training(fitted):
    x, y = waves(40, seed=1)
    assert fitted.score(x, y) > 0.95
    assert fitted.predict(x[:2]).tolist() == y[:2]
    assert fitted.classes_.tolist() == ["fast", "slow"]


@pytest.mark.parametrize("pooling", ["attention", "mean", "last"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_every_pooling_learns_and_every_answer_stands_alone(pooling, bidirectional):
    x, y = waves()
    steps = 60 if pooling == "attention" else 250
    model = small(pooling=pooling, bidirectional=bidirectional, steps=steps).fit(x, y)
    assert model.score(x, y) > 0.9
    together = model.predict_proba(x)
    alone = np.concatenate([model.predict_proba([one]) for one in x])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(together.sum(1), 1)


def test_the_cell_for_long_sequences_learns_too(tmp_path):
    x, y = waves()
    model = small(cell="mingru", steps=250).fit(x, y)
    assert model.score(x, y) > 0.9
    model.save(tmp_path / "m.safetensors")
    again = GRUClassifier.load(tmp_path / "m.safetensors").predict_proba(x)
    assert (again == model.predict_proba(x)).all()


def test_the_order_of_the_rows_is_the_order_of_the_answers(fitted):
    x, _ = waves(10, seed=3)
    backwards = fitted.predict_proba(x[::-1])
    np.testing.assert_allclose(backwards[::-1], fitted.predict_proba(x), atol=1e-6)


def test_sequences_that_are_read_some_at_a_time_get_the_same_answers(fitted, monkeypatch):
    sequences = waves(11, seed=2)[0]
    whole = fitted.predict_proba(sequences)
    monkeypatch.setattr("tidegate.classify._model._CHUNK", 3 * 64 * max(map(len, sequences)))
    np.testing.assert_allclose(fitted.predict_proba(sequences), whole, atol=1e-6)


def test_arrays_say_what_lists_say(fitted):
    x = np.stack([np.resize(one, 20) for one in waves(6)[0]])
    as_list = fitted.predict_proba(list(x))
    assert (fitted.predict_proba(x) == as_list).all()
    assert (fitted.predict_proba(x[:, :, None]) == as_list).all()


def test_units_of_a_feature_change_nothing():
    x, y = waves()
    two = [np.stack([one, one[::-1]], 1) for one in x]
    scaled = [one * [1e6, 1e-6] + [3e6, 0] for one in two]
    here, there = small().fit(two, y), small().fit(scaled, y)
    np.testing.assert_allclose(here.predict_proba(two), there.predict_proba(scaled), atol=1e-3)


def test_equal_seeds_give_equal_answers_and_others_do_not(fitted):
    x, y = waves()
    assert (small().fit(x, y).predict_proba(x) == fitted.predict_proba(x)).all()
    assert (small(seed=1).fit(x, y).predict_proba(x) != fitted.predict_proba(x)).any()


def test_the_training_does_not_move_the_callers_random_numbers():
    import torch

    before = torch.get_rng_state()
    small(steps=5).fit(*waves())
    assert (torch.get_rng_state() == before).all()


def test_missing_values_are_marked_and_say_something():
    """What is missing tells the classes apart, and nothing else does."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 12))
    y = np.arange(60) % 2
    x[y == 1, 3:9] = np.nan
    model = small(steps=100).fit(x, y)
    assert model.score(x, y) > 0.95


def test_a_value_first_missing_after_the_training_is_carried_on(fitted):
    x, _ = waves(6)
    holed = [np.where(np.arange(len(one)) == 7, np.nan, one) for one in x]
    filled = [np.where(np.arange(len(one)) == 7, one[6], one) for one in x]
    assert (fitted.predict_proba(holed) == fitted.predict_proba(filled)).all()


def test_each_step_gets_a_label():
    rng = np.random.default_rng(0)
    x = [rng.normal(size=n) for n in rng.integers(5, 15, 60)]
    y = [np.where(one > 0, "up", "down") for one in x]
    model = small(per_step=True, steps=100).fit(x, y)
    assert model.score(x, y) > 0.9
    found = model.predict(x[:3])
    assert [len(one) for one in found] == [len(one) for one in x[:3]]
    assert [p.shape for p in model.predict_proba(x[:2])] == [(len(one), 2) for one in x[:2]]


def test_texts_by_their_characters_and_strange_characters_pass():
    texts = ["hello there", "bonjour madame", "good day sir", "merci beaucoup"] * 6
    model = small(steps=80).fit(texts, ["en", "fr"] * 12)
    assert model.predict(["hello sir", "merci madame"]).tolist() == ["en", "fr"]
    assert len(model.predict_proba(["日本語"])) == 1


def test_a_long_sequence_is_read_several_steps_at_once():
    x = [np.repeat(one, 20) for one in waves(20)[0]]
    model = small().fit(x, LABELS * 10)
    reads = [model.model_.reader.reads(len(one)) for one in x]
    assert max(reads) <= 64
    assert "read at once" in model.notes_[0]
    assert model.score(x, LABELS * 10) > 0.9


def test_class_weights_move_the_answers():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(90, 5)), rng.normal(0.8, 1, size=(10, 5))])
    y = np.repeat(["many", "few"], [90, 10])
    few = {
        str(weight): (small(class_weight=weight, held_out=0).fit(x, y).predict(x) == "few").sum()
        for weight in (None, "balanced", {"few": 30.0})
    }
    assert few["None"] < few["balanced"] < few["{'few': 30.0}"]


@pytest.mark.parametrize("per_step", [False, True])
def test_however_much_is_held_back_something_is_learnt_from(per_step):
    x, y = waves(12)
    y = [[label] * len(one) for one, label in zip(x, y, strict=True)] if per_step else y
    model = small(steps=2, held_out=0.99, per_step=per_step).fit(x, y)
    assert model.held_out_.sequences == (11 if per_step else 10)  # one row, or one of each class


def test_calibration_brings_probabilities_nearer_to_what_comes_true():
    """Labels that are right in three of four cases must not be given 99%."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    y = np.where(rng.random(300) < 0.75, x[:, 0] > 0, x[:, 0] <= 0).astype(int)
    test = rng.normal(size=(300, 4))
    truth = np.where(rng.random(300) < 0.75, test[:, 0] > 0, test[:, 0] <= 0).astype(int)
    options = {"steps": 300, "hidden_size": 32, "dropout": 0.0}
    costs = []
    for calibrate in (False, True):
        model = small(calibrate=calibrate, **options).fit(x, y)
        likely = model.predict_proba(test)[np.arange(300), truth]
        costs.append(-np.log(likely).mean())
    assert costs[1] < costs[0]
    assert model.model_.temperature > 1


def test_numbers_and_a_number_at_each_step():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 8))
    model = GRURegressor(hidden_size=16, steps=250).fit(x, 1e6 + 1e3 * x.mean(1))
    assert model.score(x, 1e6 + 1e3 * x.mean(1)) > 0.8
    sums = list(x.cumsum(1))
    each = GRURegressor(hidden_size=16, steps=250, per_step=True).fit(x, sums)
    assert each.score(x, sums) > 0.8
    assert each.predict(x[:2])[1].shape == (8,)


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.from_pandas], ids=["pandas", "polars"])
def test_frames_come_back_as_they_came(kind):
    frame = kind(long_frame())
    model = small().fit(frame)
    found = model.predict(frame)
    assert type(found) is type(frame)
    assert list(found.columns) == ["unique_id", "y"]
    assert found["unique_id"].to_list() == [f"s{i:02}" for i in range(12)]
    assert model.score(frame) > 0.9


def test_steps_of_a_frame_stand_in_the_order_of_time():
    frame = long_frame()
    shuffled = frame.sample(frac=1, random_state=0)
    model = small().fit(frame)
    here = model.predict(frame).set_index("unique_id").y
    there = model.predict(shuffled).set_index("unique_id").y
    assert here.equals(there.loc[here.index])


def test_a_label_for_each_row_of_a_frame_in_the_order_of_its_rows():
    frame = long_frame(per_step=True).sample(frac=1, random_state=0).reset_index(drop=True)
    model = small(per_step=True, steps=150).fit(frame)
    found = model.predict(frame)
    assert found.unique_id.equals(frame.unique_id)
    assert (found.y == frame.y).mean() > 0.85


def test_rows_without_ids_are_sequences():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(40, 6)), columns=list("abcdef"))
    table["y"] = np.where(table.a + table.b > 0, 1, 0)
    model = small(steps=250, held_out=0).fit(table)
    assert model.score(table) > 0.8
    texts = pd.DataFrame({"text": ["aaab", "bbba"] * 10, "y": ["a", "b"] * 10})
    assert small().fit(texts).score(texts) == 1.0


@pytest.mark.parametrize("given", ["numbers", "texts", "each step", "frame"])
def test_a_saved_model_answers_as_it_did(given, tmp_path):
    x, y = waves(12)
    options = {}
    if given == "texts":
        x = ["abc", "xyz"] * 6
    elif given == "each step":
        options, y = {"per_step": True}, [np.where(one > 0, 1, 0) for one in x]
    elif given == "frame":
        x, y = long_frame(), None
    model = small(steps=10, members=2, **options).fit(x, y)
    model.save(tmp_path / "m.safetensors")
    loaded = GRUClassifier.load(tmp_path / "m.safetensors")
    assert repr(loaded) == repr(model)
    for here, there in zip(model.predict_proba(x), loaded.predict_proba(x), strict=True):
        assert (here == there).all()
    assert type(loaded.predict(x)) is type(model.predict(x))


def test_weights_of_classes_survive_a_file(tmp_path):
    model = small(steps=5, class_weight={0: 1.0, 1: 2.0}).fit(np.eye(12), np.arange(12) % 2)
    model.save(tmp_path / "m.safetensors")
    assert GRUClassifier.load(tmp_path / "m.safetensors").class_weight == {0: 1.0, 1: 2.0}


def test_files_of_another_kind_and_damaged_files_are_refused(fitted, tmp_path):
    path = tmp_path / "m.safetensors"
    fitted.save(path)
    with pytest.raises(InputError, match="not a regressor but a classifier"):
        GRURegressor.load(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        GRUClassifier.load(path)
    with pytest.raises(InputError, match="no such file"):
        GRUClassifier.load(tmp_path / "other.safetensors")


X, Y = waves(12)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([], [], "0 sample"),
        ([[1.0, 2.0], []], [0, 1], r"X\[1\] has length 0"),
        (["a", ""], [0, 1], r"X\[1\] has length 0"),
        ([[[1.0], [2.0]], [[1.0], []]], [0, 1], r"X\[1\] must be .* but its steps are unlike"),
        ([np.ones((3, 2)), np.ones((3, 1))], [0, 1], r"X\[1\] has 1 features, but X\[0\] has 2"),
        (np.ones(5), [0] * 5, r"X must be \(count, time"),
        ([[1.0, np.inf], [1.0, 2.0]], [0, 1], "infinity"),
        ([["a", "b"], ["c", "d"]], [0, 1], "not a number"),
        ("text", [0], "one text"),
        (X, Y[:-1], "y has 11 answers, but X has 12"),
        (X, ["one"] * 12, "one class"),
        (X, [*Y[:-1], None], "a label is missing: entry 11"),
        (X, [*Y[:-1], 3], "mixes text and numbers"),
        (X, pd.Series([*Y[:-1], None], dtype="string"), "a label is missing: entry 11 of y is"),
        (X, np.linspace(0, 1, 12), "GRURegressor predicts numbers"),
        (X, None, "target y is None"),
    ],
)
def test_what_cannot_be_learnt_from_is_said_in_one_sentence(x, y, message):
    with pytest.raises(InputError, match=message):
        small().fit(x, y)


def test_what_cannot_be_answered_is_said_in_one_sentence(fitted):
    with pytest.raises(InputError, match="the label medium was not there in training"):
        fitted.score(X, ["medium"] * 12)
    with pytest.raises(InputError, match="X has 2 features, but GRUClassifier is expecting 1"):
        fitted.predict([np.ones((4, 2))])
    with pytest.raises(InputError, match="X holds texts, but the model has learnt from numbers"):
        fitted.predict(["text"])
    with pytest.raises(ValueError, match="not fitted yet"):
        GRUClassifier().predict(X)
    with pytest.raises(InputError, match="y is needed"):
        fitted.score(X)


def test_frames_that_cannot_be_used_are_refused_in_one_sentence():
    frame = long_frame()
    with pytest.raises(InputError, match="labelled 'slow' and 'odd'; for a label at each step"):
        small().fit(frame.assign(y=["slow", "odd", *frame.y[2:]]))
    with pytest.raises(InputError, match="no column 'y'"):
        small().fit(frame.drop(columns="y"))
    with pytest.raises(InputError, match="this time stamp is there twice"):
        small().fit(frame.assign(ds=0))
    model = small(steps=5).fit(frame)
    with pytest.raises(InputError, match="no column 'v', which the model has learnt from"):
        model.predict(frame.rename(columns={"v": "w"}))
    with pytest.raises(InputError, match="not a number"):
        small().fit(frame.assign(v="a"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "lstm"}, "cell must be one of gru, mingru"),
        ({"pooling": "max"}, "pooling must be one of"),
        ({"hidden_size": 0}, "hidden_size must be a whole number, at least 1, got 0"),
        ({"dropout": 1.0}, "dropout must be from 0 to below 1"),
        ({"per_step": True, "stride": 2}, "stride must be 1"),
        ({"class_weight": "equal"}, "class_weight must be 'balanced'"),
        ({"class_weight": [1.0, 2.0]}, "class_weight must be 'balanced'"),
        ({"class_weight": {"odd": 1.0}}, "a label that y has not: 'odd'"),
        ({"class_weight": {"slow": 0}}, "class_weight of 'slow' must be a number above 0, got 0"),
        ({"class_weight": {"slow": np.nan}}, "class_weight of 'slow' must be a number above 0"),
        ({"calibrate": "no"}, "calibrate must be True or False, got 'no'"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GRUClassifier(**options).fit(X, Y)


@pytest.mark.parametrize("per_step", [False, True])
def test_what_inspection_is_shown_is_what_the_model_answers(per_step):
    import torch

    x, y = waves(12)
    y = [np.where(one > 0, "up", "down") for one in x] if per_step else y
    model = small(steps=8, per_step=per_step).fit(x, y)
    shown = model._inspectable(known=True)
    with torch.no_grad():
        answer = shown.module(*shown.inputs)
        assert torch.isfinite(shown.loss(answer))
        assert shown.score(answer, -1).shape == (12,)
    likeliest = [[choice.names[0] for choice in row] for row in shown.outcomes]
    found = model.predict(x)
    assert likeliest == [one.tolist() if per_step else [one] for one in found]
    assert sum(label != "" for label in shown.labels[0]) == len(x[0])
    assert shown.outcomes[0][0].truth == (y[0][0] if per_step else y[0])


@pytest.mark.parametrize("as_frame", [False, True])
@pytest.mark.parametrize("per_step", [False, True])
def test_inspection_of_numbers_shows_what_the_model_answers_and_its_own_error(per_step, as_frame):
    import torch

    x, _ = waves(12)
    y = [np.cumsum(one) for one in x] if per_step else np.array([len(one) for one in x])
    model = GRURegressor(hidden_size=4, steps=8, per_step=per_step).fit(x, y)
    frame = long_frame()
    frame["y"] = np.concatenate(y if per_step else [[right] * right for right in y])
    if as_frame:
        model.fit(frame)
    shown = model._inspectable(frame if as_frame else None, known=True)
    found = [np.atleast_1d(one) for one in model.predict(x)]
    for numbers, one, right in zip(shown.outcomes, found, y, strict=True):
        np.testing.assert_allclose(numbers.values, one, rtol=1e-6)
        np.testing.assert_allclose(numbers.truth, np.atleast_1d(right), rtol=1e-6)
    flat = [np.concatenate([np.atleast_1d(one) for one in rows]) for rows in (found, y)]
    with torch.no_grad():
        loss = shown.loss(shown.module(*shown.inputs)).item()
    scale = flat[1].std() ** 2  # the network's numbers are of mean 0 and deviation 1
    assert loss == pytest.approx(((flat[0] - flat[1]) ** 2).mean() / scale, rel=1e-4)
    assert shown.score is None


def test_inspection_of_texts_names_each_step_by_its_character():
    texts = ["دریا", "sea", "an ocean"] * 4
    model = small(steps=2).fit(texts, ["fa", "en", "en"] * 4)
    shown = model._inspectable(known=True)
    assert shown.tokens
    assert ["".join(row) for row in shown.labels] == texts
    assert len(shown.labels[0]) == shown.inputs[0].shape[1] == len("an ocean")
    assert shown.values is None
